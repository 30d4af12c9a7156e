//! One `[[session]]` or `[[ignore]]`: its fields, and the rule that they make.

use std::cell::RefCell;
use std::path::{Component, Path};

use jiff::SignedDuration;
use observer_common::limits::COMM_LEN;
use observer_core::Rule;
use observer_core::rule::{Conditions, HomeRule, Ignore, Pattern, TtyRule};
use serde::Deserialize;
use toml::Spanned;

use super::builtin::{boxed, default_rule};
use super::fault::{ConfigFault, OneOrMore};
use super::resolve::{RESOLVE_MAX, canonicalize, within};
use crate::text::glob::{Glob, bytes_min, split_literal};

/// A `[[session]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSection {
    cwd: Option<Spanned<OneOrMore>>,
    tty: Option<Spanned<String>>,
    comm: Option<Spanned<OneOrMore>>,
    program: Option<Spanned<OneOrMore>>,
    exe: Option<Spanned<OneOrMore>>,
    cgroup: Option<Spanned<OneOrMore>>,
    user: Option<Spanned<OneOrMore>>,
    not_comm: Option<Spanned<OneOrMore>>,
    not_comm_only: Option<Spanned<OneOrMore>>,
    wrappers: Option<Spanned<OneOrMore>>,
    wrappers_only: Option<Spanned<OneOrMore>>,
    #[serde(default)]
    owner: bool,
    min_age: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
}

/// An `[[ignore]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoreSection {
    cwd: Option<Spanned<OneOrMore>>,
    tty: Option<Spanned<String>>,
    comm: Option<Spanned<OneOrMore>>,
    program: Option<Spanned<OneOrMore>>,
    exe: Option<Spanned<OneOrMore>>,
    cgroup: Option<Spanned<OneOrMore>>,
    user: Option<Spanned<OneOrMore>>,
}

impl SessionSection {
    /// The rule, or the fault of the section. What can never match is added to `warnings`.
    pub(super) fn compile(self, warnings: &mut Vec<ConfigFault>) -> Result<Rule, ConfigFault> {
        let Self { cwd, tty, comm, program, exe, cgroup, user, .. } = self;
        let default = default_rule();
        let has_home = cwd.is_some();
        let Ignore { cwd, conditions } =
            IgnoreSection { cwd, tty, comm, program, exe, cgroup, user }.conditions(warnings)?;
        Ok(Rule {
            home: if has_home { HomeRule::Prefix(cwd) } else { HomeRule::Cwd },
            conditions,
            not_comm: extended("not_comm", default.not_comm, self.not_comm, self.not_comm_only, warnings)?,
            wrappers: extended("wrappers", default.wrappers, self.wrappers, self.wrappers_only, warnings)?,
            owner: self.owner,
            min_age_ns: self.min_age.map_or(Ok(default.min_age_ns), |age| spanned(age, min_age))?,
            name: self.name.map_or(Ok(default.name), |name| spanned(name, template))?,
        })
    }
}

impl IgnoreSection {
    /// What is ignored, or the fault of the section. A section without a condition would ignore everything and is a fault.
    pub(super) fn compile(
        section: Spanned<Self>,
        warnings: &mut Vec<ConfigFault>,
    ) -> Result<Ignore, ConfigFault> {
        let span = section.span();
        let section = section.into_inner();
        let Self { cwd, tty, comm, program, exe, cgroup, user } = &section;
        if tty.is_none() && [cwd, comm, program, exe, cgroup, user].iter().all(|list| list.is_none()) {
            let message = "[[ignore]] without a condition would ignore every process: write for instance \
                           program = [\"less\", \"tail\"]";
            return Err(ConfigFault { span: Some(span), message: message.into() });
        }
        section.conditions(warnings)
    }

    /// The conditions that this section and a session rule have in common.
    fn conditions(self, warnings: &mut Vec<ConfigFault>) -> Result<Ignore, ConfigFault> {
        let conditions = Conditions {
            tty: self.tty.map_or(Ok(TtyRule::Any), |tty| spanned(tty, terminal))?,
            comm: comms(self.comm, warnings)?,
            program: each(self.program, program)?,
            exe: each(self.exe, |glob| absolute_glob("exe", glob))?,
            cgroup: each(self.cgroup, |glob| absolute_glob("cgroup", glob))?,
            uids: each(self.user, uid)?,
        };
        Ok(Ignore { cwd: homes(self.cwd, warnings)?, conditions })
    }
}

/// The built-in list with `more` added, or `only` in its place.
fn extended(
    field: &str,
    builtin: Vec<Box<dyn Pattern>>,
    more: Option<Spanned<OneOrMore>>,
    only: Option<Spanned<OneOrMore>>,
    warnings: &mut Vec<ConfigFault>,
) -> Result<Vec<Box<dyn Pattern>>, ConfigFault> {
    if let (Some(_), Some(only)) = (&more, &only) {
        let message = format!(
            "{field} adds to the built-in list and {field}_only replaces it, found both: leave one out"
        );
        return Err(ConfigFault { span: Some(only.span()), message });
    }
    // Wrappers are compared with the program as well, which may be longer than a comm.
    let mut long = Vec::new();
    let warnings = if field == "wrappers" { &mut long } else { warnings };
    match only {
        Some(only) => comms(Some(only), warnings),
        None => Ok(builtin.into_iter().chain(comms(more, warnings)?).collect()),
    }
}

/// Compiles globs of comm, and warns about those that can never match.
fn comms(
    globs: Option<Spanned<OneOrMore>>,
    warnings: &mut Vec<ConfigFault>,
) -> Result<Vec<Box<dyn Pattern>>, ConfigFault> {
    let globs = globs.map(OneOrMore::strings).unwrap_or_default();
    warnings.extend(globs.iter().filter_map(never_a_comm));
    globs.into_iter().map(|glob| spanned(glob, |it| Glob::name(it).map(boxed))).collect()
}

/// Compiles every value of a field. A field that is there must hold a value.
fn each<T>(
    values: Option<Spanned<OneOrMore>>,
    compile: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigFault> {
    let Some(values) = values else { return Ok(Vec::new()) };
    let span = values.span();
    let values = OneOrMore::strings(values);
    if values.is_empty() {
        let message = "this list is empty, which no process matches: add a value, or leave the field out";
        return Err(ConfigFault { span: Some(span), message: message.into() });
    }
    values.into_iter().map(|value| spanned(value, &compile)).collect()
}

fn absolute_glob(field: &str, glob: &str) -> Result<Box<dyn Pattern>, String> {
    match glob.starts_with('/') {
        true => Glob::path(glob).map(boxed),
        false => Err(format!("{field} is matched against absolute paths, found {glob:?}: begin it with `/`")),
    }
}

/// Compiles one value; a fault is reported at its place.
fn spanned<T>(
    value: Spanned<String>,
    compile: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ConfigFault> {
    let span = value.span();
    compile(value.get_ref()).map_err(|message| ConfigFault { span: Some(span), message })
}

/// The fault of a glob that matches no comm, because the kernel keeps fewer bytes.
fn never_a_comm(glob: &Spanned<String>) -> Option<ConfigFault> {
    let (text, longest) = (glob.get_ref(), COMM_LEN - 1);
    (bytes_min(text) > longest).then(|| ConfigFault {
        span: Some(glob.span()),
        message: format!(
            "{text:?} matches no comm, because the kernel cuts comm to {longest} bytes: shorten it, or use `program`"
        ),
    })
}

fn program(glob: &str) -> Result<Box<dyn Pattern>, String> {
    match glob.contains('/') {
        false => Glob::name(glob).map(boxed),
        true => Err(format!("program is a name without a path, found {glob:?}: use `exe` for a path")),
    }
}

/// Compiles patterns of directories, and warns about those whose file system does not answer.
fn homes(
    values: Option<Spanned<OneOrMore>>,
    warnings: &mut Vec<ConfigFault>,
) -> Result<Vec<Box<dyn Pattern>>, ConfigFault> {
    let span = values.as_ref().map(Spanned::span);
    let unresolved = RefCell::new(Vec::new());
    let compiled = each(values, |glob| home(glob, &unresolved))?;
    let unresolved = unresolved.into_inner().into_iter();
    warnings.extend(unresolved.map(|message| ConfigFault { span: span.clone(), message }));
    Ok(compiled)
}

fn home(glob: &str, unresolved: &RefCell<Vec<String>>) -> Result<Box<dyn Pattern>, String> {
    if !glob.starts_with('/') {
        let next = "write the directory's absolute path, beginning with `/`";
        return Err(match glob.starts_with('~') {
            true => format!("`~` has no meaning for a daemon, found {glob:?}: {next}"),
            false => format!("cwd must be an absolute path, found {glob:?}: {next}"),
        });
    }
    if Path::new(glob).components().any(|part| part == Component::ParentDir) {
        return Err(format!("cwd cannot hold `..`, found {glob:?}: write the path that it leads to"));
    }
    let (literal, wild) = split_literal(glob);
    let resolved = match within(RESOLVE_MAX, Path::new(literal), canonicalize) {
        Some(resolved) => resolved?,
        None => {
            unresolved.borrow_mut().push(format!(
                "{literal} does not answer, so its symlinks are not resolved: when its file system answers, have the \
                 rules read again (`systemctl reload observer`)"
            ));
            literal.to_owned()
        }
    };
    let mut canonical = globset::escape(&resolved);
    if !wild.is_empty() {
        // The root is "/" as a whole path, and empty before a component.
        canonical.truncate(canonical.trim_end_matches('/').len());
        canonical.push_str(wild.trim_end_matches('/'));
    }
    Glob::path(&canonical).map(boxed)
}

fn terminal(rule: &str) -> Result<TtyRule, String> {
    match rule {
        "any" => Ok(TtyRule::Any),
        "none" => Ok(TtyRule::None),
        "" => Err("tty is empty: write \"any\", \"none\" or a glob such as \"pts/*\"".into()),
        glob if glob.starts_with('/') => Err(format!(
            "tty is a terminal's name without /dev/, found {glob:?}: write for instance \"pts/*\""
        )),
        glob => Glob::path(glob).map(|glob| TtyRule::Matches(boxed(glob))),
    }
}

fn uid(user: &str) -> Result<u32, String> {
    match nix::unistd::User::from_name(user) {
        Ok(Some(known)) => Ok(known.uid.as_raw()),
        Ok(None) => user.parse().map_err(|_| {
            format!(
                "there is no user {user:?} on this machine: create it, correct the name, or write its number"
            )
        }),
        Err(error) => Err(format!("user {user:?} cannot be looked up: {error}; write its number instead")),
    }
}

fn min_age(age: &str) -> Result<u64, String> {
    let expected =
        || format!("min_age must be a span of time, found {age:?}: write for instance \"1s\" or \"500ms\"");
    let span: SignedDuration = age.parse().map_err(|_| expected())?;
    u64::try_from(span.as_nanos()).map_err(|_| expected())
}

fn template(name: &str) -> Result<String, String> {
    let rest = name.replace("{basename}", "").replace("{home}", "").replace("{program}", "");
    if name.is_empty() || rest.contains(['{', '}']) {
        return Err(format!(
            "name may hold the placeholders {{basename}}, {{home}} and {{program}} only, found {name:?}: correct it"
        ));
    }
    Ok(name.into())
}

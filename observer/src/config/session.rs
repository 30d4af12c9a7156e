//! One `[[session]]` or `[[ignore]]`: its fields, and the rule that they make.

use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};

use jiff::SignedDuration;
use observer_core::Rule;
use observer_core::rule::{Conditions, HomeRule, Ignore, Instances, MntNsRule, NameTemplate, Pattern};
use serde::Deserialize;
use toml::Spanned;

use super::builtin::{boxed, default_rule};
use super::executables::unreported_executables;
use super::fault::{ConfigFault, OneOrMore, empty_list};
use super::never::{
    literals, never_a_comm, never_programs, never_units, owner_elsewhere, pane_without_tty, refused,
    users_outside_groups, with_nul, without_members,
};
use super::resolve::{RESOLVE_MAX, canonicalize, within};
use super::terminal::terminal;
use super::users::UserDatabase;
use crate::text::bytes::quoted;
use crate::text::glob::{Glob, bounded, split_literal};

/// A `[[session]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSection {
    cwd: Option<Spanned<OneOrMore>>,
    tty: Option<Spanned<OneOrMore>>,
    comm: Option<Spanned<OneOrMore>>,
    program: Option<Spanned<OneOrMore>>,
    exe: Option<Spanned<OneOrMore>>,
    argv: Option<Spanned<OneOrMore>>,
    cgroup: Option<Spanned<OneOrMore>>,
    unit: Option<Spanned<OneOrMore>>,
    container: Option<Spanned<OneOrMore>>,
    user: Option<Spanned<OneOrMore>>,
    group: Option<Spanned<OneOrMore>>,
    mux_socket: Option<Spanned<OneOrMore>>,
    mnt_ns: Option<Spanned<String>>,
    pub(super) not_comm: Option<Spanned<OneOrMore>>,
    pub(super) not_comm_only: Option<Spanned<OneOrMore>>,
    pub(super) not_program: Option<Spanned<OneOrMore>>,
    pub(super) not_program_only: Option<Spanned<OneOrMore>>,
    pub(super) wrappers: Option<Spanned<OneOrMore>>,
    pub(super) wrappers_only: Option<Spanned<OneOrMore>>,
    #[serde(default)]
    pub(super) owner: bool,
    instances: Option<Spanned<String>>,
    min_age: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
}

/// An `[[ignore]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoreSection {
    pub(super) cwd: Option<Spanned<OneOrMore>>,
    pub(super) tty: Option<Spanned<OneOrMore>>,
    pub(super) comm: Option<Spanned<OneOrMore>>,
    pub(super) program: Option<Spanned<OneOrMore>>,
    pub(super) exe: Option<Spanned<OneOrMore>>,
    pub(super) argv: Option<Spanned<OneOrMore>>,
    pub(super) cgroup: Option<Spanned<OneOrMore>>,
    pub(super) unit: Option<Spanned<OneOrMore>>,
    pub(super) container: Option<Spanned<OneOrMore>>,
    pub(super) user: Option<Spanned<OneOrMore>>,
    pub(super) group: Option<Spanned<OneOrMore>>,
    pub(super) mux_socket: Option<Spanned<OneOrMore>>,
    pub(super) mnt_ns: Option<Spanned<String>>,
}

impl SessionSection {
    /// What the section requires of the multiplexer.
    pub(super) fn mux_socket(&self) -> Option<&Spanned<OneOrMore>> {
        self.mux_socket.as_ref()
    }

    /// What the section requires, as an `[[ignore]]` states it.
    pub(super) fn conditions(&self) -> IgnoreSection {
        IgnoreSection {
            cwd: self.cwd.clone(),
            tty: self.tty.clone(),
            comm: self.comm.clone(),
            program: self.program.clone(),
            exe: self.exe.clone(),
            argv: self.argv.clone(),
            cgroup: self.cgroup.clone(),
            unit: self.unit.clone(),
            container: self.container.clone(),
            user: self.user.clone(),
            group: self.group.clone(),
            mux_socket: self.mux_socket.clone(),
            mnt_ns: self.mnt_ns.clone(),
        }
    }

    /// The rule, or the fault of the section. What can never match is added to `warnings`.
    pub(super) fn compile(
        self,
        users: &UserDatabase,
        warnings: &mut Vec<ConfigFault>,
    ) -> Result<Rule, ConfigFault> {
        let default = default_rule();
        let has_home = self.cwd.is_some();
        let (named_comms, named_programs) = (literals(self.comm.as_ref()), literals(self.program.as_ref()));
        warnings.extend(self.owner.then(|| owner_elsewhere(self.mnt_ns.as_ref())).flatten());
        let Ignore { cwd, conditions } = self.conditions().compiled(users, warnings)?;
        let not_comm = (default.not_comm, self.not_comm, self.not_comm_only);
        let not_program = (default.not_program, self.not_program, self.not_program_only);
        let wrappers = (default.wrappers, self.wrappers, self.wrappers_only);
        let rule = Rule {
            home: if has_home { HomeRule::Prefix(cwd) } else { HomeRule::Cwd },
            conditions,
            not_comm: extended("not_comm", not_comm, |globs| comms(globs, warnings))?,
            not_program: extended("not_program", not_program, |globs| listed(globs, program_glob))?,
            // They are compared with the program as well, which may be longer than a comm.
            wrappers: extended("wrappers", wrappers, |globs| listed(globs, name_glob))?,
            owner: self.owner,
            instances: self
                .instances
                .map_or(Ok(instances_default(has_home)), |how| spanned(how, instances))?,
            min_age_ns: self.min_age.map_or(Ok(default.min_age_ns), |age| spanned(age, min_age))?,
            name: self.name.map_or(Ok(default.name), |name| spanned(name, template))?,
        };
        warnings.extend(refused(&named_comms, "not_comm", &rule.not_comm));
        warnings.extend(refused(&named_programs, "not_program", &rule.not_program));
        for named in [&named_comms, &named_programs] {
            warnings.extend(refused(named, "wrappers", &rule.wrappers));
        }
        Ok(rule)
    }
}

impl IgnoreSection {
    /// What is ignored, or the fault of the section. A section without a condition would ignore everything and is a fault.
    pub(super) fn compile(
        section: Spanned<Self>,
        users: &UserDatabase,
        warnings: &mut Vec<ConfigFault>,
    ) -> Result<Ignore, ConfigFault> {
        let span = section.span();
        let section = section.into_inner();
        let Self { cwd, comm, program, exe, argv, .. } = &section;
        let Self { tty, cgroup, unit, container, user, group, mux_socket, mnt_ns, .. } = &section;
        let lists = [cwd, comm, program, exe, argv, cgroup, unit, container, user, group, mux_socket];
        if tty.is_none() && mnt_ns.is_none() && lists.iter().all(|list| list.is_none()) {
            let message = "[[ignore]] without a condition would ignore every process: write for instance \
                           program = [\"less\", \"tail\"]";
            return Err(ConfigFault { span: Some(span), message: message.into() });
        }
        section.compiled(users, warnings)
    }

    /// The conditions that this section and a session rule have in common.
    fn compiled(self, users: &UserDatabase, warnings: &mut Vec<ConfigFault>) -> Result<Ignore, ConfigFault> {
        let user_span = self.user.as_ref().map(Spanned::span);
        warnings.extend([&self.argv, &self.mux_socket].into_iter().flat_map(|it| with_nul(it.as_ref())));
        warnings.extend(never_programs(self.program.as_ref()));
        warnings.extend(never_units(self.unit.as_ref()));
        warnings.extend(unreported_executables(self.exe.as_ref()));
        warnings.extend(pane_without_tty(self.mux_socket.as_ref(), self.tty.as_ref()));
        let conditions = Conditions {
            tty: terminal(self.tty)?,
            mux_socket: each(self.mux_socket, |glob| Glob::path(glob).map(boxed))?,
            mnt_ns: self.mnt_ns.map_or(Ok(MntNsRule::Any), |it| spanned(it, mount_namespace))?,
            comm: comms(self.comm, warnings)?,
            program: each(self.program, program_glob)?,
            exe: each(self.exe, |glob| absolute_glob("exe", glob))?,
            argv: each(self.argv, name_glob)?,
            cgroup: each(self.cgroup, |glob| absolute_glob("cgroup", glob))?,
            unit: each(self.unit, |glob| slashless_glob("unit", "cgroup", glob))?,
            container: each(self.container, |glob| slashless_glob("container", "cgroup", glob))?,
            uids: each(self.user, |user| users.uid(user))?,
            members: members(self.group, users, warnings)?,
        };
        warnings.extend(user_span.and_then(|span| users_outside_groups(&conditions, span)));
        Ok(Ignore { cwd: homes(self.cwd, warnings)?, conditions })
    }
}

/// A built-in list, what a rule adds to it, and what a rule has in its place.
type Lists = (Vec<Box<dyn Pattern>>, Option<Spanned<OneOrMore>>, Option<Spanned<OneOrMore>>);

/// A rule with `cwd` says what is one session. Without it, each program is one.
fn instances_default(has_home: bool) -> Instances {
    if has_home { Instances::One } else { Instances::Each }
}

fn instances(how: &str) -> Result<Instances, String> {
    match how {
        "one" => Ok(Instances::One),
        "each" => Ok(Instances::Each),
        other => Err(format!(
            "instances is \"one\" (one session for each user in a home) or \"each\" (one for each program), found {}",
            quoted(other)
        )),
    }
}

/// The built-in list with what the rule adds, or what the rule has in its place.
fn extended(
    field: &str,
    (builtin, more, only): Lists,
    compile: impl FnOnce(Option<Spanned<OneOrMore>>) -> Result<Vec<Box<dyn Pattern>>, ConfigFault>,
) -> Result<Vec<Box<dyn Pattern>>, ConfigFault> {
    if let (Some(_), Some(only)) = (&more, &only) {
        let message = format!(
            "{field} adds to the built-in list and {field}_only replaces it, found both: leave one out"
        );
        return Err(ConfigFault { span: Some(only.span()), message });
    }
    match only {
        Some(only) => compile(Some(only)),
        None => Ok(builtin.into_iter().chain(compile(more)?).collect()),
    }
}

/// Compiles globs of comm, and warns about those that can never match.
fn comms(
    globs: Option<Spanned<OneOrMore>>,
    warnings: &mut Vec<ConfigFault>,
) -> Result<Vec<Box<dyn Pattern>>, ConfigFault> {
    let globs = globs.map(OneOrMore::strings).unwrap_or_default();
    warnings.extend(globs.iter().filter_map(never_a_comm));
    globs.into_iter().map(|glob| spanned(glob, name_glob)).collect()
}

/// Compiles the globs of a list that may be empty.
fn listed(
    globs: Option<Spanned<OneOrMore>>,
    compile: impl Fn(&str) -> Result<Box<dyn Pattern>, String>,
) -> Result<Vec<Box<dyn Pattern>>, ConfigFault> {
    let globs = globs.map(OneOrMore::strings).unwrap_or_default();
    globs.into_iter().map(|glob| spanned(glob, &compile)).collect()
}

/// The members of groups, and a warning about each group that has none.
fn members(
    groups: Option<Spanned<OneOrMore>>,
    users: &UserDatabase,
    warnings: &mut Vec<ConfigFault>,
) -> Result<Option<Vec<u32>>, ConfigFault> {
    let Some(groups) = groups else { return Ok(None) };
    let span = groups.span();
    let empty = RefCell::new(Vec::new());
    let found = each(Some(groups), |group| {
        let found = users.members(group)?;
        if found.is_empty() {
            empty.borrow_mut().push(group.to_owned());
        }
        Ok(found)
    })?;
    warnings.extend(empty.into_inner().iter().map(|group| without_members(group, span.clone())));
    let mut uids: Vec<u32> = found.into_iter().flatten().collect();
    uids.sort_unstable();
    uids.dedup();
    Ok(Some(uids))
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
        return Err(empty_list(span));
    }
    values.into_iter().map(|value| spanned(value, &compile)).collect()
}

fn absolute_glob(field: &str, glob: &str) -> Result<Box<dyn Pattern>, String> {
    match glob.starts_with('/') {
        true => Glob::path(glob).map(boxed),
        false => Err(format!(
            "{field} is matched against absolute paths, found {}: begin it with `/`",
            quoted(glob)
        )),
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

fn name_glob(glob: &str) -> Result<Box<dyn Pattern>, String> {
    Glob::name(glob).map(boxed)
}

fn program_glob(glob: &str) -> Result<Box<dyn Pattern>, String> {
    slashless_glob("program", "exe", glob)
}

/// Compiles a glob of `field`, of which `path_field` has the path.
fn slashless_glob(field: &str, path_field: &str, glob: &str) -> Result<Box<dyn Pattern>, String> {
    match glob.contains('/') {
        false => name_glob(glob),
        true => Err(format!(
            "{field} is a name without a path, found {}: use `{path_field}` for a path",
            quoted(glob)
        )),
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
            true => format!("`~` has no meaning for a daemon, found {}: {next}", quoted(glob)),
            false => format!("cwd must be an absolute path, found {}: {next}", quoted(glob)),
        });
    }
    if Path::new(glob).components().any(|part| part == Component::ParentDir) {
        return Err(format!("cwd cannot hold `..`, found {}: write the path that it leads to", quoted(glob)));
    }
    let (literal, wild) = split_literal(bounded(glob)?);
    let directory = PathBuf::from(literal);
    let resolve = move || canonicalize(&directory);
    let resolved = match within(RESOLVE_MAX, resolve) {
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
    Glob::resolved_path(&canonical).map(boxed)
}

fn mount_namespace(rule: &str) -> Result<MntNsRule, String> {
    match rule {
        "any" => Ok(MntNsRule::Any),
        "host" => Ok(MntNsRule::Host),
        other => Err(format!(
            "mnt_ns is \"host\" (the host's own mount namespace) or \"any\", found {}: write one of them",
            quoted(other)
        )),
    }
}

fn min_age(age: &str) -> Result<u64, String> {
    let expected = || {
        format!(
            "min_age must be a span of time, found {}: write for instance \"1s\" or \"500ms\"",
            quoted(age)
        )
    };
    let span: SignedDuration = age.parse().map_err(|_| expected())?;
    u64::try_from(span.as_nanos()).map_err(|_| expected())
}

fn template(name: &str) -> Result<NameTemplate, String> {
    const PLACEHOLDERS: [&str; 5] = ["{basename}", "{parent}", "{home}", "{program}", "{user}"];
    let rest = PLACEHOLDERS.iter().fold(name.to_owned(), |rest, placeholder| rest.replace(placeholder, ""));
    if name.is_empty() || rest.contains(['{', '}']) {
        let [others @ .., last] = PLACEHOLDERS;
        return Err(format!(
            "name may hold the placeholders {} and {last} only, found {}: correct it",
            others.join(", "),
            quoted(name)
        ));
    }
    Ok(name.to_owned().into())
}

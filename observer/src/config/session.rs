//! One `[[session]]` or `[[ignore]]`: its fields, and the rule that they make.

use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};

use jiff::SignedDuration;
use observer_core::Rule;
use observer_core::rule::{
    Conditions, HomeRule, Ignore, Instances, MntNsRule, NameTemplate, Pattern, TtyRule,
};
use serde::Deserialize;
use toml::Spanned;

use super::builtin::{boxed, default_rule};
use super::executables::unreported_executables;
use super::fault::{ConfigFault, Findings, OneOrMore, empty_list};
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

    /// The rule. Faults of the section, and what can never match, are added to `found`.
    pub(super) fn compile(self, users: &UserDatabase, found: &mut Findings) -> Rule {
        let default = default_rule();
        let has_home = self.cwd.is_some();
        let (named_comms, named_programs) = (literals(self.comm.as_ref()), literals(self.program.as_ref()));
        found.warnings.extend(self.owner.then(|| owner_elsewhere(self.mnt_ns.as_ref())).flatten());
        let Ignore { cwd, conditions } = self.conditions().compiled(users, found);
        let not_comm = (default.not_comm, self.not_comm, self.not_comm_only);
        let not_program = (default.not_program, self.not_program, self.not_program_only);
        let wrappers = (default.wrappers, self.wrappers, self.wrappers_only);
        let rule = Rule {
            home: if has_home { HomeRule::Prefix(cwd) } else { HomeRule::Cwd },
            conditions,
            not_comm: extended("not_comm", not_comm, found, comms),
            not_program: extended("not_program", not_program, found, |globs, found| {
                listed(globs, program_glob, found)
            }),
            // They are compared with the program as well, which may be longer than a comm.
            wrappers: extended("wrappers", wrappers, found, |globs, found| listed(globs, name_glob, found)),
            owner: self.owner,
            instances: checked(self.instances, instances, found)
                .unwrap_or_else(|| instances_default(has_home)),
            min_age_ns: checked(self.min_age, min_age, found).unwrap_or(default.min_age_ns),
            name: checked(self.name, template, found).unwrap_or(default.name),
        };
        found.warnings.extend(refused(&named_comms, "not_comm", &rule.not_comm));
        found.warnings.extend(refused(&named_programs, "not_program", &rule.not_program));
        for named in [&named_comms, &named_programs] {
            found.warnings.extend(refused(named, "wrappers", &rule.wrappers));
        }
        rule
    }
}

impl IgnoreSection {
    /// What is ignored. Faults of the section are added to `found`.
    pub(super) fn compile(section: Spanned<Self>, users: &UserDatabase, found: &mut Findings) -> Ignore {
        let span = section.span();
        let section = section.into_inner();
        if !section.has_condition() {
            let message = "[[ignore]] without a condition would ignore every process: write for instance \
                           program = [\"less\", \"tail\"]";
            found.faults.push(ConfigFault { span: Some(span), message: message.into() });
        }
        section.compiled(users, found)
    }

    /// Whether anything is required of a process. A section without a condition would ignore everything.
    pub(super) fn has_condition(&self) -> bool {
        let Self { cwd, tty, comm, program, exe, argv, cgroup, .. } = self;
        let Self { unit, container, user, group, mux_socket, mnt_ns, .. } = self;
        let lists = [cwd, tty, comm, program, exe, argv, cgroup, unit, container, user, group, mux_socket];
        mnt_ns.is_some() || lists.iter().any(|list| list.is_some())
    }

    /// The conditions that this section and a session rule have in common.
    fn compiled(self, users: &UserDatabase, found: &mut Findings) -> Ignore {
        let user_span = self.user.as_ref().map(Spanned::span);
        let faults = found.faults.len();
        let warnings = &mut found.warnings;
        warnings.extend([&self.argv, &self.mux_socket].into_iter().flat_map(|it| with_nul(it.as_ref())));
        warnings.extend(never_programs(self.program.as_ref()));
        warnings.extend(never_units(self.unit.as_ref()));
        warnings.extend(unreported_executables(self.exe.as_ref()));
        warnings.extend(pane_without_tty(self.mux_socket.as_ref(), self.tty.as_ref()));
        let conditions = Conditions {
            tty: found.take(terminal(self.tty)).unwrap_or(TtyRule::Any),
            mux_socket: each(self.mux_socket, |glob| Glob::path(glob).map(boxed), found),
            mnt_ns: checked(self.mnt_ns, mount_namespace, found).unwrap_or_default(),
            comm: {
                let globs = self.comm.and_then(|globs| not_empty(globs, found));
                comms(globs, found)
            },
            program: each(self.program, program_glob, found),
            exe: each(self.exe, |glob| absolute_glob("exe", glob), found),
            argv: each(self.argv, name_glob, found),
            cgroup: each(self.cgroup, |glob| absolute_glob("cgroup", glob), found),
            unit: each(self.unit, |glob| slashless_glob("unit", "cgroup", glob), found),
            container: each(self.container, |glob| slashless_glob("container", "cgroup", glob), found),
            uids: each(self.user, |user| users.uid(user), found),
            members: members(self.group, users, found),
        };
        if found.faults.len() == faults {
            found.warnings.extend(user_span.and_then(|span| users_outside_groups(&conditions, span)));
        }
        Ignore { cwd: homes(self.cwd, found), conditions }
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
    found: &mut Findings,
    compile: impl FnOnce(Option<Spanned<OneOrMore>>, &mut Findings) -> Vec<Box<dyn Pattern>>,
) -> Vec<Box<dyn Pattern>> {
    if let (Some(_), Some(only)) = (&more, &only) {
        let message = format!(
            "{field} adds to the built-in list and {field}_only replaces it, found both: leave one out"
        );
        found.faults.push(ConfigFault { span: Some(only.span()), message });
    }
    match only {
        Some(only) => compile(Some(only), found),
        None => builtin.into_iter().chain(compile(more, found)).collect(),
    }
}

/// Compiles globs of comm, and warns about those that can never match.
fn comms(globs: Option<Spanned<OneOrMore>>, found: &mut Findings) -> Vec<Box<dyn Pattern>> {
    let placed = globs.as_ref().map(OneOrMore::placed).unwrap_or_default();
    found.warnings.extend(placed.iter().filter_map(never_a_comm));
    listed(globs, name_glob, found)
}

/// Compiles the globs of a list that may be empty.
fn listed<T>(
    values: Option<Spanned<OneOrMore>>,
    compile: impl Fn(&str) -> Result<T, String>,
    found: &mut Findings,
) -> Vec<T> {
    let values = values.map(OneOrMore::strings).unwrap_or_default();
    values.into_iter().filter_map(|value| checked(Some(value), &compile, found)).collect()
}

/// The members of groups, and a warning about each group that has none.
fn members(
    groups: Option<Spanned<OneOrMore>>,
    users: &UserDatabase,
    found: &mut Findings,
) -> Option<Vec<u32>> {
    let groups = groups?;
    let span = groups.span();
    let empty = RefCell::new(Vec::new());
    let members = |group: &str| {
        let members = users.members(group)?;
        if members.is_empty() {
            empty.borrow_mut().push(group.to_owned());
        }
        Ok(members)
    };
    let mut uids = each(Some(groups), members, found).concat();
    found.warnings.extend(empty.into_inner().iter().map(|group| without_members(group, span.clone())));
    uids.sort_unstable();
    uids.dedup();
    Some(uids)
}

/// Compiles every value of a field. A field that is there must hold a value.
fn each<T>(
    values: Option<Spanned<OneOrMore>>,
    compile: impl Fn(&str) -> Result<T, String>,
    found: &mut Findings,
) -> Vec<T> {
    let values = values.and_then(|values| not_empty(values, found));
    listed(values, compile, found)
}

/// The field, which must hold a value.
fn not_empty(values: Spanned<OneOrMore>, found: &mut Findings) -> Option<Spanned<OneOrMore>> {
    match OneOrMore::placed(&values).is_empty() {
        true => found.take(Err(empty_list(values.span()))),
        false => Some(values),
    }
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

/// Checks one value; a fault is reported at its place.
fn checked<T>(
    value: Option<Spanned<String>>,
    check: impl FnOnce(&str) -> Result<T, String>,
    found: &mut Findings,
) -> Option<T> {
    let value = value?;
    let span = Some(value.span());
    found.take(check(value.get_ref()).map_err(|message| ConfigFault { span, message }))
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
fn homes(values: Option<Spanned<OneOrMore>>, found: &mut Findings) -> Vec<Box<dyn Pattern>> {
    let span = values.as_ref().map(Spanned::span);
    let unresolved = RefCell::new(Vec::new());
    let compiled = each(values, |glob| home(glob, &unresolved), found);
    let unresolved = unresolved.into_inner().into_iter();
    found.warnings.extend(unresolved.map(|message| ConfigFault { span: span.clone(), message }));
    compiled
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

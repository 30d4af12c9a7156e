//! Matches rules against processes: which rule admits a process, and to which home. The first rule that
//! matches decides.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::input::is_in_memory;
use crate::model::explanation::Unmet;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Argv, Bytes, Pane, Process};
use crate::model::rule::{Conditions, HomeRule, Ignore, MntNsRule, Pattern, Rule, TtyRule};
use crate::model::session::Home;
use crate::processes::entry::{Candidacy, Claim, ProcessEntry};
use crate::processes::program::{ENV, is_env, is_named_by_arguments, is_shell_script};
use crate::sessions::Sessions;
use crate::sessions::context::{IgnoreList, SessionContext};
use crate::sessions::ownership::may_act_for_owner;

/// As what a rule admits a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It may be the primary.
    Program,
    /// The primary is what runs below it.
    Wrapper,
}

/// The result of matching the rules against a process.
pub(super) enum AdmissionResult {
    Refused,
    /// The owner of this home must be known first.
    AwaitsOwner(Arc<Home>),
    Admitted(Candidacy),
}

/// A rule that admits a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Admission<'a> {
    /// Index of the rule.
    rule: usize,
    role: Role,
    /// Path of the working directory.
    cwd: &'a Bytes,
    /// How many bytes of that path are the home.
    len: usize,
    /// Real user id of the process.
    uid: u32,
}

impl Admission<'_> {
    /// Returns whether the rule admits processes of this mount namespace.
    fn is_of_namespace(&self, rules: &[Rule], mnt_ns: Option<u32>) -> bool {
        rules.get(self.rule).is_some_and(|rule| has_namespace(&rule.conditions, mnt_ns))
    }

    /// Returns the home. It shares the path where the home is the whole of it.
    fn home(&self, host_mnt_ns: u32, mnt_ns: u32) -> Home {
        let path = if self.len == self.cwd.len() {
            Arc::clone(self.cwd)
        } else {
            Bytes::from(self.cwd.get(..self.len).unwrap_or_default())
        };
        Home { mnt_ns: namespace(host_mnt_ns, mnt_ns), path, uid: self.uid, instance: Home::FIRST }
    }
}

impl Sessions {
    /// Makes a process that is no candidate one, if a rule admits it. Requests the owner of its home where
    /// the rule requires that.
    pub(super) fn consider(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        self.stop_claiming(ctx, key);
        self.decide(ctx, key);
    }

    /// The same for a process that goes on claiming homes.
    pub(super) fn decide(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        self.left_out.remove(key);
        self.passed_over.remove(key);
        match self.verdict(ctx, key) {
            AdmissionResult::Refused => {}
            AdmissionResult::AwaitsOwner(home) => {
                self.request_owner(ctx, &home);
                self.claim(ctx, key, &home, Claim::Waiting);
            }
            AdmissionResult::Admitted(mut candidacy) => {
                candidacy.home = self.instance_of(ctx, (key, candidacy.is_wrapper), &candidacy.home);
                self.join(ctx, key, candidacy);
            }
        }
    }

    /// Matches the rules against a process.
    pub(super) fn verdict(&self, ctx: &SessionContext<'_>, key: ProcessKey) -> AdmissionResult {
        let Some(entry) = ctx.table.get(key) else { return AdmissionResult::Refused };
        let process = &entry.process;
        if is_ignored(ctx.ignored, process) {
            return AdmissionResult::Refused;
        }
        let mnt_ns = namespace(ctx.host_mnt_ns, process.cwd.mnt_ns);
        for admission in admissions(ctx.rules, process).filter(|it| it.is_of_namespace(ctx.rules, mnt_ns)) {
            let home = self.homes.intern(admission.home(ctx.host_mnt_ns, process.cwd.mnt_ns));
            let must_own = ctx.rules.get(admission.rule).is_some_and(|rule| rule.owner);
            if must_own && !may_act_for_owner(process.uids.uid) {
                // The edge can read directories of the host's own namespace only.
                if home.mnt_ns.is_some() {
                    continue;
                }
                // An earlier answer may be of another directory at this path, or from before a chown.
                match self.owner_answer.as_ref().filter(|(of, _)| *of == home) {
                    Some((_, Some(uid))) if *uid == process.uids.uid => {}
                    Some(_) => continue,
                    // It was refused there while it waited for another home.
                    None if self.is_refused(key, &home) => continue,
                    None => return AdmissionResult::AwaitsOwner(home),
                }
            }
            let is_wrapper = admission.role == Role::Wrapper;
            let dir = process.cwd.id;
            return AdmissionResult::Admitted(Candidacy {
                home,
                rule: admission.rule,
                is_wrapper,
                dir,
                since: ctx.at,
                is_assumed: false,
            });
        }
        AdmissionResult::Refused
    }
}

/// Returns whether the rules refuse `child` because they refused its creator, which has the same facts. This
/// saves asking the rules again at each fork.
pub(super) fn is_refused_like(child: &ProcessEntry, creator: &ProcessEntry) -> bool {
    let (one, other) = (&child.process, &creator.process);
    creator.candidacy.is_none()
        && creator.claim != Some(Claim::Waiting)
        && one.exec_id == other.exec_id
        && one.comm == other.comm
        && one.tty == other.tty
        && one.uids.uid == other.uids.uid
        && one.exe == other.exe
        && one.program == other.program
        && one.argv == other.argv
        && one.pane == other.pane
        && one.cgroup == other.cgroup
        && (one.cwd.path.is_none() || one.cwd == other.cwd)
}

/// Returns the rules that admit `process`, in their order, each with its home.
fn admissions<'a>(rules: &'a [Rule], process: &'a Process) -> impl Iterator<Item = Admission<'a>> {
    let path = process.cwd.usable_path();
    rules.iter().enumerate().filter_map(move |(index, rule)| {
        let cwd = path?;
        let role = admits(rule, process)?;
        let len = home_len(&rule.home, cwd)?;
        Some(Admission { rule: index, role, cwd, len, uid: process.uids.uid })
    })
}

/// Returns whether `rule` admits `process`, its home and mount namespace aside. A wrapper need not have the comm,
/// the program, the executable or the arguments of what it wraps.
pub(super) fn admits(rule: &Rule, process: &Process) -> Option<Role> {
    if has_tty(&rule.conditions, process) { admits_without_tty(rule, process) } else { None }
}

/// The same as [`admits`], the terminal and its multiplexer aside too.
pub(super) fn admits_without_tty(rule: &Rule, process: &Process) -> Option<Role> {
    if !has_place(&rule.conditions, process) {
        return None;
    }
    if is_wrapper(rule, process) {
        return Some(Role::Wrapper);
    }
    let refused = any_matches(&rule.not_comm, process.comm.as_bytes()) || has_refused_program(rule, process);
    (!refused && runs(&rule.conditions, process)).then_some(Role::Program)
}

/// Returns whether `rule` may admit `process`, of which neither the arguments nor the multiplexer are known. Its
/// program is `program`, or any where that is not known either. `lost_tty`: it had a terminal.
pub(super) fn may_admit_unread(
    rule: &Rule,
    process: &Process,
    lost_tty: bool,
    program: Option<&[u8]>,
) -> bool {
    let Conditions { comm, program: programs, exe, .. } = &rule.conditions;
    let runs = || {
        let name = process.comm.as_bytes();
        let image = process.exe.as_deref().filter(|exe| !is_in_memory(exe));
        let may_be =
            |program| matches_if_any(programs, Some(program)) && !any_matches(&rule.not_program, program);
        !any_matches(&rule.not_comm, name)
            && matches_if_any(comm, Some(name))
            && matches_if_any(exe, image)
            && program.is_none_or(may_be)
    };
    (lost_tty || has_named_tty(&rule.conditions, process))
        && has_place(&rule.conditions, process)
        && (is_wrapper(rule, process) || runs())
}

/// Returns whether `process` meets those conditions of `rule` that can be judged without its arguments, its environment and
/// its directory.
pub(super) fn meets_unread(rule: &Rule, process: &Process) -> bool {
    may_admit_unread(rule, process, false, None)
}

/// Returns whether the arguments of a process, its program or its environment decide whether it is what is required.
pub(super) fn depends_on_arguments(conditions: &Conditions) -> bool {
    let Conditions { program, argv, mux_socket, .. } = conditions;
    [program, argv, mux_socket].iter().any(|patterns| !patterns.is_empty())
}

/// Returns whether the arguments and the environment of a process, which were learned after `rule` had admitted it, show
/// that it should not have been.
pub(super) fn is_refused_by_arguments(ctx: &SessionContext<'_>, rule: &Rule, entry: &ProcessEntry) -> bool {
    let (ignored, process) = (ctx.ignored, &entry.process);
    let Conditions { program, argv, mux_socket, .. } = &rule.conditions;
    let is_elsewhere = !matches_if_any(mux_socket, process.pane.mux_socket()) && is_pane_known(ctx, entry);
    let is_other = has_refused_program(rule, process)
        || !matches_if_any(program, process.program.as_deref())
        || !has_argument(argv, process);
    let depends = |ignore: &Ignore| depends_on_arguments(&ignore.conditions);
    is_elsewhere
        || (is_other && !is_wrapper(rule, process))
        || ignored.entries.iter().any(|it| depends(it) && is_ignored_by(it, ignored.host_mnt_ns, process))
}

/// Returns whether no environment that is not known can name a pane in which a process runs. A multiplexer that is gone,
/// as its terminal may be, counts as the one that it was.
fn is_pane_known(ctx: &SessionContext<'_>, entry: &ProcessEntry) -> bool {
    let Process { tty, pane, .. } = &entry.process;
    let may_name = |above: &ProcessEntry| above.process.tty == *tty && above.process.is_unread();
    tty.is_some()
        && match pane {
            Pane::Stale => false,
            Pane::None => !ctx.table.ancestors(entry).any(may_name),
            Pane::Tmux(_) | Pane::Screen(_) | Pane::SomeWindow(_) => true,
        }
}

/// Returns whether the arguments of `process`, which are not known, may be such that `rule` does not admit it, though it
/// seems to.
pub(super) fn may_be_refused_by_arguments(ignored: IgnoreList<'_>, rule: &Rule, process: &Process) -> bool {
    let has_name = process.exe.as_deref().is_some_and(|exe| !is_named_by_arguments(exe));
    let may_be_ignored = |ignore: &Ignore| {
        let Conditions { program, .. } = &ignore.conditions;
        let may_run = !has_name || matches_if_any(program, process.program.as_deref());
        depends_on_arguments(&ignore.conditions)
            && may_run
            && has_named_tty(&ignore.conditions, process)
            && runs_image(&ignore.conditions, process)
            && is_ignored_place(ignore, ignored.host_mnt_ns, process)
    };
    let may_be_other = !has_name && !rule.not_program.is_empty() && !is_wrapper(rule, process);
    may_be_other || ignored.entries.iter().any(may_be_ignored)
}

/// Returns whether the program is one that `rule` refuses.
fn has_refused_program(rule: &Rule, process: &Process) -> bool {
    process.program.as_deref().is_some_and(|program| any_matches(&rule.not_program, program))
}

/// Returns the first condition of `rule` that `process` does not meet, the owner of the home and the mount namespace
/// aside.
pub(super) fn unmet(rule: &Rule, process: &Process) -> Option<Unmet> {
    let Conditions { comm, program, exe, argv, cgroup, uids, .. } = &rule.conditions;
    let name = Some(process.comm.as_bytes());
    let image = process.exe.as_deref().filter(|exe| !is_in_memory(exe));
    let runs_any = is_wrapper(rule, process);
    let Some(cwd) = process.cwd.usable_path() else { return Some(Unmet::CwdUnusable) };
    let failed = [
        (Unmet::Cwd, home_len(&rule.home, cwd).is_none()),
        (Unmet::Tty, !has_named_tty(&rule.conditions, process)),
        (Unmet::MuxSocket, !has_tty(&rule.conditions, process)),
        (Unmet::User, !uids.is_empty() && !uids.contains(&process.uids.uid)),
        (Unmet::Group, !is_member(&rule.conditions, process)),
        (Unmet::Cgroup, !matches_if_any(cgroup, process.cgroup.as_deref())),
        (Unmet::Unit, !rule.conditions.has_unit(process)),
        (Unmet::Container, !rule.conditions.has_container(process)),
        (Unmet::NotComm, !runs_any && any_matches(&rule.not_comm, process.comm.as_bytes())),
        (Unmet::NotProgram, !runs_any && has_refused_program(rule, process)),
        (Unmet::Comm, !runs_any && !matches_if_any(comm, name)),
        (Unmet::Program, !runs_any && !matches_if_any(program, process.program.as_deref())),
        (Unmet::Exe, !runs_any && !matches_if_any(exe, image)),
        (Unmet::Argv, !runs_any && !has_argument(argv, process)),
    ];
    failed.into_iter().find(|(_, is_unmet)| *is_unmet).map(|(unmet, _)| unmet)
}

/// Returns the home of `process` under `rule`.
pub(super) fn home_under(rule: &Rule, process: &Process, host_mnt_ns: u32) -> Option<Home> {
    let cwd = process.cwd.usable_path()?;
    let len = home_len(&rule.home, cwd)?;
    let path = cwd.get(..len)?;
    let mnt_ns = namespace(host_mnt_ns, process.cwd.mnt_ns);
    Some(Home { mnt_ns, path: Bytes::from(path), uid: process.uids.uid, instance: Home::FIRST })
}

/// Returns whether no rule is to admit `process`.
pub(super) fn is_ignored(ignored: IgnoreList<'_>, process: &Process) -> bool {
    ignored_by(ignored, process).is_some()
}

/// Returns the index of the first of `ignored` that matches `process`.
pub(super) fn ignored_by(ignored: IgnoreList<'_>, process: &Process) -> Option<usize> {
    ignored.entries.iter().position(|ignore| is_ignored_by(ignore, ignored.host_mnt_ns, process))
}

fn is_ignored_by(ignore: &Ignore, host_mnt_ns: u32, process: &Process) -> bool {
    let conditions = &ignore.conditions;
    has_tty(conditions, process)
        && runs(conditions, process)
        && is_ignored_place(ignore, host_mnt_ns, process)
}

/// Returns whether `ignore` is about the directory, the user, the cgroup and the mount namespace of `process`.
fn is_ignored_place(ignore: &Ignore, host_mnt_ns: u32, process: &Process) -> bool {
    let Ignore { cwd, conditions } = ignore;
    let is_below =
        || cwd.is_empty() || process.cwd.path.as_deref().is_some_and(|path| prefix_len(cwd, path).is_some());
    has_place(conditions, process)
        && has_namespace(conditions, namespace(host_mnt_ns, process.cwd.mnt_ns))
        && is_below()
}

/// Returns whether a process of this mount namespace, as a home names it, is where it is required to be.
pub(super) fn has_namespace(conditions: &Conditions, mnt_ns: Option<u32>) -> bool {
    conditions.mnt_ns == MntNsRule::Any || mnt_ns.is_none()
}

/// Returns whether the terminal and its multiplexer are what is required.
fn has_tty(conditions: &Conditions, process: &Process) -> bool {
    has_named_tty(conditions, process) && matches_if_any(&conditions.mux_socket, process.pane.mux_socket())
}

/// Returns whether the terminal is what is required, its multiplexer aside.
fn has_named_tty(conditions: &Conditions, process: &Process) -> bool {
    match (&conditions.tty, &process.tty) {
        (TtyRule::Any, _) | (TtyRule::None, None) => true,
        (TtyRule::Matches(pattern), Some(tty)) => pattern.is_match(tty.shown().as_bytes()),
        (TtyRule::None, Some(_)) | (TtyRule::Matches(_), None) => false,
    }
}

/// Returns whether the user and the cgroup are what is required.
fn has_place(conditions: &Conditions, process: &Process) -> bool {
    (conditions.uids.is_empty() || conditions.uids.contains(&process.uids.uid))
        && is_member(conditions, process)
        && matches_if_any(&conditions.cgroup, process.cgroup.as_deref())
        && conditions.has_unit(process)
        && conditions.has_container(process)
}

/// Returns whether the user is a member of the groups that are required.
fn is_member(conditions: &Conditions, process: &Process) -> bool {
    conditions.members.as_ref().is_none_or(|members| members.contains(&process.uids.uid))
}

/// Returns whether the process runs what is required: comm, program, executable and arguments.
fn runs(conditions: &Conditions, process: &Process) -> bool {
    runs_image(conditions, process)
        && matches_if_any(&conditions.program, process.program.as_deref())
        && has_argument(&conditions.argv, process)
}

/// Returns whether comm and executable are what is required.
fn runs_image(conditions: &Conditions, process: &Process) -> bool {
    matches_if_any(&conditions.comm, Some(process.comm.as_bytes()))
        && matches_if_any(&conditions.exe, process.exe.as_deref().filter(|exe| !is_in_memory(exe)))
}

/// Returns whether there are no patterns, or one matches an argument. Arguments that are not known match none.
fn has_argument(patterns: &[Box<dyn Pattern>], process: &Process) -> bool {
    let has_any = |argv: &Argv| argv.whole().any(|argument| any_matches(patterns, argument));
    patterns.is_empty() || process.argv.as_ref().is_some_and(has_any)
}

/// Returns whether there are no patterns, or one matches. A value that is not known matches none.
fn matches_if_any(patterns: &[Box<dyn Pattern>], value: Option<&[u8]>) -> bool {
    patterns.is_empty() || value.is_some_and(|value| any_matches(patterns, value))
}

/// Returns whether `process` is one of the wrappers of `rule`, or a shell that runs a script, unless the rule names
/// that very script.
pub(super) fn is_wrapper(rule: &Rule, process: &Process) -> bool {
    let Conditions { comm, program, .. } = &rule.conditions;
    let matches = |patterns: &[Box<dyn Pattern>], name: Option<&[u8]>| {
        name.is_some_and(|name| any_matches(patterns, name))
    };
    if matches(&rule.wrappers, Some(process.comm.as_bytes()))
        || matches(&rule.wrappers, process.program.as_deref())
    {
        return true;
    }
    let (Some(exe), Some(script)) = (&process.exe, &process.program) else { return false };
    // A script whose first line names env is called by its own name until env has become its interpreter.
    if is_env(exe) && any_matches(&rule.wrappers, ENV) {
        return true;
    }
    let is_named = matches(comm, Some(process.comm.as_bytes())) || matches(program, Some(script));
    is_shell_script(exe, script) && !is_named
}

fn any_matches(patterns: &[Box<dyn Pattern>], bytes: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(bytes))
}

/// Returns how many bytes of `path` are the home that `rule` finds in it.
pub(super) fn home_len(rule: &HomeRule, path: &[u8]) -> Option<usize> {
    match rule {
        HomeRule::Cwd => Some(path.len()),
        HomeRule::Prefix(patterns) => prefix_len(patterns, path),
    }
}

/// Returns how many bytes of `path` are the shortest prefix, cut at a component, that one of `patterns` matches.
fn prefix_len(patterns: &[Box<dyn Pattern>], path: &[u8]) -> Option<usize> {
    let cuts = path.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    let root = (path.len() > 1).then_some(1);
    root.into_iter()
        .chain(cuts)
        .chain([path.len()])
        .find(|&len| path.get(..len).is_some_and(|prefix| any_matches(patterns, prefix)))
}

/// Returns whether the home that `rule` finds in `path` is `home`.
pub(super) fn finds_home(rule: &Rule, path: &[u8], home: &Home) -> bool {
    home_len(&rule.home, path).is_some_and(|len| path.get(..len).is_some_and(|prefix| *prefix == *home.path))
}

/// Returns whether the homes of this rule are the working directories of processes.
pub(super) fn follows_cwd(rule: &Rule) -> bool {
    matches!(rule.home, HomeRule::Cwd)
}

/// Returns when `process` has run its image for as long as `rule` requires. Where the exec was not observed, its
/// start counts.
pub(super) fn old_enough_at(rule: Option<&Rule>, process: &Process) -> BootTime {
    let began = process.exec_at.unwrap_or(process.key.start_boottime);
    began.after(rule.map_or(0, |rule| rule.min_age_ns))
}

/// Returns the mount namespace as a home names it: `None` for the host's own and for one that could not be
/// read.
pub(super) fn namespace(host_mnt_ns: u32, mnt_ns: u32) -> Option<u32> {
    (mnt_ns != 0 && host_mnt_ns != 0 && mnt_ns != host_mnt_ns).then_some(mnt_ns)
}

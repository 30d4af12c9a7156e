//! Finds the rule that admits a process to a home in which it is a primary already. Its place, and the terminal that
//! it had, count as they were when it was admitted. While its arguments are not known, so does what they decide.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::ids::ProcessKey;
use crate::model::process::Process;
use crate::model::rule::{Ignore, Rule};
use crate::model::session::{EndReason, Home, Session};
use crate::processes::entry::Candidacy;
use crate::sessions::Sessions;
use crate::sessions::admission::{
    admits, admits_without_tty, depends_on_arguments, has_namespace, home_len, is_ignored, is_wrapper,
    may_admit_unread, may_be_refused_by_arguments,
};
use crate::sessions::by_age::age;
use crate::sessions::context::{Cause, IgnoreList, SessionContext};
use crate::sessions::homes::{HomeState, SessionSlot};
use crate::sessions::ownership::may_act_for_owner;

/// What is known of a primary beside what the kernel shows.
#[derive(Clone, Copy)]
pub(super) struct Tenure<'a> {
    /// The home of its session.
    pub home: &'a Home,
    /// It has or had a terminal.
    pub had_tty: bool,
    /// The program that it was recorded to run.
    pub program: Option<&'a [u8]>,
}

impl<'a> Tenure<'a> {
    /// Returns the tenure of the primary of a session.
    pub fn of(slot: &'a SessionSlot) -> Self {
        let program = slot.session.recorded_program.as_ref().or(slot.program_of_primary());
        let program = program.map(|program| &**program);
        Self { home: &slot.session.home, had_tty: slot.had_tty, program }
    }

    /// Returns whether `rule` admits `process` to the home, the owner of the directory aside. Of a process whose
    /// arguments are not known, it returns whether the rule may admit it.
    pub fn fits(&self, rule: &Rule, process: &Process) -> bool {
        let path = &self.home.path;
        process.uids.uid == self.home.uid
            && home_len(&rule.home, path) == Some(path.len())
            && has_namespace(&rule.conditions, self.home.mnt_ns)
            && if process.is_unread() {
                may_admit_unread(rule, process, self.has_lost_tty(process), self.program)
            } else {
                self.is_admitted_now(rule, process)
            }
    }

    fn is_admitted_now(&self, rule: &Rule, process: &Process) -> bool {
        let admits = if self.has_lost_tty(process) { admits_without_tty } else { admits };
        admits(rule, process).is_some()
    }

    fn has_lost_tty(&self, process: &Process) -> bool {
        self.had_tty && process.tty.is_none()
    }

    /// Returns whether it depends on arguments that are not known whether `rule` admits `process`.
    pub fn is_unconfirmed(&self, ignored: IgnoreList<'_>, rule: &Rule, process: &Process) -> bool {
        process.is_unread()
            && (!self.is_admitted_now(rule, process) || may_be_refused_by_arguments(ignored, rule, process))
    }
}

/// What a primary was recorded to run.
#[derive(Clone, Copy)]
pub(super) struct RecordedExec<'a> {
    pub program: Option<&'a [u8]>,
    pub exec_id: Option<u32>,
}

impl<'a> RecordedExec<'a> {
    /// Returns what the primary of `slot` was recorded to run, whose arguments were not known until this moment.
    fn of(slot: &'a SessionSlot) -> Self {
        Self { program: slot.session.recorded_program.as_deref(), exec_id: slot.known_exec_id }
    }

    /// Returns whether `process` is known to have executed another program since then. The name alone does not show it: of an
    /// exec that was not observed, the name given to it is not known, and the process may have overwritten its arguments. While
    /// the arguments are not known, the name is not either.
    pub fn differs_from(self, process: &Process) -> bool {
        let has_execed = self.exec_id.is_some_and(|exec_id| exec_id != process.exec_id);
        let programs = self.program.zip(process.program.as_deref());
        has_execed && !process.is_unread() && programs.is_some_and(|(recorded, program)| recorded != program)
    }
}

/// Returns whether no rule is to admit `process`, as far as that is known.
pub(super) fn is_surely_ignored(ignored: IgnoreList<'_>, process: &Process) -> bool {
    if !process.is_unread() {
        return is_ignored(ignored, process);
    }
    let is_sure = |ignore: &&Ignore| !depends_on_arguments(&ignore.conditions);
    ignored
        .entries
        .iter()
        .filter(is_sure)
        .any(|ignore| is_ignored(IgnoreList { entries: core::slice::from_ref(ignore), ..ignored }, process))
}

/// Returns the index of the first rule that admits `process`, the primary of `slot`, to its home. `state` is that home's.
pub(super) fn fitting_rule(
    ctx: &SessionContext<'_>,
    state: &HomeState,
    slot: &SessionSlot,
    process: &Process,
) -> Option<usize> {
    if is_surely_ignored(ctx.ignored, process) {
        return None;
    }
    let (tenure, uid) = (Tenure::of(slot), process.uids.uid);
    let owner = state.owner.last().or(slot.session.owner);
    ctx.rules.iter().position(|rule| {
        let is_owners = !rule.owner || may_act_for_owner(uid) || owner == Some(uid);
        is_owners && tenure.fits(rule, process)
    })
}

impl Sessions {
    /// The arguments of `key` were learned. Ends each session that it was given before and that no rule admits it to. Those
    /// whose home it is in are the business of its candidacy.
    pub(super) fn confirm(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey) {
        let held = self.homes.held_by(key).iter().map(Arc::clone);
        for home in held.collect::<Vec<_>>() {
            let Some(entry) = ctx.table.get(key) else { return };
            let Some(state) = self.homes.by_home.get_mut(&home) else { continue };
            let unconfirmed = |slot: &&SessionSlot| slot.session.unconfirmed;
            let Some(slot) = state.slot.as_ref().filter(unconfirmed) else { continue };
            if slot.current_primary() != Some(key) || entry.candidacy.is_some() {
                continue;
            }
            match fitting_rule(ctx, state, slot, &entry.process) {
                Some(rule) => {
                    if let Some(slot) = &mut state.slot {
                        slot.session.rule = rule;
                    }
                }
                None if RecordedExec::of(slot).differs_from(&entry.process) => {
                    self.elect(ctx, &home, Cause::FoundExecedAway(key));
                }
                None => {
                    self.end_session(ctx, &home, EndReason::NotAdmitted, None);
                    self.elect(ctx, &home, Cause::Candidates);
                }
            }
        }
    }

    /// The arguments of a candidate were learned, and its rule does not admit it. Another rule may.
    pub(super) fn expel(&mut self, ctx: &mut SessionContext<'_>, key: ProcessKey, home: &Arc<Home>) {
        let is_known_primary = |slot: &&SessionSlot| slot.was_known && slot.current_primary() == Some(key);
        if let Some(slot) = self.homes.slot(home).filter(is_known_primary) {
            // It stood for the session before.
            let entry = ctx.table.get_mut(key);
            let lost = entry.filter(|entry| RecordedExec::of(slot).differs_from(&entry.process));
            if let Some(entry) = lost {
                entry.candidacy = None;
                self.leave(ctx, key, home, Cause::FoundExecedAway(key));
                return self.consider(ctx, key);
            }
            self.end_session(ctx, home, EndReason::NotAdmitted, None);
        }
        self.depart(ctx, key, EndReason::NotAdmitted);
        if ctx.table.has_children_by_birth(key.tgid) {
            self.relinked.insert(age(key));
        }
        self.readmit(ctx, home);
        self.consider(ctx, key);
    }

    /// The arguments of a candidate of `home` were learned, and its rule does not admit it. Returns its candidacy by another
    /// rule that does, if it is the primary.
    pub(super) fn other_candidacy(
        &self,
        ctx: &SessionContext<'_>,
        key: ProcessKey,
        home: &Arc<Home>,
    ) -> Option<Candidacy> {
        let entry = ctx.table.get(key)?;
        let state = self.homes.by_home.get(home)?;
        let slot = state.slot.as_ref().filter(|slot| slot.current_primary() == Some(key))?;
        let rule = fitting_rule(ctx, state, slot, &entry.process)?;
        let is_wrapper = is_wrapper(ctx.rules.get(rule)?, &entry.process);
        Some(Candidacy { rule, is_wrapper, ..entry.candidacy.clone()? })
    }
}

/// Returns whether it cannot be said yet whether the rule of `session` admits `primary`.
pub(super) fn is_unconfirmed(
    ctx: &SessionContext<'_>,
    session: &Session,
    had_tty: bool,
    primary: &Process,
) -> bool {
    let tenure = Tenure { home: &session.home, had_tty, program: None };
    ctx.rules.get(session.rule).is_some_and(|rule| tenure.is_unconfirmed(ctx.ignored, rule, primary))
}

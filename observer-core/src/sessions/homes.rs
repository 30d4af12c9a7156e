//! What is kept of each home, and the indexes over homes.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::input::KnownSession;
use crate::limits::NAME_MAX;
use crate::model::death::LeftProcesses;
use crate::model::explanation::ElectionCriterion;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::left::FormerSession;
use crate::model::process::{Bytes, DirId, Process};
use crate::model::rule::NameTemplate;
use crate::model::session::{Home, Session, State};
use crate::model::starts::Starts;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::by_age::ByAge;
use crate::sessions::claims::{Claims, Owner, OwnerChecks};
use crate::sessions::ended_sessions::EndedSessions;
use crate::sessions::run_program::RunProgram;
use crate::sessions::user_sessions::SessionsByUser;

/// The session of one home, and what it takes to keep it right.
#[derive(Debug)]
pub(crate) struct SessionSlot {
    pub session: Session,
    /// What decided who is the primary.
    pub elected_by: ElectionCriterion,
    /// The primary as it was when the session ended.
    pub last_primary: Option<Box<Process>>,
    /// The primary has or had a terminal.
    pub had_tty: bool,
    /// When the last change of the session was that was reported.
    pub changed_at: BootTime,
    /// When this incarnation of the home was first seen.
    pub opened_at: BootTime,
    /// The program that the session is of.
    pub program: RunProgram,
    /// The primary runs another program: it was there when the primary that ran that one ended.
    pub is_substitute: bool,
    /// The launcher that stands aside for the primary, or did so for an earlier one.
    pub launcher: Option<ProcessKey>,
    /// When each label was last seen.
    pub labelled_at: BTreeMap<Arc<str>, BootTime>,
    /// It ended before the daemon was started. Of its primary, only the program is known.
    pub is_recorded: bool,
    /// Its primary stood for it before the daemon was started.
    pub was_known: bool,
    /// The `exec_id` that its primary was recorded to have, where that stood for it before the daemon was started.
    pub known_exec_id: Option<u32>,
}

impl SessionSlot {
    /// Returns a session of `home` that starts at `at`. `template` makes its name.
    pub fn new(home: &Arc<Home>, primary: &Process, template: &NameTemplate, at: BootTime) -> Self {
        let name = session_name(template, home, primary, None);
        Self::live(home, primary.key, name, RunProgram::of(primary), at)
    }

    /// Returns a session of `home` that ended before the daemon was started.
    pub fn recorded(home: &Arc<Home>, known: &KnownSession<'_>, program: &[u8]) -> Self {
        let program = RunProgram::named(program);
        let mut slot = Self::live(home, known.primary, Bytes::default(), program, known.since);
        slot.is_recorded = true;
        (slot.session.state, slot.session.roots) = (State::Ended, 0);
        (slot.session.home_dir, slot.session.cwd_deleted) = (known.home_dir, known.home_deleted);
        slot.session.starts = known.starts.to_vec().into();
        slot
    }

    fn live(home: &Arc<Home>, primary: ProcessKey, name: Bytes, program: RunProgram, at: BootTime) -> Self {
        let session = Session {
            home: Arc::clone(home),
            home_dir: DirId::default(),
            owner: None,
            foreign: None,
            name,
            primary,
            wrapper: None,
            roots: 1,
            others: Vec::new(),
            stands_in_for: None,
            state: State::Live,
            since: at,
            unconfirmed: false,
            recorded_program: None,
            moved_to: None,
            cwd_deleted: false,
            rule: 0,
            death: None,
            end_reason: None,
            starts: Starts::default(),
            labels: Vec::new(),
        };
        Self {
            session,
            elected_by: ElectionCriterion::WasPrimary,
            last_primary: None,
            had_tty: false,
            changed_at: at,
            opened_at: at,
            program,
            is_substitute: false,
            launcher: None,
            labelled_at: BTreeMap::new(),
            is_recorded: false,
            was_known: false,
            known_exec_id: None,
        }
    }

    /// Returns the program that the primary was known to run last.
    pub fn program_of_primary(&self) -> Option<&Bytes> {
        self.program.name().filter(|_| !self.is_substitute)
    }

    /// Returns the time of a change whose cause was at `at`, and records it. A cause may become known late, as a death that
    /// waited does, but changes are reported in the order of their times.
    pub fn change_at(&mut self, at: BootTime) -> BootTime {
        self.changed_at = self.changed_at.max(at);
        self.changed_at
    }

    pub fn is_ended(&self) -> bool {
        self.session.state == State::Ended
    }

    /// Returns the primary, unless the session ended. The process itself may be dead.
    pub fn current_primary(&self) -> Option<ProcessKey> {
        (!self.is_ended()).then_some(self.session.primary)
    }

    /// Returns the primary and its wrapper, unless the session ended: the processes that hold the home.
    pub fn holders(&self) -> [Option<ProcessKey>; 2] {
        if self.is_ended() { [None, None] } else { [Some(self.session.primary), self.session.wrapper] }
    }
}

/// Returns whether the name that `template` gives depends on the primary.
pub(crate) fn names_primary(template: &NameTemplate) -> bool {
    template.text.contains("{program}") || template.names_user()
}

/// Returns the name that `template` gives to a home and its primary, of which `recorded` is the program until its
/// arguments are known. comm stands for a program that is not known. The number of an instance other than the first
/// follows it: `alpha#2`.
pub(crate) fn session_name(
    template: &NameTemplate,
    home: &Home,
    primary: &Process,
    recorded: Option<&Bytes>,
) -> Bytes {
    let (above, base) = split_base(&home.path);
    let parent = split_base(above).1;
    let recorded = recorded.filter(|_| primary.is_unread()).map(|program| &**program);
    let program = recorded.or(primary.program.as_deref()).unwrap_or(primary.comm.as_bytes());
    let number = if template.names_user() { primary.uids.uid.to_string() } else { String::new() };
    let known = template.users.as_ref().and_then(|users| users.get(&primary.uids.uid));
    let user = known.map_or(number.as_bytes(), |name| name);
    let values = [
        ("{basename}", base),
        ("{parent}", parent),
        ("{home}", &home.path),
        ("{program}", program),
        ("{user}", user),
    ];
    let mut name = Vec::with_capacity(template.text.len() + base.len());
    let mut rest = &*template.text;
    loop {
        let next = values
            .iter()
            .copied()
            .filter_map(|(key, value)| rest.find(key).map(|at| (at, key, value)))
            .min_by_key(|&(at, ..)| at);
        let Some((at, key, value)) = next else { break };
        name.extend_from_slice(rest.get(..at).unwrap_or_default().as_bytes());
        name.extend_from_slice(value);
        rest = rest.get(at + key.len()..).unwrap_or_default();
    }
    name.extend_from_slice(rest.as_bytes());
    let number = if home.instance == Home::FIRST { String::new() } else { format!("#{}", home.instance) };
    name.truncate(NAME_MAX - number.len());
    name.extend_from_slice(number.as_bytes());
    Bytes::from(name)
}

/// Splits the last component from an absolute path. Both parts of the root are the root.
fn split_base(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let base = slash.and_then(|slash| path.get(slash + 1..)).filter(|base| !base.is_empty());
    let above = slash.and_then(|slash| path.get(..slash.max(1)));
    (above.unwrap_or(path), base.unwrap_or(path))
}

/// A candidate with no candidate of its home above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub key: ProcessKey,
    /// The process that may be the primary for this root: the root itself, or if that is a wrapper or a
    /// launcher, the program that runs below it.
    pub stand_in: Option<ProcessKey>,
    /// The process that stands aside for `stand_in`, which is the same program: the outermost of such a chain.
    pub launcher: Option<ProcessKey>,
}

/// A home that has candidates, a session, processes that claim it, or a request for its owner.
#[derive(Debug, Default)]
pub(crate) struct HomeState {
    pub candidates: ByAge,
    pub roots: Vec<Root>,
    /// For each root the process that could be the primary beside the present one, as the last election found it.
    pub eligible: Vec<ProcessKey>,
    pub slot: Option<SessionSlot>,
    /// When a root will be old enough.
    pub due: Option<BootTime>,
    pub owner: Owner,
    pub claims: Claims,
    /// When the owner is read again.
    pub check_due: Option<BootTime>,
    /// When the last session ended that another one took the place of: that one begins no earlier, though the cause of both
    /// may have been earlier than what was reported of the former.
    pub replaced_at: BootTime,
    /// Its session is one of its user's.
    pub is_counted: bool,
}

impl HomeState {
    pub fn current_primary(&self) -> Option<ProcessKey> {
        self.slot.as_ref().and_then(SessionSlot::current_primary)
    }

    pub fn holders(&self) -> [Option<ProcessKey>; 2] {
        self.slot.as_ref().map_or([None, None], SessionSlot::holders)
    }

    /// Returns the session, unless it ended.
    pub fn live_session(&self) -> Option<&Session> {
        self.slot.as_ref().filter(|slot| !slot.is_ended()).map(|slot| &slot.session)
    }

    /// Returns when the session ended, if it did.
    pub fn ended_at(&self) -> Option<BootTime> {
        self.slot.as_ref().filter(|slot| slot.is_ended()).map(|slot| slot.session.since)
    }
}

/// Every home, and which processes hold which.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    pub by_home: BTreeMap<Arc<Home>, HomeState>,
    /// The primaries and wrappers of sessions that have not ended, each with its homes.
    homes_by_holder: BTreeMap<ProcessKey, Vec<Arc<Home>>>,
    due: BTreeSet<(BootTime, Arc<Home>)>,
    checks: OwnerChecks,
    ended: EndedSessions,
    pub of_users: SessionsByUser,
    /// Processes that are elected nowhere before those are that may have them for their helpers.
    pub held_back: BTreeSet<ProcessKey>,
    /// Ended sessions that were forgotten.
    pub dropped: u64,
    /// Processes that a rule admitted to a home with too many candidates.
    pub left_out: u64,
    /// How often it was looked where a candidate is among the others of its home.
    pub placed: u64,
}

impl Homes {
    /// Returns the shared form of a home.
    pub fn intern(&self, home: Home) -> Arc<Home> {
        match self.by_home.get_key_value(&home) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(home),
        }
    }

    /// Returns the session of a home.
    pub fn slot(&self, home: &Home) -> Option<&SessionSlot> {
        self.by_home.get(home)?.slot.as_ref()
    }

    /// Completes the death of a session that is over with what it left, if no other one has taken its place.
    pub fn set_left(&mut self, former: &FormerSession, left: &LeftProcesses) {
        let slot = self.by_home.get_mut(&former.home).and_then(|state| state.slot.as_mut());
        let slot = slot.filter(|slot| slot.is_ended() && slot.session.primary == former.primary);
        if let Some(death) = slot.and_then(|slot| slot.session.death.as_mut()) {
            death.left = Some(left.clone());
        }
    }

    /// Returns the homes whose primary or wrapper `key` is.
    pub fn held_by(&self, key: ProcessKey) -> &[Arc<Home>] {
        self.homes_by_holder.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the home of the session whose primary `key` is.
    pub fn home_of_primary(&self, key: ProcessKey) -> Option<&Arc<Home>> {
        let is_primary =
            |home: &&Arc<Home>| self.by_home.get(&**home).and_then(HomeState::current_primary) == Some(key);
        self.held_by(key).iter().find(is_primary)
    }

    /// The same for a process in the map. Most hold no session, and this is asked of each ancestor of a process.
    pub fn home_led_by(&self, entry: &ProcessEntry) -> Option<&Arc<Home>> {
        if entry.holds_session { self.home_of_primary(entry.process.key) } else { None }
    }

    /// Records that `key` holds `home` from here on. Returns whether it is the first home that it holds.
    pub fn hold(&mut self, table: &mut ProcessTable, key: ProcessKey, home: &Arc<Home>) -> bool {
        let homes = self.homes_by_holder.entry(key).or_default();
        let is_first = homes.is_empty();
        if let Some(entry) = table.get_mut(key) {
            entry.holds_session = true;
        }
        if !homes.contains(home) {
            homes.push(Arc::clone(home));
        }
        self.count_session(home);
        is_first
    }

    /// Records that `key` does not hold `home` any more. Returns whether it was the last home that it held.
    pub fn release(&mut self, table: &mut ProcessTable, key: ProcessKey, home: &Arc<Home>) -> bool {
        let Some(homes) = self.homes_by_holder.get_mut(&key) else { return false };
        homes.retain(|held| held != home);
        let was_last = homes.is_empty();
        if was_last {
            self.homes_by_holder.remove(&key);
            if let Some(entry) = table.get_mut(key) {
                entry.holds_session = false;
            }
        }
        self.count_session(home);
        was_last
    }

    /// Counts the session of `home` from when it begins until it ends.
    fn count_session(&mut self, home: &Home) {
        let Some(state) = self.by_home.get_mut(home) else { return };
        let is_live = state.live_session().is_some();
        if core::mem::replace(&mut state.is_counted, is_live) != is_live {
            self.of_users.count(home.uid, is_live);
        }
    }

    /// Sets or clears the time at which a root of `home` is old enough.
    pub fn set_due(&mut self, home: &Arc<Home>, due: Option<BootTime>) {
        let Some(state) = self.by_home.get_mut(home) else { return };
        if state.due == due {
            return;
        }
        if let Some(before) = core::mem::replace(&mut state.due, due) {
            self.due.remove(&(before, Arc::clone(home)));
        }
        if let Some(due) = due {
            self.due.insert((due, Arc::clone(home)));
        }
    }

    /// Returns the home that is due next.
    pub fn next_due(&self) -> Option<(BootTime, &Arc<Home>)> {
        self.due.first().map(|(at, home)| (*at, home))
    }

    /// Records that the session of `home` ended at `since`, and forgets the ended sessions beyond the
    /// bound.
    pub fn add_ended(&mut self, since: BootTime, home: &Arc<Home>) {
        self.ended.add(since, home);
        while let Some(excess) = self.ended.take_excess() {
            if let Some(state) = self.by_home.get_mut(&excess) {
                state.slot = None;
                self.dropped += 1;
            }
            self.forget_empty(&excess);
        }
    }

    /// Records that the session of `home` that ended at `since` is live again or was replaced.
    pub fn remove_ended(&mut self, since: BootTime, home: &Arc<Home>) {
        self.ended.remove(since, home);
    }

    /// Forgets a home of which nothing is left.
    pub fn forget_empty(&mut self, home: &Arc<Home>) {
        let Some(state) = self.by_home.get_mut(home) else { return };
        if !state.candidates.is_empty() || !state.claims.is_empty() {
            return;
        }
        // The owner may change while the home has no candidate.
        if matches!(state.owner, Owner::Known(_)) {
            state.owner = Owner::Unknown;
        }
        if state.slot.is_none() && state.owner == Owner::Unknown {
            self.set_due(home, None);
            self.of_users.forget(home);
            if let Some(due) = self.by_home.remove(home).and_then(|state| state.check_due) {
                self.checks.remove(due, home);
            }
        }
    }

    /// Schedules the next read of the owner of `home`, unless there is one.
    pub fn add_check(&mut self, now: BootTime, home: &Arc<Home>) {
        let Some(state) = self.by_home.get_mut(home).filter(|state| state.check_due.is_none()) else {
            return;
        };
        state.check_due = Some(self.checks.add(now, home));
    }

    /// Returns when the owner of a home is read again.
    pub fn next_check(&self) -> Option<BootTime> {
        self.checks.next_due()
    }

    /// Returns a home whose owner is to be read again now.
    pub fn take_check(&mut self, now: BootTime) -> Option<Arc<Home>> {
        let home = self.checks.take_due(now)?;
        if let Some(state) = self.by_home.get_mut(&home) {
            state.check_due = None;
        }
        Some(home)
    }
}

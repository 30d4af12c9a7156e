//! What the core reports: the map that all changes give, and what is wrong with the reports themselves.

use std::collections::{BTreeMap, BTreeSet};

use observer_core::death::Death;
use observer_core::process::Process;
use observer_core::session::{Home, Session, State};
use observer_core::{BootTime, Change, ProcessKey, Request, Sink, Tgid};

/// A request for a pass.
#[derive(Clone, Copy, Debug)]
pub struct PassRequest {
    /// The earliest time at which it may begin.
    pub not_before: BootTime,
    /// The hint bits that it answers.
    pub hints: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reports {
    /// The live processes.
    pub live: BTreeMap<Tgid, Process>,
    /// The sessions, those that have ended as well.
    pub sessions: BTreeMap<Home, Session>,
    /// Deaths that were reported since they were last taken.
    pub deaths: Vec<(ProcessKey, Death)>,
    /// The pass that is requested.
    pub pass: Option<PassRequest>,
    /// Homes whose owner is requested.
    pub owners: Vec<Home>,
    /// A reading of the memory is requested.
    pub wants_pages: bool,
    /// Reports that contradict others.
    pub faults: Vec<String>,
    /// Whether a gap is open, as reported.
    pub is_gap_open: bool,
    /// Records that were lost, as reported.
    pub lost: u64,
    ended: BTreeSet<ProcessKey>,
    watched: BTreeSet<ProcessKey>,
}

impl Reports {
    fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    fn session(&mut self, session: &Session, process: &Process, was_open: bool) {
        let open = self.sessions.get(&session.home).is_some_and(|former| former.state != State::Ended);
        self.check(open == was_open, || format!("{session:?} is reported, and was open: {open}"));
        self.check(process.key == session.primary, || format!("{session:?} with {:?}", process.key));
        self.sessions.insert((*session.home).clone(), session.clone());
    }

    /// Forgets the ends of processes and sessions that are over, so that a long history needs no more memory than a short one.
    pub fn forget_ended(&mut self) {
        self.ended.clear();
        self.sessions.retain(|_, session| session.state != State::Ended);
    }

    /// Returns whether records of this process wake the reader.
    pub fn is_watched(&self, key: ProcessKey) -> bool {
        self.watched.contains(&key)
    }
}

impl Sink for Reports {
    fn change(&mut self, at: BootTime, change: Change<'_>) {
        match change {
            Change::ProcessStarted(process) => {
                let key = process.key;
                let former = self.live.insert(key.tgid, process.clone());
                self.check(former.is_none(), || format!("{key:?} started on a live tgid"));
                let is_new = !self.ended.contains(&key);
                self.check(is_new, || format!("{key:?} started after its end"));
            }
            Change::ProcessExeced(process)
            | Change::ProcessMoved(process)
            | Change::ProcessChanged(process) => {
                let former = self.live.insert(process.key.tgid, process.clone());
                let same = former.is_some_and(|former| former.key == process.key);
                self.check(same, || format!("{:?} changed, and does not live", process.key));
            }
            Change::ProcessEnded(process, death) => {
                let gone = self.live.remove(&process.key.tgid);
                let same = gone.is_some_and(|gone| gone.key == process.key);
                self.check(same, || format!("{:?} ended, and did not live", process.key));
                let once = self.ended.insert(process.key);
                self.check(once, || format!("{:?} ended twice", process.key));
                self.deaths.push((process.key, death.clone()));
            }
            Change::SessionStarted(session, process) => self.session(session, process, false),
            Change::SessionChanged(session, process) | Change::SessionEnded(session, process) => {
                self.session(session, process, true);
            }
            Change::SessionLeft { former, left, .. } => {
                let session = self.sessions.get_mut(&*former.home);
                let session = session.filter(|it| it.state == State::Ended && it.primary == former.primary);
                if let Some(death) = session.and_then(|session| session.death.as_mut()) {
                    death.left = Some(left.clone());
                }
            }
            Change::GapOpened { from } => {
                let closed = !std::mem::replace(&mut self.is_gap_open, true);
                self.check(closed && from <= at, || format!("a gap opened from {from:?} at {at:?}"));
            }
            Change::GapClosed { lost, .. } => {
                let open = std::mem::replace(&mut self.is_gap_open, false);
                self.check(open, || "a gap was closed that was not open".into());
                self.lost += lost;
            }
        }
    }

    fn request(&mut self, request: Request<'_>) {
        match request {
            Request::Pass { not_before, hints } => {
                let pending = self.pass.get_or_insert(PassRequest { not_before, hints });
                pending.not_before = pending.not_before.min(not_before);
                pending.hints |= hints;
            }
            Request::Memory(_) => {}
            Request::HomeOwner(home) => self.owners.push(home.clone()),
            Request::ResidentPages => self.wants_pages = true,
            Request::Watch(key, on) => {
                let changed = if on { self.watched.insert(key) } else { self.watched.remove(&key) };
                self.check(changed, || format!("{key:?} is watched already, or was not: {on}"));
            }
        }
    }

    fn resident_pages(&mut self, processes: &[ProcessKey]) -> Option<Vec<Option<u64>>> {
        Some(vec![Some(0); processes.len()])
    }
}

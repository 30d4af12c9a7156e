//! What the journal knew when it was opened, as far as it is needed while the map is filled and afterwards.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use observer_core::cost::ProcessUsage;
use observer_core::death::Death;
use observer_core::process::Pane;
use observer_core::session::Home;
use observer_core::{BootTime, Input, Process, ProcessKey, Session};

use super::ends::RecordedEnds;
use crate::api::Context;
use crate::api::entry::Entry;
use crate::api::session::SessionJson;

/// A death that the first passes observed.
#[derive(Clone, Debug)]
pub enum ObservedDeath {
    /// The exit itself was observed.
    Exit(Death),
    /// The process waits to be reaped: its status is exact, and when it died is not known.
    Zombie(Death),
}

/// See the module.
#[derive(Default)]
pub struct PreviousSessions {
    /// The primaries that were known, and their deaths as far as the kernel still shows them.
    deaths: HashMap<ProcessKey, Option<ObservedDeath>>,
    /// Sessions that continued unchanged: their primary, and a digest of what was recorded. What is read of them later
    /// (arguments from memory) is no change.
    recorded: HashMap<Home, (ProcessKey, Digest)>,
    /// Sessions that had ended.
    pub ends: RecordedEnds,
}

impl PreviousSessions {
    /// From here on deaths of these primaries are kept.
    pub fn expect_deaths(&mut self, primaries: impl Iterator<Item = ProcessKey>) {
        self.deaths = primaries.map(|key| (key, None)).collect();
    }

    /// No more deaths are kept.
    pub fn forget_deaths(&mut self) {
        self.deaths.clear();
    }

    /// The death of a primary that was known, if it was observed.
    pub fn death(&self, primary: ProcessKey) -> Option<ObservedDeath> {
        self.deaths.get(&primary).cloned().flatten()
    }

    /// Replaces the sessions that continued unchanged: the primary of each home, and its [`digest`].
    pub fn set_recorded(&mut self, recorded: HashMap<Home, (ProcessKey, Digest)>) {
        self.recorded = recorded;
    }

    /// Takes note of a death that the kernel shows before the map is complete.
    pub fn observe(&mut self, input: &Input<'_>) {
        if self.deaths.is_empty() {
            return;
        }
        let (key, observed) = match input {
            Input::Exit { at, key, raw_status, usage, .. } => {
                (key, ObservedDeath::Exit(death_of_one(*raw_status, *at, *usage)))
            }
            Input::PassRow(row) => match row.dead {
                Some(status) => (&row.key, ObservedDeath::Zombie(death_of_one(status, row.at, row.usage))),
                None => return,
            },
            _ => return,
        };
        if let Some(death) = self.deaths.get_mut(key) {
            death.get_or_insert(observed);
        }
    }

    /// Whether the journal knows the session as it is. A session that differs once is compared no more.
    pub fn is_known(&mut self, session: &Session, primary: &Process, context: Context<'_>) -> bool {
        let Some((key, recorded)) = self.recorded.get(&*session.home) else { return false };
        let current = || digest(&SessionJson::new(session, primary, context));
        let is_same =
            *key == session.primary && primary.exec_at.is_none() && recorded.agrees_with(current(), primary);
        if !is_same {
            self.recorded.remove(&*session.home);
        }
        is_same
    }
}

/// Digests of a session as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    fields: u64,
    pane: u64,
    exec_id: Option<u32>,
}

impl Digest {
    /// Whether the session deserves no entry: the `current` digest of it and its `primary` is no other one than this,
    /// which was recorded. The environments from which a pane follows may be read later. Entries of earlier versions do not
    /// have the count of execs.
    pub fn agrees_with(self, current: Self, primary: &Process) -> bool {
        self.fields == current.fields
            && (self.exec_id.is_none() || self.exec_id == current.exec_id)
            && (primary.pane == Pane::None || self.pane == current.pane)
    }
}

/// The primaries of this boot whose sessions live according to `entries`.
pub fn known_primaries(entries: &[Entry], boot_id: &str) -> impl Iterator<Item = ProcessKey> {
    let mine = entries.iter().filter(move |entry| entry.boot_id == boot_id);
    mine.filter_map(|entry| Some(entry.subject.as_ref()?.process))
}

/// The death of a process of whose descendants nothing is known but what the kernel counted.
fn death_of_one(raw_status: u32, at: BootTime, usage: ProcessUsage) -> Death {
    Death { cost: Some(usage.into()), ..Death::from_status(raw_status, at) }
}

/// Digests the fields whose change deserves an entry. Fields that are read late, or that only state when something was
/// read, are left out; the pane has a digest of its own.
pub fn digest(json: &SessionJson<'_>) -> Digest {
    let mut digest = DefaultHasher::new();
    let process = &json.primary;
    (&json.name, json.state, json.roots, json.wrapper_pid, &json.moved_to, json.home_deleted)
        .hash(&mut digest);
    json.labels.hash(&mut digest);
    (&process.comm, &process.exe, &process.cwd, &process.tty, process.uid).hash(&mut digest);
    let mut pane = DefaultHasher::new();
    (&process.pane, process.pane_stale, &process.mux_socket).hash(&mut pane);
    Digest { fields: digest.finish(), pane: pane.finish(), exec_id: process.exec_id }
}

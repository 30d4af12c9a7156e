//! The map and its one owner.

use alloc::vec::Vec;

use crate::change::Sink;
use crate::ids::{BootTime, ProcessKey, Tgid};
use crate::input::Input;
use crate::process::Process;
use crate::session::{Rule, Session};

/// Counters of what the core met. All since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Gaps opened.
    pub gaps: u64,
    /// Healing passes that ended.
    pub resyncs: u64,
    /// Fields or processes that a pass found different with no loss to explain it.
    pub drift_total: u64,
    /// Records for processes that the map does not hold.
    pub orphans: u64,
}

/// What the core is told once.
#[derive(Debug, Default)]
pub struct Settings {
    /// Session rules, first match wins.
    pub rules: Vec<Rule>,
    /// Names of the environment variables to keep.
    pub env: Vec<Vec<u8>>,
    /// Inode number of the host's own mount namespace.
    pub host_mnt_ns: u32,
}

/// The map of live processes and sessions.
#[derive(Debug)]
pub struct Core {
    _settings: Settings,
}

impl Core {
    /// An empty map; feed it a pass first.
    pub fn new(settings: Settings) -> Self {
        Self { _settings: settings }
    }

    /// Realtime minus boot time, ns, for processes first seen from here on.
    pub fn set_wall_offset(&mut self, _ns: i64) {}

    /// Handles one input; says what follows from it through `sink`.
    pub fn handle(&mut self, _input: Input<'_>, _sink: &mut impl Sink) {}

    /// When [`Input::Tick`] is next due.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        None
    }

    /// Every live process, by tgid.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        core::iter::empty()
    }

    /// The live process that has this tgid.
    pub fn process(&self, _tgid: Tgid) -> Option<&Process> {
        None
    }

    /// The live process with this key.
    pub fn process_by_key(&self, _key: ProcessKey) -> Option<&Process> {
        None
    }

    /// Every session row, by home; ended ones included, as far as they are kept. The process is the primary as
    /// last known.
    pub fn sessions(&self) -> impl Iterator<Item = (&Session, &Process)> {
        core::iter::empty()
    }

    /// While true, the map may be wrong: events were lost and not healed yet.
    pub fn in_gap(&self) -> bool {
        false
    }

    /// Counters.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }
}

//! The map and its one owner: what goes in, what can be asked. What each input does is in `records` and
//! `resync`; sessions are `sessions`'.

mod passes;
mod records;
mod resync;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use observer_common::record::hint;

use crate::core::passes::Passes;
use crate::input::Input;
use crate::model::change::{Change, Sink};
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::process::Process;
use crate::processes::entry::Entry;
use crate::processes::fields::Diff;
use crate::processes::merge::Image;
use crate::processes::table::Table;
use crate::session::{Rule, Session};
use crate::sessions::Sessions;

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
    /// Exits of processes that had ended already: the second thread of a pair that died at once, or a death that a
    /// pass had told first.
    pub duplicate_exits: u64,
    /// Dead processes forgotten before their time.
    pub tombstones_dropped: u64,
    /// Differences counted as drift without waiting for their record.
    pub suspects_dropped: u64,
    /// Homes of dead ancestors forgotten.
    pub helper_of_dropped: u64,
    /// Processes left with a dead parent.
    pub parents_unresolved: u64,
    /// Ended sessions forgotten.
    pub sessions_dropped: u64,
}

/// What the core is told once.
#[derive(Debug, Default)]
pub struct Settings {
    /// Session rules, first match wins.
    pub rules: Vec<Rule>,
    /// Names of the environment variables to keep.
    pub env: Vec<Vec<u8>>,
    /// Inode number of the host's own mount namespace; 0 unknown: homes of all namespaces are then the host's.
    pub host_mnt_ns: u32,
}

/// The map of live processes and sessions.
#[derive(Debug)]
pub struct Core {
    pub(crate) settings: Settings,
    pub(crate) wall_offset_ns: i64,
    /// The latest moment heard of.
    pub(crate) now: BootTime,
    pub(crate) table: Table,
    pub(crate) sessions: Sessions,
    pub(crate) passes: Passes,
    pub(crate) counters: Counters,
    /// User-mode helpers between birth and exec.
    pub(crate) embryos: BTreeSet<ProcessKey>,
}

impl Core {
    /// An empty map; feed it a pass first.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            wall_offset_ns: 0,
            now: BootTime::default(),
            table: Table::default(),
            sessions: Sessions::default(),
            passes: Passes::default(),
            counters: Counters::default(),
            embryos: BTreeSet::new(),
        }
    }

    /// Realtime minus boot time, ns, for processes first seen from here on.
    pub fn set_wall_offset(&mut self, ns: i64) {
        self.wall_offset_ns = ns;
    }

    /// Handles one input; says what follows from it through `sink`.
    pub fn handle(&mut self, input: Input<'_>, sink: &mut impl Sink) {
        let sink: &mut dyn Sink = sink;
        match input {
            Input::Fork { at, key, facts, creator } => self.fork(at, key, &facts, creator, sink),
            Input::Exec { at, key, facts, exe, filename, argv, env } => {
                self.exec(at, key, &facts, &Image { exe, filename, argv, env }, sink);
            }
            Input::Exit { at, key, raw_status, by_leader: _, led_sid } => {
                self.exit(at, key, raw_status, led_sid, sink);
            }
            Input::Cwd { at, key, cwd, mnt_ns, path, fs_shared } => {
                if fs_shared {
                    self.hint(at, hint::FS_SHARED, sink);
                }
                self.update(at, key, Diff::MOVED, sink, |entry| {
                    entry.merge_cwd_record(at, cwd, mnt_ns, path, fs_shared)
                });
            }
            Input::Comm { at, key, comm } => {
                self.update(at, key, Diff::COMM, sink, |entry| entry.merge_comm(at, comm).into());
            }
            Input::Creds { at, key, uids } => {
                self.update(at, key, Diff::UIDS, sink, |entry| entry.merge_uids(at, uids).into());
            }
            Input::Ids { at, key, sid, pgid, tty } => {
                self.update(at, key, Diff::IDS, sink, |entry| entry.merge_ids(at, sid, pgid, tty).into());
            }
            Input::Cgroup { at, key, cgroup_id, path } => {
                self.update(at, key, Diff::CGROUP, sink, |entry| {
                    entry.merge_cgroup_record(at, cgroup_id, path)
                });
            }
            Input::Hint { at, bits } => self.hint(at, bits, sink),
            Input::Dropped { at, total } => self.dropped(at, total, sink),
            Input::PassBegin { at, drops_total } => self.pass_begin(at, drops_total, sink),
            Input::PassRow(row) => self.pass_row(&row, sink),
            Input::PassEnd { at, complete } => self.pass_end(at, complete, sink),
            Input::Memory { at, key, exec_id, argv, env } => {
                self.memory(at, key, exec_id, (argv, env), sink);
            }
            Input::HomeOwner { at, path, uid } => {
                self.hear(at);
                self.sessions_ctx(at, sink, |sessions, ctx| sessions.owner_known(ctx, path, uid));
            }
            Input::Resume { at, known } => {
                self.hear(at);
                self.sessions_ctx(at, sink, |sessions, ctx| sessions.resume(ctx, &known));
            }
            Input::Tick { at } => self.tick(at, sink),
        }
    }

    /// When [`Input::Tick`] is next due. Other inputs do not stand in for it.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        [self.passes.poll_timeout(), self.sessions.poll_timeout()].into_iter().flatten().min()
    }

    /// Every live process, by tgid.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.table.iter().map(|entry| &entry.process)
    }

    /// How many processes live.
    pub fn process_count(&self) -> usize {
        self.table.len()
    }

    /// The live process that has this tgid.
    pub fn process(&self, tgid: Tgid) -> Option<&Process> {
        self.table.by_tgid(tgid).map(|entry| &entry.process)
    }

    /// The live process with this key.
    pub fn process_by_key(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(key).map(|entry| &entry.process)
    }

    /// Every session row, by home; ended ones included, as far as they are kept. The process is the primary as
    /// last known.
    pub fn sessions(&self) -> impl Iterator<Item = (&Session, &Process)> {
        self.sessions.rows(&self.table)
    }

    /// While true, the map may be wrong: no pass was complete yet, or events were lost and not healed yet.
    pub fn in_gap(&self) -> bool {
        self.passes.gap.is_some() || !self.passes.first_done
    }

    /// Counters.
    pub fn counters(&self) -> Counters {
        Counters {
            tombstones_dropped: self.table.tombstones_dropped(),
            suspects_dropped: self.passes.suspects_dropped,
            helper_of_dropped: self.table.helper_of_dropped,
            sessions_dropped: self.sessions.homes.dropped,
            ..self.counters
        }
    }

    /// Time does not go back, whatever order records come in.
    pub(crate) fn hear(&mut self, at: BootTime) {
        self.now = self.now.max(at);
    }

    /// Says what changed of a live process, and lets its sessions follow.
    pub(crate) fn say(&mut self, at: BootTime, key: ProcessKey, diff: Diff, sink: &mut dyn Sink) {
        let Some(entry) = self.table.get(key).filter(|_| !diff.none()) else { return };
        say_diff(at, entry, diff, sink);
        self.sessions_ctx(at, sink, |sessions, ctx| sessions.changed(ctx, key, diff));
    }

    pub(crate) fn insert(&mut self, entry: Box<Entry>, lineage: Option<ProcessKey>) {
        self.table.insert(entry, lineage);
    }
}

fn say_diff(at: BootTime, entry: &Entry, diff: Diff, sink: &mut dyn Sink) {
    let row = &entry.process;
    if diff.has(Diff::EXEC) {
        sink.change(at, Change::ProcessExeced(row));
        return;
    }
    if diff.has(Diff::MOVED) {
        sink.change(at, Change::ProcessMoved(row));
    }
    if !diff.without(Diff::MOVED).none() {
        sink.change(at, Change::ProcessChanged(row));
    }
}

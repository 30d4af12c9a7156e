//! The one owner of the map: it takes every input and answers every query. `records` and `resync` contain
//! what each input does.

mod births;
mod costs;
mod counting;
mod left_counts;
mod leftovers;
mod open_deaths;
mod panes;
mod passes;
mod records;
mod resync;
mod suspects;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use observer_common::record::hint;

use crate::core::counting::Counting;
use crate::core::passes::Passes;
use crate::input::Input;
use crate::model::change::{Change, Sink};
use crate::model::explanation::Explanation;
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::label::LabelVariable;
use crate::model::process::Process;
use crate::model::rule::{Ignore, Rule};
use crate::model::session::{Home, OverLimit, Session, Undecided, UndecidedUser, UnreadArguments};
use crate::processes::early_births::EarlyBirths;
use crate::processes::entry::ProcessEntry;
use crate::processes::fields::Diff;
use crate::processes::left_counts::LeftCounts;
use crate::processes::merge::{Image, ValueStore};
use crate::processes::oom::KernelKills;
use crate::processes::open_deaths::OpenDeaths;
use crate::processes::table::ProcessTable;
use crate::sessions::explain::Basis;
use crate::sessions::{IgnoreList, SessionContext, Sessions};

/// What the core counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreCounters {
    /// Gaps that were opened.
    pub gaps: u64,
    /// Complete passes that ended while a gap was open.
    pub resyncs: u64,
    /// Fields or processes that a pass found different with no loss to explain it.
    pub drift_total: u64,
    /// Records of processes that the map does not hold.
    pub orphans: u64,
    /// Exits of processes that had ended already: the second thread of a pair that left at once, or a death
    /// that a pass had shown first.
    pub duplicate_exits: u64,
    /// Dead processes that were forgotten before their time.
    pub tombstones_dropped: u64,
    /// Differences that counted as drift without waiting for their record.
    pub suspects_dropped: u64,
    /// Processes that were left with a dead parent.
    pub parents_unresolved: u64,
    /// Ended sessions that were forgotten.
    pub sessions_dropped: u64,
    /// Processes that a rule admitted to a home with too many candidates.
    pub candidates_left_out: u64,
    /// Sessions that did not begin, because their users had too many.
    pub sessions_left_out: u64,
    /// How often it was looked where a candidate is among the others of its home: what elections cost.
    pub candidates_placed: u64,
    /// Processes that were looked at as ancestors of others, or because all were looked at: what an event costs beyond itself.
    pub processes_visited: u64,
    /// Processes left by sessions that no report names, because these left too many.
    pub left_unnamed: u64,
    /// Sessions of which it was not counted what they left: they left too many, or too many sessions ended at once.
    pub left_uncounted: u64,
    /// Signals to a process that were forgotten before it ended, because too many others came to it.
    pub signals_forgotten: u64,
    /// Kills by the kernel itself that were forgotten before a mark of a victim could be for them, and such marks before the
    /// kills that could follow them.
    pub kernel_kills_forgotten: u64,
    /// Deaths by such a kill that did not wait for a mark, because too many did.
    pub deaths_hurried: u64,
    /// Births of processes that ended before the sessions were known that there were, and that were forgotten until then,
    /// because there were too many.
    pub births_forgotten: u64,
}

/// The configuration of the core.
#[derive(Debug, Default)]
pub struct Settings {
    /// Session rules; the first that admits a process decides.
    pub rules: Vec<Rule>,
    /// Processes that no rule admits.
    pub ignored: Vec<Ignore>,
    /// Names of the environment variables to keep.
    pub env: Vec<Vec<u8>>,
    /// Environment variables that label sessions.
    pub labels: Vec<LabelVariable>,
    /// Inode number of the host's own mount namespace. With 0 (unknown) homes of all namespaces count as the
    /// host's.
    pub host_mnt_ns: u32,
    /// The kernel's marks of victims of its lack of memory are reported: deaths by the kernel's own SIGKILL wait for them.
    pub awaits_oom_marks: bool,
    /// Known sessions follow the first pass: there are no sessions before [`Input::Resume`].
    pub awaits_known: bool,
}

impl Settings {
    fn ignore_list(&self) -> IgnoreList<'_> {
        IgnoreList { entries: &self.ignored, host_mnt_ns: self.host_mnt_ns }
    }
}

/// The map of live processes and sessions.
#[derive(Debug)]
pub struct Core {
    pub(crate) settings: Settings,
    wall_offset_ns: i64,
    /// The latest timestamp of any input.
    pub(crate) now: BootTime,
    pub(crate) table: ProcessTable,
    pub(crate) sessions: Sessions,
    passes: Passes,
    counting: Counting,
    counters: CoreCounters,
    /// User-mode helpers that were born and have not exec'd.
    unexeced_helpers: BTreeSet<ProcessKey>,
    kernel_kills: KernelKills,
    open_deaths: OpenDeaths,
    early_births: EarlyBirths,
    /// Of what was born before this it may be unknown that it was born in a session.
    births_unknown_until: Option<BootTime>,
    left_counts: LeftCounts,
    store: ValueStore,
}

impl Core {
    /// Returns an empty map. The first complete pass fills it.
    pub fn new(mut settings: Settings) -> Self {
        let env = core::mem::take(&mut settings.env);
        let labels = variables(&settings.labels);
        let table = ProcessTable::new(settings.host_mnt_ns);
        Self {
            settings,
            wall_offset_ns: 0,
            now: BootTime::default(),
            table,
            sessions: Sessions::default(),
            passes: Passes::default(),
            counting: Counting::default(),
            counters: CoreCounters::default(),
            unexeced_helpers: BTreeSet::new(),
            kernel_kills: KernelKills::default(),
            open_deaths: OpenDeaths::default(),
            early_births: EarlyBirths::default(),
            births_unknown_until: None,
            left_counts: LeftCounts::default(),
            store: ValueStore { env, labels, ..ValueStore::default() },
        }
    }

    /// Sets realtime minus boot time, ns, for the processes first seen from here on.
    pub fn set_wall_offset(&mut self, ns: i64) {
        self.wall_offset_ns = ns;
    }

    /// Applies one input and reports what follows from it to `sink`.
    pub fn handle(&mut self, input: Input<'_>, sink: &mut impl Sink) {
        let sink: &mut dyn Sink = sink;
        // Time does not go back, whatever the order in which records arrive.
        self.now = self.now.max(input.at());
        match input {
            Input::Fork { at, key, facts, creator } => self.apply_fork(at, key, &facts, creator, sink),
            Input::Exec { at, key, facts, exe, filename, argv, env } => {
                self.apply_exec(at, key, &facts, &Image { exe, filename, argv, env }, sink);
            }
            Input::Exit { at, key, raw_status, led_sid, usage } => {
                self.apply_exit(at, key, (raw_status, usage), led_sid, sink);
            }
            Input::Release { key, cpu_ns, .. } => self.table.released(key, cpu_ns),
            Input::Cwd { at, key, cwd, mnt_ns, path, fs_shared } => {
                if fs_shared {
                    self.apply_hint(hint::FS_SHARED, sink);
                }
                self.apply_fields(at, key, Diff::MOVED, sink, |entry, store| {
                    entry.merge_cwd_record(at, cwd, mnt_ns, path, fs_shared, &mut store.recent)
                });
            }
            Input::Comm { at, key, comm } => {
                self.apply_fields(at, key, Diff::COMM, sink, |entry, _| entry.merge_comm(at, comm).into());
            }
            Input::Creds { at, key, uids } => {
                self.apply_fields(at, key, Diff::UIDS, sink, |entry, _| entry.merge_uids(at, uids).into());
            }
            Input::Ids { at, key, sid, pgid, tty } => {
                self.apply_fields(at, key, Diff::IDS, sink, |entry, _| {
                    entry.merge_ids(at, sid, pgid, tty).into()
                });
            }
            Input::Cgroup { at, key, cgroup_id, path } => {
                self.apply_fields(at, key, Diff::CGROUP_ID, sink, |entry, _| {
                    entry.merge_cgroup_record(at, cgroup_id, path)
                });
            }
            Input::Signal { key, sent, context } => self.apply_signal(key, sent, context),
            Input::OomVictim { at, caller, thread, scope } => {
                self.apply_oom_victim(at, (caller, thread), scope, sink);
            }
            Input::Hint { bits, .. } => self.apply_hint(bits, sink),
            Input::Dropped { at, total } => self.apply_drops(at, total, sink),
            Input::PassBegin { at, drops_total } => self.begin_pass(at, drops_total, sink),
            Input::PassRow(row) => self.apply_row(&row, sink),
            Input::LoneRow(row) => self.apply_lone_row(&row, sink),
            Input::PassEnd { at, complete } => self.end_pass(at, complete, sink),
            Input::Memory { at, key, exec_id, argv, env } => {
                self.apply_memory(at, key, exec_id, (argv, env), sink);
            }
            Input::ResidentPages { at, began } => self.apply_resident_pages(at, began, sink),
            Input::HomeOwner { at, home, owner } => {
                self.with_sessions(at, sink, |sessions, ctx| sessions.owner_known(ctx, home, owner));
            }
            Input::Resume { at, known, left, births } => {
                self.settings.awaits_known = false;
                self.resume_births(at, known, left, births, sink);
                self.with_sessions(at, sink, |sessions, ctx| sessions.resume(ctx, known));
                left.iter().for_each(|left| self.resume_left(left));
                self.resume_replaced(at, known, births);
            }
            Input::Tick { at } => self.apply_tick(at, sink),
        }
    }

    /// Replaces the rules, and reports what follows from that for the sessions.
    pub fn set_rules(&mut self, at: BootTime, rules: Vec<Rule>, ignored: Vec<Ignore>, sink: &mut impl Sink) {
        self.now = self.now.max(at);
        self.settings.rules = rules;
        self.settings.ignored = ignored;
        if self.passes.first_done {
            self.with_sessions(at, sink, Sessions::reload);
        }
    }

    /// Replaces the variables that label sessions, and reports what follows from that for the sessions.
    pub fn set_labels(&mut self, at: BootTime, labels: Vec<LabelVariable>, sink: &mut impl Sink) {
        self.now = self.now.max(at);
        self.store.labels = variables(&labels);
        let former = core::mem::replace(&mut self.settings.labels, labels);
        if former != self.settings.labels {
            self.with_sessions(at, sink, |sessions, ctx| sessions.relabel(ctx, &former));
        }
    }

    /// Says whether events of the kernel do not come through. A gap that is open then, or opens, stays open: what a pass
    /// reads does not show what happens after it. The next pass after the end of that closes it. `since`: the last time up
    /// to which events are known to have come; `None`: they come.
    pub fn set_blind(&mut self, since: Option<BootTime>) {
        self.passes.is_blind = since.is_some();
        if let Some(since) = since {
            self.passes.lossless_until = self.passes.lossless_until.min(since);
        }
    }

    /// Returns whether any variable labels sessions, so that the environment of every process is worth reading.
    pub fn has_labels(&self) -> bool {
        !self.settings.labels.is_empty()
    }

    /// Returns when [`Input::Tick`] is next due. No other input replaces it.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let due = [self.passes.poll_timeout(), self.sessions.poll_timeout(), self.left_counts.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// Returns whether the next [`Input::Tick`], at `now`, counts as drift what a pass found different and nothing explains.
    pub fn counts_drift(&self, now: BootTime) -> bool {
        self.passes.suspects.poll_timeout().is_some_and(|due| due <= now)
    }

    /// Returns every live process, in the order of tgids.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.table.iter().map(|entry| &entry.process)
    }

    /// Returns the number of live processes.
    pub fn process_count(&self) -> usize {
        self.table.len()
    }

    /// Returns the live process that has this tgid.
    pub fn process(&self, tgid: Tgid) -> Option<&Process> {
        self.table.by_tgid(tgid).map(|entry| &entry.process)
    }

    /// Returns the live process that has this key.
    pub fn process_by_key(&self, key: ProcessKey) -> Option<&Process> {
        self.table.get(key).map(|entry| &entry.process)
    }

    /// Returns every session in the order of homes, each with its primary as last known. Ended sessions are
    /// included as far as they are kept.
    pub fn sessions(&self) -> impl Iterator<Item = (&Session, &Process)> {
        self.sessions.iter(&self.table)
    }

    /// Returns the session of `home`, if it has one, with its primary as last known.
    pub fn session(&self, home: &Home) -> Option<(&Session, &Process)> {
        self.sessions.get(&self.table, home)
    }

    /// Returns whether the sessions that were known before are to be given, and nobody is elected before that.
    pub fn awaits_known(&self) -> bool {
        self.settings.awaits_known
    }

    /// Returns the homes of which it cannot be said whether they have a session, in no particular order.
    pub fn undecided(&self) -> impl Iterator<Item = Undecided> {
        self.sessions.undecided(&self.table, &self.settings.rules)
    }

    /// Returns users who may have sessions of which not even the name is known.
    pub fn undecided_users(&self) -> Vec<UndecidedUser> {
        self.sessions.undecided_users(&self.basis())
    }

    /// Returns what may be sessions of processes whose arguments are not known.
    pub fn unread_arguments(&self) -> UnreadArguments {
        self.sessions.unread_arguments(&self.basis())
    }

    /// Returns the primaries of sessions of which it is not known yet whether they are foreign: the owner of their home is being
    /// read for the first time.
    pub fn awaiting_owners(&self) -> impl Iterator<Item = ProcessKey> {
        self.sessions.awaiting_owners()
    }

    /// Returns the candidates of homes that have no session because their users have
    /// [`SESSIONS_A_USER_MAX`](crate::limits::SESSIONS_A_USER_MAX).
    pub fn over_limit(&self) -> OverLimit {
        self.sessions.over_limit(&self.table, &self.settings.rules)
    }

    /// Explains why a process is the session of a home, or is not. `None`: the process is not in the map.
    pub fn explain(&self, tgid: Tgid) -> Option<Explanation> {
        let key = self.table.by_tgid(tgid)?.process.key;
        self.sessions.explain(&self.basis(), key)
    }

    /// Returns what sessions are explained by.
    fn basis(&self) -> Basis<'_> {
        Basis {
            rules: &self.settings.rules,
            ignored: self.settings.ignore_list(),
            host_mnt_ns: self.settings.host_mnt_ns,
            table: &self.table,
            now: self.now,
        }
    }

    /// Returns whether the map may be wrong: no pass was complete yet, or records were lost and no pass has
    /// healed that yet.
    pub fn in_gap(&self) -> bool {
        self.passes.gap.is_some() || !self.passes.first_done
    }

    /// Returns what the core counted since it was made.
    pub fn counters(&self) -> CoreCounters {
        CoreCounters {
            tombstones_dropped: self.table.tombstones_dropped(),
            suspects_dropped: self.passes.suspects.dropped,
            sessions_dropped: self.sessions.homes.dropped,
            candidates_left_out: self.sessions.homes.left_out,
            candidates_placed: self.sessions.homes.placed,
            processes_visited: self.table.visited(),
            sessions_left_out: self.sessions.homes.of_users.dropped,
            kernel_kills_forgotten: self.kernel_kills.forgotten,
            ..self.counters
        }
    }

    /// Lets the sessions follow an event whose cause was at `at`.
    fn with_sessions(
        &mut self,
        at: BootTime,
        sink: &mut dyn Sink,
        follow: impl FnOnce(&mut Sessions, &mut SessionContext<'_>),
    ) {
        // Until the first pass is complete, sessions would depend on the order in which it shows the processes.
        if !self.passes.first_done {
            return;
        }
        let mut ctx = SessionContext {
            rules: &self.settings.rules,
            ignored: self.settings.ignore_list(),
            labels: &self.settings.labels,
            host_mnt_ns: self.settings.host_mnt_ns,
            table: &mut self.table,
            now: self.now,
            at,
            sink,
        };
        self.sessions.forget_reported();
        follow(&mut self.sessions, &mut ctx);
        self.sessions.elect_relinked(&mut ctx);
        self.sessions.elect_over_limit(&mut ctx);
    }

    /// Reports the changed fields of a live process, and lets its sessions follow.
    fn report_fields(&mut self, at: BootTime, key: ProcessKey, diff: Diff, sink: &mut dyn Sink) {
        let located = if diff.intersects(Diff::LOCATING) { self.locate(key) } else { Diff::default() };
        let diff = diff | located;
        let Some(entry) = self.table.get(key).filter(|_| !diff.is_empty()) else { return };
        report_diff(at, entry, diff, sink);
        let is_image = diff.intersects(Diff::EXEC | Diff::IMAGE | Diff::ARGUMENTS);
        self.with_sessions(at, sink, |sessions, ctx| {
            sessions.changed(ctx, key, diff);
            if is_image {
                sessions.executed(ctx, key);
            }
        });
        // A terminal of its own is no reason to look at others: a process can change it a million times a second.
        if diff.intersects(Diff::EXEC | Diff::IMAGE) {
            self.locate_decided(at, key, sink);
        }
    }
}

/// The names of the variables of labels.
fn variables(labels: &[LabelVariable]) -> Vec<Vec<u8>> {
    labels.iter().map(|label| label.variable.clone()).collect()
}

fn report_diff(at: BootTime, entry: &ProcessEntry, diff: Diff, sink: &mut dyn Sink) {
    let process = &entry.process;
    if diff.intersects(Diff::EXEC) {
        sink.change(at, Change::ProcessExeced(process));
        return;
    }
    if diff.intersects(Diff::MOVED) {
        sink.change(at, Change::ProcessMoved(process));
    }
    if !diff.without(Diff::MOVED).is_empty() {
        sink.change(at, Change::ProcessChanged(process));
    }
}

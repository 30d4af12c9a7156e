//! Finds where the candidates of a home are among its others, in one election. Of most processes above them, such as shells that no
//! rule admits, only the terminal matters: each of these is looked at once, however many candidates are below it. Those that may
//! decide, which are candidates and primaries, become landmarks, by which each candidate below finds the one that does. One
//! candidate alone looks at all of them, as that is cheaper.

use alloc::sync::Arc;

use crate::limits::{LAUNCHERS_MAX, LINEAGE_STEPS_MAX};
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::context::SessionContext;
use crate::sessions::homes::HomeState;
use crate::sessions::roots::{Between, LineagePosition, roots_by};
use crate::sessions::stops::{LineageSource, Stop, Stops, left_at};

/// A stop above a process, as the process sees it.
struct View<'a> {
    stop: &'a Stop,
    /// A process that no rule admits, and that has another terminal than this one, is between.
    is_cut_off: bool,
    /// The process has another terminal than this ancestor.
    has_own_terminal: bool,
}

impl View<'_> {
    /// Returns whether it takes what it started for its own, if that is of its home.
    fn takes(&self) -> bool {
        self.stop.is_wrapper || !self.has_own_terminal
    }
}

/// The lineages of the candidates of one home. They hold as long as no process, no candidate and no session changes.
pub(super) struct Lineages {
    stops: Stops,
}

impl Lineages {
    /// Returns lineages of `count` candidates of `home`, of which nothing was looked at yet. `primary` has the home's session.
    pub fn new(home: &Arc<Home>, now: BootTime, count: usize, primary: Option<ProcessKey>) -> Self {
        Self { stops: Stops::new(home, now, primary, count > 1) }
    }

    /// Returns lineages of several candidates of `home`, or of the same place, that may lead to `sought`.
    pub fn to(home: &Arc<Home>, now: BootTime, sought: ProcessKey) -> Self {
        let mut stops = Stops::new(home, now, None, true);
        stops.sought = Some(sought);
        Self { stops }
    }

    /// Returns whether the process to which lineages lead, `sought`, is above `entry`.
    pub fn has_above(&mut self, source: LineageSource<'_>, entry: &ProcessEntry, sought: ProcessKey) -> bool {
        self.find(source, entry, |above| (above.stop.key == sought).then_some(())).is_some()
    }

    /// The same as [`position`](crate::sessions::roots::position). `primary` is who has the session of the home, or nobody.
    pub fn position(
        &mut self,
        source: LineageSource<'_>,
        entry: &ProcessEntry,
        primary: Option<ProcessKey>,
    ) -> LineagePosition {
        if !self.stops.are_shared {
            return self.position_alone(source, entry, primary);
        }
        debug_assert!(primary.is_none() || primary == self.stops.primary, "nobody else has the session");
        let decider = self.stops.view(source, entry).and_then(|view| {
            source.table.count_visits(1);
            self.stops.landmarks().decider(&view, primary.is_some())
        });
        let stop = decider.and_then(|at| self.stops.of_landmark(at));
        stop.map_or(LineagePosition::Root, |stop| {
            let has_own_terminal = entry.process.tty.is_some() && entry.process.tty != stop.tty;
            let is_here = stop.is_here || Some(stop.key) == primary;
            if is_here && (stop.is_wrapper || !has_own_terminal) {
                LineagePosition::Below(stop.key)
            } else {
                LineagePosition::Helper(stop.key)
            }
        })
    }

    /// The same, of one candidate.
    fn position_alone(
        &mut self,
        source: LineageSource<'_>,
        entry: &ProcessEntry,
        primary: Option<ProcessKey>,
    ) -> LineagePosition {
        let found = self.find(source, entry, |above| {
            let stop = above.stop;
            if above.is_cut_off {
                None
            } else if (stop.is_here || Some(stop.key) == primary) && above.takes() {
                Some(LineagePosition::Below(stop.key))
            } else if stop.is_primary_elsewhere && !above.has_own_terminal {
                Some(LineagePosition::Helper(stop.key))
            } else {
                None
            }
        });
        found.unwrap_or(LineagePosition::Root)
    }

    /// Returns from when it is known whether a process above `entry`, a candidate of the home, is a session that moved into
    /// another home, or that outlived the candidate that started it: what it started is its helper then. What takes `entry` for
    /// its own in the home, such as a wrapper, may be that helper, whatever terminal `entry` has. `None`: that is known.
    pub fn settles_above(&mut self, source: LineageSource<'_>, entry: &ProcessEntry) -> Option<BootTime> {
        let mut latest = None;
        let mut at = Some(entry);
        for _ in 0..LAUNCHERS_MAX {
            let Some(below) = at.take() else { break };
            let (settles, above) = self.settles_below_taker(source, below);
            latest = latest.max(settles);
            at = above.and_then(|above| source.table.get(above));
        }
        latest
    }

    /// Returns what takes `below` for its own in the home, and the latest time at which it is known of a process up to there
    /// whether it is a session.
    fn settles_below_taker(
        &mut self,
        source: LineageSource<'_>,
        below: &ProcessEntry,
    ) -> (Option<BootTime>, Option<ProcessKey>) {
        if self.stops.are_shared {
            let Some(view) = self.stops.view(source, below) else { return (None, None) };
            let taker = self.stops.landmarks().taker(&view);
            let settling = self.stops.landmarks().settling(&view, taker);
            let settling = settling.inspect(|_| source.table.count_visits(1));
            let latest = settling.filter_map(|at| self.stops.of_landmark(at)?.settles).max();
            source.table.count_visits(1);
            return (latest, taker.and_then(|at| self.stops.of_landmark(at)).map(|stop| stop.key));
        }
        let mut latest = None;
        let taker = self.find(source, below, |above| {
            if above.is_cut_off {
                return None;
            }
            if !above.has_own_terminal {
                latest = latest.max(above.stop.settles);
            }
            (above.stop.is_here && above.takes()).then_some(above.stop.key)
        });
        (latest, taker)
    }

    /// Returns when the last candidate of the home ended that had started `entry`, or one of its ancestors. `None`: that was
    /// not lately.
    pub fn left_at(&mut self, source: LineageSource<'_>, entry: &ProcessEntry) -> Option<BootTime> {
        let mut last = left_at(entry, &self.stops.home);
        if self.stops.are_shared {
            let Some(view) = self.stops.view(source, entry) else { return last };
            let left_behind =
                self.stops.landmarks().left_behind(&view).inspect(|_| source.table.count_visits(1));
            let above = left_behind.filter_map(|at| self.stops.of_landmark(at)?.left_at).max();
            return last.max(above);
        }
        self.find(source, entry, |above| -> Option<()> {
            last = last.max(above.stop.left_at);
            None
        });
        last
    }

    /// The same as [`instance_above`](crate::sessions::roots::instance_above).
    pub fn instance_above(&mut self, source: LineageSource<'_>, entry: &ProcessEntry) -> Option<Arc<Home>> {
        let found = self.find(source, entry, |above| {
            let stop = above.stop;
            if above.is_cut_off {
                None
            } else if stop.instance.is_some() && above.takes() {
                Some(stop.instance.clone())
            } else {
                (stop.is_here || (stop.is_primary && !above.has_own_terminal)).then_some(None)
            }
        });
        found.flatten()
    }

    /// Returns the first value that `decide` returns for a stop above `entry`, the nearest first.
    fn find<T>(
        &mut self,
        source: LineageSource<'_>,
        entry: &ProcessEntry,
        mut decide: impl FnMut(View<'_>) -> Option<T>,
    ) -> Option<T> {
        let own = entry.process.tty;
        let mut passed = self.stops.look_up(source, entry.process.lineage);
        let (mut between, mut steps) = (Between::default(), 0);
        loop {
            between.add_all(passed.between);
            steps += passed.steps;
            let at = passed.to.filter(|_| steps <= LINEAGE_STEPS_MAX)?;
            source.table.count_visits(1);
            let stop = self.stops.get(at)?;
            let has_own_terminal = own.is_some() && own != stop.tty;
            let view = View { stop, is_cut_off: between.has_other_than(stop.tty), has_own_terminal };
            if let Some(found) = decide(view) {
                return Some(found);
            }
            if stop.is_plain {
                between.add(stop.tty);
            }
            passed = self.stops.above(source, at)?;
        }
    }
}

impl Sessions {
    /// Returns lineages of the candidates of `home`.
    pub(super) fn lineages(&self, ctx: &SessionContext<'_>, home: &Arc<Home>) -> Lineages {
        let state = self.homes.by_home.get(home);
        let count = state.map_or(0, |state| state.candidates.len());
        Lineages::new(home, ctx.now, count, state.and_then(HomeState::current_primary))
    }

    /// Returns what lineages are read from.
    pub(super) fn lineage_source<'a>(&'a self, table: &'a ProcessTable) -> LineageSource<'a> {
        LineageSource { table, homes: &self.homes, settling: &self.settling }
    }

    /// Finds the roots of the home of `lineages`. `primary` counts as a candidate also while it is elsewhere.
    pub(super) fn find_roots(
        &mut self,
        ctx: &SessionContext<'_>,
        lineages: &mut Lineages,
        primary: Option<ProcessKey>,
    ) {
        let home = Arc::clone(&lineages.stops.home);
        let source = self.lineage_source(ctx.table);
        let position = |entry: &ProcessEntry| lineages.position(source, entry, primary);
        let found = roots_by(ctx.table, &self.homes, &home, primary, position);
        let Some(state) = self.homes.by_home.get_mut(&home) else { return };
        self.homes.placed += state.candidates.len() as u64;
        // Who could be no session beside the former roots may be one beside these.
        if state.roots != found {
            self.relinked.extend(self.passed_over.in_home(&home).map(age));
            state.roots = found;
            // Roots also become helpers, and count as such then.
            if self.left_out.has_any(&home) {
                self.changed_roots.insert(home);
            }
        }
    }
}

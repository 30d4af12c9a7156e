//! Finds where the candidates of a home are among its others, in one election. Of most processes above them, such as shells that no
//! rule admits, only the terminal matters: each of these is looked at once, however many candidates are below it. Those that may
//! decide, which are candidates and primaries, are looked at by each candidate below them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{LAUNCHERS_MAX, LINEAGE_STEPS_MAX, SETTLE_NS};
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::process::Tty;
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::Sessions;
use crate::sessions::by_age::age;
use crate::sessions::context::SessionContext;
use crate::sessions::homes::Homes;
use crate::sessions::roots::{Between, LineagePosition, may_be_above, roots_by};
use crate::sessions::settling::Settling;

/// What lineages are read from.
#[derive(Clone, Copy)]
pub(super) struct LineageSource<'a> {
    pub table: &'a ProcessTable,
    pub homes: &'a Homes,
    pub settling: &'a Settling,
}

/// An ancestor that may decide about candidates of the home below it.
struct Stop {
    key: ProcessKey,
    tty: Option<Tty>,
    /// Its nearest ancestor.
    lineage: Option<ProcessKey>,
    /// No rule admits it, and it has no session.
    is_plain: bool,
    /// By [`may_be_above`].
    is_here: bool,
    is_wrapper: bool,
    /// It is the primary of a session.
    is_primary: bool,
    /// It is the primary of a session of another home.
    is_primary_elsewhere: bool,
    /// The instance of the home to which it belongs.
    instance: Option<Arc<Home>>,
    /// From when it is known whether it is a session, if that is later than now.
    settles: Option<BootTime>,
    /// When a candidate of the home ended that had started it, if that was lately.
    left_at: Option<BootTime>,
    /// What is above it, once that was looked at.
    above: Option<Passed>,
}

/// What is between a process and the nearest stop above it.
#[derive(Clone, Copy, Default)]
struct Passed {
    between: Between,
    /// The number of steps to the stop.
    steps: usize,
    /// Its index. `None`: there is none.
    to: Option<usize>,
}

impl Passed {
    /// The stop is right above.
    fn to(stop: usize) -> Self {
        Self { to: Some(stop), steps: 1, ..Self::default() }
    }

    /// The same, as seen from right below a process that is between, whose terminal is `tty` if that counts.
    fn behind(mut self, tty: Option<Tty>) -> Self {
        self.between.add(tty);
        self.steps += 1;
        self
    }
}

/// A process above candidates that was looked at.
enum Seen {
    Stop(usize),
    /// It decides nothing.
    Between(Passed),
}

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
    home: Arc<Home>,
    now: BootTime,
    seen: BTreeMap<Tgid, Seen>,
    stops: Vec<Stop>,
    /// Several candidates are placed, so it is worth keeping what was seen.
    are_shared: bool,
    /// A stop, whatever it is.
    sought: Option<ProcessKey>,
}

impl Lineages {
    /// Returns lineages of `count` candidates of `home`, of which nothing was looked at yet.
    pub fn new(home: &Arc<Home>, now: BootTime, count: usize) -> Self {
        let (seen, stops) = (BTreeMap::new(), Vec::new());
        Self { home: Arc::clone(home), now, seen, stops, are_shared: count > 1, sought: None }
    }

    /// Returns lineages of several candidates of `home`, or of the same place, that may lead to `sought`.
    pub fn to(home: &Arc<Home>, now: BootTime, sought: ProcessKey) -> Self {
        Self { are_shared: true, sought: Some(sought), ..Self::new(home, now, 0) }
    }

    /// Returns whether the process to which lineages lead, `sought`, is above `entry`.
    pub fn has_above(&mut self, source: LineageSource<'_>, entry: &ProcessEntry, sought: ProcessKey) -> bool {
        self.find(source, entry, |above| (above.stop.key == sought).then_some(())).is_some()
    }

    /// The same as [`position`](crate::sessions::roots::position). `primary` has a session of this home, if any.
    pub fn position(
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
            let above = self.find(source, below, |above| {
                if above.is_cut_off {
                    return None;
                }
                if !above.has_own_terminal {
                    latest = latest.max(above.stop.settles);
                }
                (above.stop.is_here && above.takes()).then_some(above.stop.key)
            });
            at = above.and_then(|above| source.table.get(above));
        }
        latest
    }

    /// Returns when the last candidate of the home ended that had started `entry`, or one of its ancestors. `None`: that was
    /// not lately.
    pub fn left_at(&mut self, source: LineageSource<'_>, entry: &ProcessEntry) -> Option<BootTime> {
        let mut last = left_at(entry, &self.home);
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
        let mut passed = self.look_up(source, entry.process.lineage);
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
            passed = match stop.above {
                Some(above) => above,
                None => {
                    let above = self.look_up(source, stop.lineage);
                    self.stops.get_mut(at)?.above = Some(above);
                    above
                }
            };
        }
    }

    /// Returns what is between a process and the nearest stop above it. `lineage` is its nearest ancestor.
    fn look_up(&mut self, source: LineageSource<'_>, lineage: Option<ProcessKey>) -> Passed {
        let mut path: Vec<(Tgid, Option<Tty>)> = Vec::new();
        let mut next = lineage;
        let mut passed = loop {
            let Some(entry) = next.and_then(|key| source.table.visit(key)) else {
                break Passed::default();
            };
            let tgid = entry.process.key.tgid;
            let tty = entry.process.tty.filter(|_| is_plain(source.homes, entry));
            match self.seen.get(&tgid) {
                Some(&Seen::Stop(at)) => break Passed::to(at),
                Some(Seen::Between(passed)) => break passed.behind(tty),
                None => {}
            }
            // No walk goes beyond so many steps, so what is there is looked at when somebody comes nearer.
            let must_be = path.len() == LINEAGE_STEPS_MAX || next == self.sought;
            let stop = self.stop(source, entry, must_be);
            if let Some(stop) = stop {
                let at = self.stops.len();
                self.stops.push(stop);
                if self.are_shared {
                    self.seen.insert(tgid, Seen::Stop(at));
                }
                break Passed::to(at);
            }
            path.push((tgid, tty));
            next = entry.process.lineage;
        };
        for (tgid, tty) in path.into_iter().rev() {
            if self.are_shared {
                self.seen.insert(tgid, Seen::Between(passed));
            }
            passed = passed.behind(tty);
        }
        passed
    }

    /// Returns `entry` as a stop, if it may decide anything or it `must_be` one.
    fn stop(&self, source: LineageSource<'_>, entry: &ProcessEntry, must_be: bool) -> Option<Stop> {
        let (home, key) = (&self.home, entry.process.key);
        let is_later = |at: &BootTime| *at > self.now;
        let held = source.homes.home_of_primary(key);
        let candidacy = entry.candidacy.as_ref().map(|candidacy| &candidacy.home);
        let settles = source.settling.waited_for_until(key).or_else(|| goes_on_from(entry));
        let stop = Stop {
            key,
            tty: entry.process.tty,
            lineage: entry.process.lineage,
            is_plain: candidacy.is_none() && held.is_none(),
            is_here: may_be_above(entry, home),
            is_wrapper: entry.is_wrapper(),
            is_primary: held.is_some(),
            is_primary_elsewhere: held.is_some_and(|held| held != home),
            instance: candidacy.into_iter().chain(held).find(|it| it.is_sibling(home)).map(Arc::clone),
            settles: settles.filter(is_later),
            left_at: left_at(entry, home).filter(|at| is_later(&at.after(SETTLE_NS))),
            above: None,
        };
        let decides = must_be
            || stop.is_primary
            || stop.is_here
            || stop.instance.is_some()
            || stop.settles.is_some()
            || stop.left_at.is_some();
        decides.then_some(stop)
    }
}

/// Returns whether no rule admits `entry`. A primary that left its home was admitted.
fn is_plain(homes: &Homes, entry: &ProcessEntry) -> bool {
    entry.candidacy.is_none() && homes.home_of_primary(entry.process.key).is_none()
}

/// Returns when the candidate of `home` ended that had started `entry`.
fn left_at(entry: &ProcessEntry, home: &Home) -> Option<BootTime> {
    let left_behind = entry.left_behind.as_ref().filter(|left_behind| *left_behind.home == *home);
    left_behind.map(|left_behind| left_behind.at)
}

/// Returns from when `entry` may be a session, which outlived the candidate of its home that had started it.
fn goes_on_from(entry: &ProcessEntry) -> Option<BootTime> {
    let candidacy = entry.candidacy.as_ref().filter(|candidacy| !candidacy.is_wrapper)?;
    let left_behind = entry.left_behind.as_ref().filter(|it| it.home == candidacy.home)?;
    // Its own home comes first.
    Some(left_behind.at.after(SETTLE_NS + 1))
}

impl Sessions {
    /// Returns lineages of the candidates of `home`.
    pub(super) fn lineages(&self, ctx: &SessionContext<'_>, home: &Arc<Home>) -> Lineages {
        let count = self.homes.by_home.get(home).map_or(0, |state| state.candidates.len());
        Lineages::new(home, ctx.now, count)
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
        let home = Arc::clone(&lineages.home);
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

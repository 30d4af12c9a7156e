//! Finds the ancestors of the candidates of a home that may decide where those belong, in one election: candidates and primaries
//! above all. Of other processes, such as shells that no rule admits, only the terminal matters, and each is looked at once.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::limits::{LINEAGE_STEPS_MAX, SETTLE_NS};
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::process::Tty;
use crate::model::session::Home;
use crate::processes::entry::ProcessEntry;
use crate::processes::table::ProcessTable;
use crate::sessions::homes::Homes;
use crate::sessions::landmarks::{Landmark, LandmarkView, Landmarks};
use crate::sessions::roots::{Between, may_be_above};
use crate::sessions::settling::Settling;

/// What lineages are read from.
#[derive(Clone, Copy)]
pub(super) struct LineageSource<'a> {
    pub table: &'a ProcessTable,
    pub homes: &'a Homes,
    pub settling: &'a Settling,
}

/// An ancestor that may decide about candidates of the home below it.
pub(super) struct Stop {
    pub key: ProcessKey,
    pub tty: Option<Tty>,
    /// Its nearest ancestor.
    lineage: Option<ProcessKey>,
    /// No rule admits it, and it has no session.
    pub is_plain: bool,
    /// By [`may_be_above`].
    pub is_here: bool,
    pub is_wrapper: bool,
    /// It is the primary of a session.
    pub is_primary: bool,
    /// It is the primary of a session of another home.
    pub is_primary_elsewhere: bool,
    /// The instance of the home to which it belongs.
    pub instance: Option<Arc<Home>>,
    /// From when it is known whether it is a session, if that is later than now.
    pub settles: Option<BootTime>,
    /// When a candidate of the home ended that had started it, if that was lately.
    pub left_at: Option<BootTime>,
    /// What is above it, once that was looked at.
    above: Option<Passed>,
    /// Which landmark it is, if it is one.
    landmark: Option<usize>,
}

impl Stop {
    /// Returns it as the landmark with this number. `primary` has the session of the home.
    fn landmark(&self, number: usize, primary: Option<ProcessKey>) -> Landmark {
        Landmark {
            number,
            tty: self.tty,
            is_plain: self.is_plain,
            is_wrapper: self.is_wrapper,
            kinds: [
                self.is_here,
                self.is_here && self.is_wrapper,
                self.is_primary_elsewhere,
                self.settles.is_some(),
            ],
            is_own_primary: Some(self.key) == primary,
            is_left_behind: self.left_at.is_some(),
        }
    }
}

/// What is between a process and the nearest stop above it.
#[derive(Clone, Copy, Default)]
pub(super) struct Passed {
    pub between: Between,
    /// The number of steps to the stop.
    pub steps: usize,
    /// Its index. `None`: there is none.
    pub to: Option<usize>,
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

/// The stops above the candidates of one home, and above them. They hold as long as no process, no candidate and no session
/// changes.
pub(super) struct Stops {
    pub home: Arc<Home>,
    pub now: BootTime,
    /// Who has the session of the home.
    pub primary: Option<ProcessKey>,
    /// Several candidates are placed, so it is worth keeping what was seen.
    pub are_shared: bool,
    /// A stop, whatever it is.
    pub sought: Option<ProcessKey>,
    seen: BTreeMap<Tgid, Seen>,
    all: Vec<Stop>,
    landmarks: Landmarks,
}

impl Stops {
    /// Returns stops of which none was looked at yet. `primary` has the session of `home`. `are_shared`: several candidates are
    /// placed.
    pub fn new(home: &Arc<Home>, now: BootTime, primary: Option<ProcessKey>, are_shared: bool) -> Self {
        Self {
            home: Arc::clone(home),
            now,
            primary,
            are_shared,
            sought: None,
            seen: BTreeMap::new(),
            all: Vec::new(),
            landmarks: Landmarks::default(),
        }
    }

    /// Returns the stop with this number.
    pub fn get(&self, at: usize) -> Option<&Stop> {
        self.all.get(at)
    }

    /// Returns the landmarks, which are the stops that [`Self::view`] came to.
    pub fn landmarks(&self) -> &Landmarks {
        &self.landmarks
    }

    /// Returns the stop that is the landmark `at`.
    pub fn of_landmark(&self, at: usize) -> Option<&Stop> {
        self.get(self.landmarks.number(at)?)
    }

    /// Returns what is above the stop `at`.
    pub fn above(&mut self, source: LineageSource<'_>, at: usize) -> Option<Passed> {
        let stop = self.all.get(at)?;
        if let Some(above) = stop.above {
            return Some(above);
        }
        let above = self.look_up(source, stop.lineage);
        self.all.get_mut(at)?.above = Some(above);
        Some(above)
    }

    /// Returns the landmarks above `entry` as it sees them; `None`: there are none.
    pub fn view(&mut self, source: LineageSource<'_>, entry: &ProcessEntry) -> Option<LandmarkView> {
        let Passed { between, steps, to } = self.look_up(source, entry.process.lineage);
        let first = self.landmark(source, to?)?;
        self.landmarks.view(entry.process.tty, (between, steps, first))
    }

    /// Returns which landmark the stop `at` is, above which all landmarks are known that any walk from it comes to. Twice as
    /// many steps are looked at as one walk needs: then the same holds of as many stops above it as have half of them.
    fn landmark(&mut self, source: LineageSource<'_>, at: usize) -> Option<usize> {
        let (mut found, mut steps) = (Vec::new(), 0);
        let (mut next, mut above) = (Some(at), None);
        let mut is_cut = false;
        while let Some(at) = next {
            let landmark = self.all.get(at)?.landmark;
            above = landmark.filter(|&landmark| self.landmarks.is_complete(landmark));
            is_cut = above.is_none() && steps > 2 * LINEAGE_STEPS_MAX;
            if above.is_some() || is_cut {
                break;
            }
            source.table.count_visits(1);
            let passed = self.above(source, at)?;
            found.push((at, steps, passed));
            steps += passed.steps;
            next = passed.to;
        }
        // From the top down. What was not complete gets another landmark: the former one goes on for those below it.
        for (at, below, Passed { between, steps: to_above, .. }) in found.into_iter().rev() {
            let is_complete = !is_cut || steps - below > LINEAGE_STEPS_MAX;
            let landmark = self.all.get(at)?.landmark(at, self.primary);
            let placed = self.landmarks.add(landmark, (between, to_above, above), is_complete);
            self.all.get_mut(at)?.landmark = Some(placed);
            above = Some(placed);
        }
        above
    }

    /// Returns what is between a process and the nearest stop above it. `lineage` is its nearest ancestor.
    pub fn look_up(&mut self, source: LineageSource<'_>, lineage: Option<ProcessKey>) -> Passed {
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
                let at = self.all.len();
                self.all.push(stop);
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
        let held = source.homes.home_led_by(entry);
        let candidacy = entry.candidacy.as_ref().map(|candidacy| &candidacy.home);
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
            settles: settles_at(source.settling, entry, self.now),
            left_at: left_lately(entry, home, self.now),
            above: None,
            landmark: None,
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
    entry.candidacy.is_none() && homes.home_led_by(entry).is_none()
}

/// Returns from when it is known whether `entry` is a session, if that is later than `now`.
pub(super) fn settles_at(settling: &Settling, entry: &ProcessEntry, now: BootTime) -> Option<BootTime> {
    settling.waited_for_until(entry).or_else(|| goes_on_from(entry)).filter(|&at| at > now)
}

/// Returns when the candidate of `home` ended that had started `entry`, if that was lately.
pub(super) fn left_lately(entry: &ProcessEntry, home: &Home, now: BootTime) -> Option<BootTime> {
    left_at(entry, home).filter(|at| at.after(SETTLE_NS) > now)
}

/// Returns when the candidate of `home` ended that had started `entry`.
pub(super) fn left_at(entry: &ProcessEntry, home: &Home) -> Option<BootTime> {
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

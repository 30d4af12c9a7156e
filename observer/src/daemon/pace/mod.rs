//! How often the journal takes changes of sessions: so that no program and no user decides how much is written.
//!
//! A start and an end are written when they happen, unless a session starts again and again: then the starts are counted,
//! and an entry a second says how many there were. A change of state or of the primary is written at once, up to a rate.
//! Any other change is written at most once a second, with the last value. What is no start, end or primary shares one rate
//! for each user.

mod restarts;
mod users;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use observer_core::death::Death;
use observer_core::limits::STARTS_MAX;
use observer_core::session::{Home, State};
use observer_core::{BootTime, ProcessKey, Session};

pub use restarts::Restarts;
use restarts::{RecentStarts, WINDOW_NS};
use users::{Users, Weight};

/// Between two entries of a session about other fields than its state, its primary and its starts, ns; and between two
/// entries of one that starts again and again.
const MINOR_EVERY_NS: u64 = 1_000_000_000;
/// Entries about state, primary and starts that a session may write at once.
const STATES_BURST: u32 = 4;
/// A session may write another such entry after this long, ns.
const STATES_EVERY_NS: u64 = 250_000_000;

/// Whether a change is written when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It is.
    Now,
    /// The session is among [`Pace::take_due`] later.
    Later,
}

/// What makes a change worth an entry at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    primary: ProcessKey,
    state: State,
    last_start: Option<BootTime>,
}

impl Standing {
    fn of(session: &Session) -> Self {
        Self { primary: session.primary, state: session.state, last_start: session.starts.last().copied() }
    }
}

/// Until when a change waits.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: BootTime,
    weight: Weight,
    /// When it happened.
    since: BootTime,
}

#[derive(Debug)]
struct Paced {
    standing: Standing,
    /// When the last entry was written.
    at: BootTime,
    /// Entries about the standing that may be written before `counted_at` + [`STATES_EVERY_NS`].
    states_left: u32,
    counted_at: BootTime,
    /// A change waits to be written.
    due: Option<Due>,
    recent: RecentStarts,
    /// The last start was counted and not written.
    is_counted: bool,
    /// The last start that was seen, and how many there were with it. A birth and the exec after it are one start.
    last_start: Option<BootTime>,
    starts: usize,
    /// What was not written since the last entry, where the session starts again and again.
    restarts: Option<Restarts>,
    /// When it ended.
    ended_at: Option<BootTime>,
    /// It is among [`Pace::ended`].
    is_queued: bool,
    /// When it last changed, as far as that was reported.
    changed_at: BootTime,
    /// What waited is due, and waits for its user's turn: it is written with all that is reported until then.
    is_in_turn: bool,
}

impl Paced {
    fn new(at: BootTime, session: &Session) -> Self {
        Self {
            standing: Standing::of(session),
            at,
            states_left: STATES_BURST,
            counted_at: at,
            due: None,
            recent: RecentStarts::default(),
            is_counted: false,
            last_start: session.starts.last().copied(),
            starts: session.starts.len(),
            restarts: None,
            ended_at: None,
            is_queued: false,
            changed_at: at,
            is_in_turn: false,
        }
    }

    /// Takes note of the starts of the session. Returns whether there is another one.
    fn sees_start(&mut self, session: &Session) -> bool {
        let (last_start, starts) = (session.starts.last().copied(), session.starts.len());
        let is_start = last_start != self.last_start && (starts > self.starts || starts == STARTS_MAX);
        (self.last_start, self.starts) = (last_start, starts);
        is_start
    }

    /// When a change of the session may be written, and its weight; takes account of it if that is `at` or before.
    fn take(&mut self, at: BootTime, standing: Standing) -> (Result<(), BootTime>, Weight) {
        if standing == self.standing {
            let free_at = self.at.after(MINOR_EVERY_NS);
            return (if free_at <= at { Ok(()) } else { Err(free_at) }, Weight::Minor);
        }
        let is_start =
            (standing.primary, standing.last_start) != (self.standing.primary, self.standing.last_start);
        let weight = if is_start { Weight::Start } else { Weight::State };
        let more = at.since(self.counted_at) / STATES_EVERY_NS;
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.states_left = self.states_left.saturating_add(more).min(STATES_BURST);
            self.counted_at = at;
        }
        let Some(left) = self.states_left.checked_sub(1) else {
            return (Err(self.counted_at.after(STATES_EVERY_NS)), weight);
        };
        self.states_left = left;
        (Ok(()), weight)
    }
}

/// When each session was last written, and which changes wait.
#[derive(Debug, Default)]
pub struct Pace {
    sessions: HashMap<Arc<Home>, Paced>,
    users: Users,
    /// Sessions with starts, ends or primaries that are not written yet, and since when.
    withheld: BTreeSet<(BootTime, Arc<Home>)>,
    /// Sessions that ended, in order: they are forgotten when the window is over.
    ended: VecDeque<(BootTime, Arc<Home>)>,
    starts_counted: u64,
}

impl Pace {
    /// Changes that wait.
    pub fn waiting(&self) -> usize {
        self.users.waiting()
    }

    /// Starts that were counted and not written one by one.
    pub fn starts_counted(&self) -> u64 {
        self.starts_counted
    }

    /// A session is as the journal knows it, or its changes are not written.
    pub fn knows(&mut self, at: BootTime, session: &Session) {
        self.sessions.entry(Arc::clone(&session.home)).or_insert_with(|| Paced::new(at, session));
    }

    /// A session whose end is not written is known no more.
    pub fn forgets(&mut self, home: &Arc<Home>) {
        self.cancel(home);
        self.sessions.remove(home);
    }

    /// A session starts.
    pub fn started(&mut self, at: BootTime, session: &Session) -> Writes {
        self.forget_ended(at);
        let home = &session.home;
        let paced = self.sessions.entry(Arc::clone(home)).or_insert_with(|| Paced::new(at, session));
        (paced.ended_at, paced.changed_at) = (None, at);
        paced.sees_start(session);
        paced.is_counted = paced.recent.add(at) || paced.restarts.is_some();
        if paced.is_counted {
            paced.restarts.get_or_insert_default().add_start(at);
            self.starts_counted += 1;
            self.wait_for_restarts(at, home);
            return Writes::Later;
        }
        self.written(at, session);
        Writes::Now
    }

    /// A session ends.
    pub fn ended(&mut self, at: BootTime, session: &Session) -> Writes {
        let home = &session.home;
        let Some(paced) = self.sessions.get_mut(home) else { return Writes::Now };
        (paced.ended_at, paced.changed_at) = (Some(at), at);
        if !core::mem::replace(&mut paced.is_queued, true) {
            self.ended.push_back((at, Arc::clone(home)));
        }
        if paced.restarts.is_some() || (paced.is_counted && paced.recent.are_many(at)) {
            let restarts = paced.restarts.get_or_insert_default();
            if let Some(death) = &session.death {
                restarts.add_death(session.primary, death.clone());
            }
            self.wait_for_restarts(at, home);
            return Writes::Later;
        }
        self.cancel(home);
        Writes::Now
    }

    /// A session changes. `death`: its former primary died, and another process took its place.
    pub fn changed(
        &mut self,
        at: BootTime,
        session: &Session,
        death: Option<(ProcessKey, &Death)>,
    ) -> Writes {
        let home = &session.home;
        if !self.sessions.contains_key(home) {
            return self.started(at, session);
        }
        let former = self.cancel(home);
        let Some(paced) = self.sessions.get_mut(home) else { return Writes::Now };
        paced.changed_at = at;
        let is_start = paced.sees_start(session);
        if is_start {
            paced.is_counted = paced.recent.add(at) || paced.restarts.is_some();
        }
        if (is_start && paced.is_counted) || paced.restarts.is_some() {
            let restarts = paced.restarts.get_or_insert_default();
            if is_start {
                restarts.add_start(at);
                self.starts_counted += 1;
            }
            if let Some((key, death)) = death {
                restarts.add_death(key, death.clone());
            }
            self.restore(former, home);
            self.wait_for_restarts(at, home);
            return Writes::Later;
        }
        let standing = Standing::of(session);
        if paced.is_in_turn && standing == paced.standing {
            return Writes::Later;
        }
        let (free, weight) = paced.take(at, standing);
        let due = match free {
            Ok(()) if self.users.take(at, home.uid, weight) => None,
            Ok(()) => Some(at),
            Err(due) => Some(due),
        };
        if let Some(due) = due {
            // What waits again keeps its place.
            let former = former.filter(|former| former.weight == weight);
            let (due, since) = former.map_or((due, at), |former| (former.at.min(due), former.since));
            self.wait(at, home, Due { at: due, weight, since });
            return Writes::Later;
        }
        paced.standing = standing;
        paced.at = at;
        Writes::Now
    }

    /// Whether starts and ends of the session are counted that are not written yet.
    pub fn counts(&self, home: &Home) -> bool {
        self.sessions.get(home).is_some_and(|paced| paced.restarts.is_some())
    }

    /// What waited of a session is due, and waits for its user's turn. Returns whether nothing of it did so yet.
    pub fn enters_turn(&mut self, home: &Home) -> bool {
        self.sessions.get_mut(home).is_none_or(|paced| !core::mem::replace(&mut paced.is_in_turn, true))
    }

    /// What waited is written now. Returns when the session last changed, as far as that was reported.
    pub fn leaves_turn(&mut self, home: &Home) -> Option<BootTime> {
        let paced = self.sessions.get_mut(home)?;
        paced.is_in_turn = false;
        Some(paced.changed_at)
    }

    /// The session is written as it is.
    pub fn written(&mut self, at: BootTime, session: &Session) {
        self.cancel(&session.home);
        let Some(paced) = self.sessions.get_mut(&session.home) else { return };
        let standing = Standing::of(session);
        // What waited waited for as long as it had to, or the daemon stops.
        let _ = paced.take(at, standing);
        paced.standing = standing;
        paced.at = at;
    }

    /// Takes what was counted of the session since it was last written.
    pub fn take_restarts(&mut self, home: &Home) -> Option<Restarts> {
        self.sessions.get_mut(home)?.restarts.take()
    }

    /// Since when there are starts, ends and primaries that are not written yet.
    pub fn withheld_since(&self) -> Option<BootTime> {
        self.withheld.first().map(|&(since, _)| since)
    }

    /// When the next change that waits may be written.
    pub fn next_due(&self) -> Option<BootTime> {
        self.users.next_due()
    }

    /// The homes whose changes may be written by `now`; [`BootTime`]'s greatest value: all that wait.
    pub fn take_due(&mut self, now: BootTime) -> Vec<Arc<Home>> {
        let homes = self.users.take_due(now);
        for home in &homes {
            if let Some(due) = self.sessions.get_mut(home).and_then(|paced| paced.due.take()) {
                self.withheld.remove(&(due.since, Arc::clone(home)));
            }
        }
        homes
    }

    /// The starts that are counted wait until a second has passed since the last entry. A lesser change that waits is
    /// written with them.
    fn wait_for_restarts(&mut self, at: BootTime, home: &Arc<Home>) {
        let Some(paced) = self.sessions.get(home) else { return };
        let due = paced.at.after(MINOR_EVERY_NS).max(at);
        if paced.due.is_some_and(|former| former.weight == Weight::Start && former.at <= due) {
            return;
        }
        let since = self.cancel(home).map_or(at, |former| former.since.min(at));
        self.wait(at, home, Due { at: due, weight: Weight::Start, since });
    }

    fn wait(&mut self, at: BootTime, home: &Arc<Home>, due: Due) {
        let Some(paced) = self.sessions.get_mut(home) else { return };
        paced.due = Some(due);
        self.users.wait(at, due.at, due.weight, home);
        if due.weight == Weight::Start {
            self.withheld.insert((due.since, Arc::clone(home)));
        }
    }

    /// Has what was [cancelled](Self::cancel) wait again.
    fn restore(&mut self, former: Option<Due>, home: &Arc<Home>) {
        if let Some(due) = former {
            self.wait(due.since, home, due);
        }
    }

    fn cancel(&mut self, home: &Arc<Home>) -> Option<Due> {
        let due = self.sessions.get_mut(home)?.due.take()?;
        self.users.cancel(due.at, due.weight, home);
        self.withheld.remove(&(due.since, Arc::clone(home)));
        Some(due)
    }

    /// Forgets sessions that ended, and that did not start again within the window.
    fn forget_ended(&mut self, at: BootTime) {
        while let Some((_, home)) = self.ended.pop_front_if(|(since, _)| at.since(*since) >= WINDOW_NS) {
            let Some(paced) = self.sessions.get_mut(&home) else { continue };
            match paced.ended_at {
                None => paced.is_queued = false,
                Some(ended_at)
                    if paced.due.is_none() && !paced.is_in_turn && at.since(ended_at) >= WINDOW_NS =>
                {
                    self.sessions.remove(&home);
                }
                Some(_) => self.ended.push_back((at, home)),
            }
        }
    }
}

#[cfg(test)]
mod tests;

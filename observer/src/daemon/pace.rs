//! How often the journal takes changes of one session: so that no program decides how much is written.
//!
//! A start, an end and a change of state or of the primary is written when it happens, up to a rate. Any other change is
//! written at most once a second, with the last value.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use observer_core::session::{Home, State};
use observer_core::{BootTime, ProcessKey, Session};

/// Between two entries of a session about other fields than its state, its primary and its starts, ns.
const MINOR_EVERY_NS: u64 = 1_000_000_000;
/// Entries about state, primary and starts that a session may write at once.
const STATES_BURST: u32 = 4;
/// A session may write another such entry after this long, ns.
const STATES_EVERY_NS: u64 = 250_000_000;

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

#[derive(Debug)]
struct Written {
    standing: Standing,
    at: BootTime,
    /// Entries about the standing that may be written before `counted_at` + [`STATES_EVERY_NS`].
    states_left: u32,
    counted_at: BootTime,
    /// A change waits to be written until then.
    due: Option<BootTime>,
}

impl Written {
    fn new(at: BootTime, session: &Session) -> Self {
        let standing = Standing::of(session);
        Self { standing, at, states_left: STATES_BURST, counted_at: at, due: None }
    }

    /// When a change of the session may be written; takes account of it if that is `at` or before.
    fn take(&mut self, at: BootTime, standing: Standing) -> Result<(), BootTime> {
        if standing == self.standing {
            let free_at = self.at.after(MINOR_EVERY_NS);
            return if free_at <= at { Ok(()) } else { Err(free_at) };
        }
        let more = at.since(self.counted_at) / STATES_EVERY_NS;
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.states_left = self.states_left.saturating_add(more).min(STATES_BURST);
            self.counted_at = at;
        }
        self.states_left =
            self.states_left.checked_sub(1).ok_or_else(|| self.counted_at.after(STATES_EVERY_NS))?;
        Ok(())
    }
}

/// When each live session was last written, and which changes wait.
#[derive(Debug, Default)]
pub struct Pace {
    sessions: HashMap<Arc<Home>, Written>,
    due: BTreeSet<(BootTime, Arc<Home>)>,
}

impl Pace {
    /// The start of a session is written.
    pub fn started(&mut self, at: BootTime, session: &Session) {
        self.ended(&session.home);
        self.sessions.insert(Arc::clone(&session.home), Written::new(at, session));
    }

    /// The end of a session is written: no change of it waits any more.
    pub fn ended(&mut self, home: &Arc<Home>) {
        if let Some(due) = self.sessions.remove(home).and_then(|written| written.due) {
            self.due.remove(&(due, Arc::clone(home)));
        }
    }

    /// Whether a change of a session is written at once. If not, the session is among [`Pace::take_due`] later.
    pub fn changed(&mut self, at: BootTime, session: &Session) -> bool {
        let home = &session.home;
        let Some(written) = self.sessions.get_mut(home) else {
            self.started(at, session);
            return true;
        };
        let standing = Standing::of(session);
        let free = written.take(at, standing);
        if let Some(due) = written.due.take() {
            self.due.remove(&(due, Arc::clone(home)));
        }
        match free {
            Ok(()) => {
                written.standing = standing;
                written.at = at;
            }
            Err(due) => {
                written.due = Some(due);
                self.due.insert((due, Arc::clone(home)));
            }
        }
        free.is_ok()
    }

    /// A change that waited is written.
    pub fn written(&mut self, at: BootTime, session: &Session) {
        let Some(written) = self.sessions.get_mut(&session.home) else { return };
        let standing = Standing::of(session);
        // It waited for as long as it had to, or the daemon stops.
        let _ = written.take(at, standing);
        written.standing = standing;
        written.at = at;
    }

    /// When the next change that waits may be written.
    pub fn next_due(&self) -> Option<BootTime> {
        self.due.first().map(|&(due, _)| due)
    }

    /// The homes whose changes may be written by `now`; [`BootTime`]'s greatest value: all that wait.
    pub fn take_due(&mut self, now: BootTime) -> Vec<Arc<Home>> {
        let mut homes = Vec::new();
        while let Some((due, home)) = self.due.pop_first() {
            if due > now {
                self.due.insert((due, home));
                break;
            }
            if let Some(written) = self.sessions.get_mut(&home) {
                written.due = None;
            }
            homes.push(home);
        }
        homes
    }
}

#[cfg(test)]
mod tests {
    use observer_core::process::DirId;

    use super::*;

    const MS: u64 = 1_000_000;

    fn session() -> Session {
        Session {
            home: Arc::new(Home { mnt_ns: None, path: Arc::from(&b"/srv/a"[..]), uid: 0, instance: 1 }),
            home_dir: DirId::default(),
            owner: None,
            foreign: Some(false),
            name: Arc::from(&b"a"[..]),
            primary: ProcessKey::new(7, 1),
            wrapper: None,
            others: Vec::new(),
            roots: 1,
            state: State::Live,
            since: BootTime(0),
            moved_to: None,
            cwd_deleted: false,
            rule: 0,
            death: None,
            end_reason: None,
            starts: vec![BootTime(1)].into(),
        }
    }

    /// Feeds a change each millisecond for a time; `turn` makes it. Entries a second, and those of the last second.
    fn entries(seconds: u64, mut turn: impl FnMut(u64, &mut Session)) -> Vec<u64> {
        let (mut pace, mut session) = (Pace::default(), session());
        pace.started(BootTime(0), &session);
        let mut written = vec![];
        for ms in 1..=seconds * 1000 {
            let now = BootTime(ms * MS);
            let mut taken = 0;
            for _ in pace.take_due(now) {
                pace.written(now, &session);
                taken += 1;
            }
            turn(ms, &mut session);
            taken += u64::from(pace.changed(now, &session));
            if ms % 1000 == 1 {
                written.push(0);
            }
            *written.last_mut().unwrap() += taken;
        }
        written
    }

    #[test]
    fn a_field_that_changes_all_the_time_is_written_once_a_second() {
        assert_eq!(entries(5, |_, _| {}), [1; 5]);
    }

    #[test]
    fn a_state_that_flaps_is_written_at_once_and_at_most_ten_times_a_second() {
        let flap = |ms: u64, session: &mut Session| {
            session.state = if ms.is_multiple_of(2) { State::Live } else { State::Left };
        };
        let written = entries(5, flap);
        assert!(written[0] >= u64::from(STATES_BURST), "{written:?}");
        assert!(written.iter().all(|&entries| entries <= 10), "{written:?}");
    }

    #[test]
    fn a_program_that_execs_all_the_time_writes_at_most_ten_entries_a_second() {
        let written = entries(5, |ms, session| session.starts = vec![BootTime(ms)].into());
        assert!(written.iter().all(|&entries| entries <= 10), "{written:?}");
    }

    #[test]
    fn the_last_value_is_written_when_it_is_due_and_not_after_the_end() {
        let (mut pace, mut session) = (Pace::default(), session());
        pace.started(BootTime(0), &session);
        session.name = Arc::from(&b"b"[..]);
        assert!(!pace.changed(BootTime(10 * MS), &session));
        assert!(!pace.changed(BootTime(20 * MS), &session));
        let due = pace.next_due().unwrap();
        assert_eq!(due, BootTime(MINOR_EVERY_NS));
        assert_eq!(pace.take_due(BootTime(due.0 - 1)), []);
        assert_eq!(pace.take_due(due), [Arc::clone(&session.home)]);
        pace.written(due, &session);
        assert_eq!(pace.next_due(), None);
        assert!(!pace.changed(BootTime(due.0 + 1), &session));
        pace.ended(&session.home);
        assert_eq!((pace.next_due(), pace.take_due(BootTime(u64::MAX))), (None, vec![]));
    }

    #[test]
    fn a_state_after_a_field_that_waits_is_written_at_once_and_nothing_waits_then() {
        let (mut pace, mut session) = (Pace::default(), session());
        pace.started(BootTime(0), &session);
        assert!(!pace.changed(BootTime(10 * MS), &session));
        session.state = State::Detached;
        assert!(pace.changed(BootTime(20 * MS), &session));
        assert_eq!(pace.next_due(), None);
    }
}

//! The pace of entries.

use super::*;
use crate::daemon::test_session::session;

const MS: u64 = 1_000_000;

/// Feeds a change each millisecond for a time; `turn` makes it. Entries a second, and those of the last second.
fn entries(seconds: u64, mut turn: impl FnMut(u64, &mut Session)) -> Vec<u64> {
    let (mut pace, mut session) = (Pace::default(), session());
    assert_eq!(pace.started(BootTime(0), &session), Writes::Now);
    let mut written = vec![];
    for ms in 1..=seconds * 1000 {
        let now = BootTime(ms * MS);
        let mut taken = 0;
        for _ in pace.take_due(now) {
            pace.written(now, &session);
            taken += 1;
        }
        turn(ms, &mut session);
        taken += u64::from(pace.changed(now, &session, None) == Writes::Now);
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
    assert_eq!(pace.started(BootTime(0), &session), Writes::Now);
    session.name = Arc::from(&b"b"[..]);
    assert_eq!(pace.changed(BootTime(10 * MS), &session, None), Writes::Later);
    assert_eq!(pace.changed(BootTime(20 * MS), &session, None), Writes::Later);
    let due = pace.next_due().unwrap();
    assert_eq!(due, BootTime(MINOR_EVERY_NS));
    assert_eq!(pace.take_due(BootTime(due.0 - 1)), []);
    assert_eq!(pace.take_due(due), [Arc::clone(&session.home)]);
    pace.written(due, &session);
    assert_eq!(pace.next_due(), None);
    assert_eq!(pace.changed(BootTime(due.0 + 1), &session, None), Writes::Later);
    assert_eq!(pace.ended(BootTime(due.0 + 2), &session), Writes::Now);
    assert_eq!((pace.next_due(), pace.take_due(BootTime(u64::MAX))), (None, vec![]));
}

#[test]
fn a_state_after_a_field_that_waits_is_written_at_once_and_nothing_waits_then() {
    let (mut pace, mut session) = (Pace::default(), session());
    assert_eq!(pace.started(BootTime(0), &session), Writes::Now);
    assert_eq!(pace.changed(BootTime(10 * MS), &session, None), Writes::Later);
    session.state = State::Detached;
    assert_eq!(pace.changed(BootTime(20 * MS), &session, None), Writes::Now);
    assert_eq!(pace.next_due(), None);
}

fn session_of(uid: u32, number: u32) -> Session {
    let path = format!("/srv/{number}");
    let home = Home { mnt_ns: None, path: Arc::from(path.as_bytes()), uid, instance: 1 };
    Session { home: Arc::new(home), ..session() }
}

/// Has 100 sessions of a user change each 100 ms for `seconds`. Returns the entries of each second, and how many of
/// the sessions that waited were written in the last ten.
fn entries_of_many(seconds: u64, change: impl Fn(u64, &mut Session)) -> (Vec<usize>, usize) {
    let mut pace = Pace::default();
    let mut sessions: Vec<Session> = (0..100).map(|number| session_of(7, number)).collect();
    for session in &sessions {
        assert_eq!(pace.started(BootTime(0), session), Writes::Now);
    }
    let mut written = vec![0; usize::try_from(seconds).unwrap()];
    let mut lately = BTreeSet::new();
    for ms in (100..=seconds * 1000).step_by(100) {
        let (now, second) = (BootTime(ms * MS), usize::try_from((ms - 1) / 1000).unwrap());
        for home in pace.take_due(now) {
            let session = sessions.iter().find(|session| session.home == home).unwrap();
            pace.written(now, session);
            written[second] += 1;
            if ms > (seconds - 10) * 1000 {
                lately.insert(home);
            }
        }
        for session in &mut sessions {
            change(ms, session);
            written[second] += usize::from(pace.changed(now, session, None) == Writes::Now);
        }
    }
    (written, lately.len())
}

#[test]
fn the_sessions_of_one_user_write_twenty_entries_a_second_together_beyond_a_burst() {
    let (fields, lately) = entries_of_many(30, |_, _| {});
    assert_eq!(lately, 100, "each has its turn");
    assert!(fields.iter().sum::<usize>() <= 512 + 30 * 20, "{fields:?}");
    assert!(fields[20..].iter().all(|&entries| (15..=20).contains(&entries)), "{fields:?}");
    let (states, _) = entries_of_many(30, |ms, session| {
        session.state = if (ms / 100).is_multiple_of(2) { State::Live } else { State::Left };
    });
    assert!(states.iter().sum::<usize>() <= 1024 + 30 * 20, "{states:?}");
    assert!(states[20..].iter().all(|&entries| (15..=20).contains(&entries)), "{states:?}");
}

#[test]
fn a_user_who_has_used_up_the_rate_delays_no_state_of_his_own_and_nothing_of_others() {
    let mut pace = Pace::default();
    let sessions: Vec<Session> = (0..600).map(|number| session_of(7, number)).collect();
    let mut other = session_of(8, 0);
    for session in sessions.iter().chain([&other]) {
        assert_eq!(pace.started(BootTime(0), session), Writes::Now);
    }
    let now = BootTime(2_000 * MS);
    let written = sessions.iter().filter(|session| pace.changed(now, session, None) == Writes::Now).count();
    assert_eq!(written, 512);
    let mut own = sessions[599].clone();
    own.state = State::Detached;
    other.name = Arc::from(&b"b"[..]);
    assert_eq!((pace.changed(now, &own, None), pace.changed(now, &other, None)), (Writes::Now, Writes::Now));
    // What waits is written as the rate allows.
    let due = pace.next_due().unwrap();
    assert_eq!(due, BootTime(2_100 * MS), "the state took the first of them");
    assert_eq!(pace.take_due(due).len(), 1);
    assert_eq!(pace.take_due(BootTime(3_000 * MS)).len(), 18);
    assert_eq!(pace.take_due(BootTime(u64::MAX)).len(), 68, "the daemon stops");
    assert_eq!(pace.next_due(), None);
}

/// Has a session start and end `count` times, each start `every` ms after the one before, for half of that time. Returns
/// the starts and ends that were written at once, and what was counted.
fn restart(count: u64, every: u64, end: impl Fn(&mut Session, BootTime)) -> (Pace, u64, Vec<Restarts>) {
    let (mut pace, mut session) = (Pace::default(), session());
    let (mut at_once, mut counted) = (0, vec![]);
    for n in 0..count {
        for (is_end, ms) in [(false, n * every), (true, n * every + every / 2)] {
            let now = BootTime(ms * MS);
            for home in pace.take_due(now) {
                counted.extend(pace.take_restarts(&home));
                pace.written(now, &session);
            }
            let writes = if is_end {
                end(&mut session, now);
                pace.ended(now, &session)
            } else {
                session.starts = vec![now].into();
                session.primary = ProcessKey::new(7, n);
                pace.started(now, &session)
            };
            at_once += u64::from(writes == Writes::Now);
        }
    }
    (pace, at_once, counted)
}

#[test]
fn a_session_that_starts_again_and_again_is_counted_once_a_second() {
    let died = |session: &mut Session, at| session.death = Some(Death::from_status(0x100, at));
    let (mut pace, at_once, mut counted) = restart(500, 10, died);
    assert_eq!(at_once, 20, "ten starts and their ends");
    assert!((4..=6).contains(&counted.len()), "{}", counted.len());
    assert_eq!(
        pace.withheld_since(),
        counted.last().map(|last| BootTime(last.between.unwrap().1.0 + 10 * MS))
    );
    let due = pace.next_due().unwrap();
    let homes = pace.take_due(due);
    counted.extend(pace.take_restarts(&homes[0]));
    let starts: u64 = counted.iter().map(|restarts| restarts.count).sum();
    let deaths: u64 = counted.iter().map(|restarts| restarts.deaths.exited).sum();
    assert_eq!((starts, deaths), (490, 490), "no start and no death is lost");
    let last = counted.last().unwrap();
    assert_eq!(last.between.unwrap().1, BootTime(4_990 * MS));
    assert_eq!(last.last_death.as_ref().unwrap().0, ProcessKey::new(7, 499));
    assert_eq!((pace.next_due(), pace.take_restarts(&homes[0]), pace.withheld_since()), (None, None, None));
    // Once it is calm, each start and end is written again.
    let (later, session) = (BootTime(20_000 * MS), session());
    assert_eq!(pace.started(later, &session), Writes::Now);
    assert_eq!(pace.ended(BootTime(later.0 + 1), &session), Writes::Now);
}

#[test]
fn starts_that_are_counted_do_not_wait_for_a_lesser_change_of_a_busy_user() {
    let (mut pace, _, _) = restart(11, 10, |_, _| {});
    let (now, mut session) = (BootTime(1_500 * MS), session());
    for home in pace.take_due(now) {
        assert!(pace.take_restarts(&home).is_some());
        pace.written(now, &session);
    }
    // The user's other sessions use up what lesser changes may use.
    for number in 0..600 {
        let other = session_of(session.home.uid, number);
        pace.started(BootTime(0), &other);
        pace.changed(now, &other, None);
    }
    session.name = Arc::from(&b"b"[..]);
    assert_eq!(pace.changed(now, &session, None), Writes::Later);
    let death = Death::from_status(9, now);
    session.primary = ProcessKey::new(8, 1);
    session.starts = vec![now; 2].into();
    assert_eq!(pace.changed(now, &session, Some((ProcessKey::new(7, 1), &death))), Writes::Later);
    assert!(pace.take_due(BootTime(2_500 * MS)).contains(&session.home));
    assert_eq!(pace.take_restarts(&session.home).unwrap().deaths.signaled, 1);
    assert_eq!(pace.withheld_since(), None);
}

#[test]
fn other_changes_of_a_session_with_many_starts_are_no_starts() {
    let (mut pace, mut session) = (Pace::default(), session());
    session.starts = vec![BootTime(1); STARTS_MAX].into();
    for n in 0..20 {
        session.starts = (n..n + 64).map(BootTime).collect::<Vec<_>>().into();
        pace.started(BootTime(n * MS), &session);
        pace.changed(BootTime(n * MS + 1), &session, None);
        pace.changed(BootTime(n * MS + 2), &session, None);
    }
    assert_eq!(pace.take_restarts(&session.home).unwrap().count, 10);
}

#[test]
fn users_who_wrote_little_are_forgotten() {
    let mut pace = Pace::default();
    for uid in 0..5_000 {
        let (now, mut session) = (BootTime(u64::from(uid) * 1_000 * MS), session_of(uid, 0));
        pace.started(now, &session);
        session.name = Arc::from(&b"b"[..]);
        pace.changed(now.after(900 * MS), &session, None);
        pace.take_due(now.after(1_000 * MS));
    }
    assert!(pace.users.count() <= 1_024, "{}", pace.users.count());
}

#[test]
fn a_session_that_starts_once_a_second_is_written_each_time() {
    let (pace, at_once, counted) = restart(60, 1_100, |_, _| {});
    assert_eq!((at_once, counted.len(), pace.next_due()), (120, 0, None));
    assert!(pace.ended.len() <= 1, "a session that ended is remembered once");
}

#[test]
fn a_program_that_execs_all_the_time_is_counted_too_and_so_are_primaries_that_die() {
    let (mut pace, mut session) = (Pace::default(), session());
    pace.started(BootTime(0), &session);
    let home = Arc::clone(&session.home);
    let mut later = 0;
    for n in 1..=40 {
        let now = BootTime(n * 100 * MS);
        session.starts = (0..=n).map(|start| BootTime(start * 100 * MS)).collect::<Vec<_>>().into();
        session.primary = ProcessKey::new(7, n);
        let death = Death::from_status(9, now);
        let former = Some((ProcessKey::new(7, n - 1), death));
        let writes = pace.changed(now, &session, former.as_ref().map(|(key, death)| (*key, death)));
        assert_eq!(pace.counts(&home), n >= 10, "{n}");
        later += u64::from(writes == Writes::Later && n >= 10);
    }
    let restarts = pace.take_restarts(&home).unwrap();
    assert_eq!((restarts.count, restarts.deaths.signaled, later), (31, 31, 31));
}

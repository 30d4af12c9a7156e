//! Lives from entries.

use super::*;

pub(in super::super) const HOUR: i64 = 3_600_000_000_000;
/// 2026-11-21T00:00:00Z.
pub(in super::super) const BASE: i64 = 1_795_219_200_000_000_000;

pub(in super::super) fn rfc3339(at_ns: i64) -> String {
    crate::text::time::unix_rfc3339(at_ns).unwrap()
}

pub(in super::super) fn window() -> Window {
    Window { since_ns: BASE, until_ns: BASE + 24 * HOUR }
}

pub(in super::super) fn entry<'a>(hour: i64, kind: &str, home: &str, detail: &'a str) -> PastEntry<'a> {
    let key = RowKey { home: home.into(), uid: 1000, instance: 1, ..RowKey::default() };
    PastEntry {
        key: (!home.is_empty()).then_some(key),
        host_id: String::new(),
        name: home.rsplit('/').next().unwrap_or_default().into(),
        at_ns: BASE + hour * HOUR,
        kind: kind.into(),
        pid: Some(7),
        detail,
    }
}

pub(in super::super) fn death(kind: &str, rest: &str) -> String {
    format!(r#"{{"end_reason":"died","death":{{"kind":"{kind}"{rest}}}}}"#)
}

fn only(lives: &Lives) -> &LifeRow {
    assert_eq!(lives.rows.len(), 1);
    lives.rows.values().next().unwrap()
}

fn bar(from: i64, to: Option<i64>) -> Bar {
    Bar { from_ns: BASE + from * HOUR, to_ns: to.map(|to| BASE + to * HOUR) }
}

#[test]
fn a_life_is_a_bar_and_each_kind_of_death_a_mark() {
    let mut lives = Lives::new(window());
    let kinds = [
        (death("exited", r#","code":0"#), EndMark::ExitZero),
        (death("exited", r#","code":3"#), EndMark::ExitOther),
        (death("signaled", r#","signal":9,"signal_name":"SIGKILL""#), EndMark::Signal),
        (death("oom_killed", ""), EndMark::Oom),
        (r#"{"end_reason":"moved"}"#.into(), EndMark::Other),
    ];
    for (number, (detail, _)) in (0..).zip(&kinds) {
        lives.take(entry(4 * number, "session_started", "/a", "{}"));
        lives.take(entry(4 * number + 2, "session_ended", "/a", detail));
    }
    lives.take(entry(22, "session_started", "/a", "no JSON at all"));
    let row = only(&lives);
    let ends: Vec<_> = row.marks.iter().map(|mark| mark.end).collect();
    assert_eq!(ends, kinds.map(|(_, end)| end));
    assert_eq!(row.marks[2].cause, "SIGKILL");
    let bars = [(0, Some(2)), (4, Some(6)), (8, Some(10)), (12, Some(14)), (16, Some(18)), (22, None)];
    assert_eq!(row.bars, bars.map(|(from, to)| bar(from, to)));
}

#[test]
fn a_life_that_began_before_the_window_begins_with_it() {
    let mut lives = Lives::new(window());
    let old = format!(r#"{{"started_at":"{}"}}"#, rfc3339(BASE - 9 * HOUR));
    lives.take(entry(5, "session_changed", "/a", &old));
    lives.take(entry(6, "session_ended", "/a", &death("exited", r#","code":0"#)));
    assert_eq!(only(&lives).bars, [bar(0, Some(6))]);
    // One without an entry lives all the time, and one that began later from then on.
    let key = |home: &str| RowKey { home: home.into(), ..RowKey::default() };
    lives.lives(key("/b"), b"b".to_vec(), &old);
    assert_eq!(lives.rows.get(&key("/b")).unwrap().bars, [bar(0, None)]);
    let late = format!(r#"{{"started_at":"{}"}}"#, rfc3339(BASE + 25 * HOUR));
    lives.lives(key("/c"), b"c".to_vec(), &late);
    assert_eq!(lives.rows.get(&key("/c")), None, "it began behind the window");
    lives.lives(key("/d"), b"d".to_vec(), "{}");
    assert_eq!(lives.rows.len(), 2);
}

#[test]
fn entries_after_a_window_in_the_past_say_what_lived_in_it() {
    let mut lives = Lives::new(window());
    let started =
        |hour: i64, rest: &str| format!(r#"{{"started_at":"{}"{rest}}}"#, rfc3339(BASE + hour * HOUR));
    let died = r#","end_reason":"died","death":{"kind":"exited","code":0}"#;
    lives.take(entry(25, "session_started", "/b", &started(25, "")));
    lives.take(entry(25, "process_ended", "/b", &started(2, died)));
    lives.take(entry(28, "session_changed", "/c", &started(20, "")));
    let gap = format!(r#"{{"from":"{}"}}"#, rfc3339(BASE + 22 * HOUR));
    lives.take(entry(29, "gap", "", &gap));
    lives.take(entry(30, "session_ended", "/a", &started(-9, died)));
    lives.take(entry(30, "session_ended", "/b", &started(25, died)));
    let rows: Vec<_> = lives.rows.iter().map(|(key, row)| (key.home.as_slice(), row)).collect();
    assert_eq!(rows.iter().map(|(home, _)| *home).collect::<Vec<_>>(), [b"/a", b"/c"]);
    assert_eq!([&rows[0].1.bars, &rows[1].1.bars], [&[bar(0, Some(24))], &[bar(20, None)]]);
    assert!(rows.iter().all(|(_, row)| row.marks.is_empty()), "{rows:#?}");
    assert_eq!(lives.gaps[""], [Span { from_ns: BASE + 22 * HOUR, to_ns: BASE + 24 * HOUR }]);
}

#[test]
fn an_unobserved_death_leaves_a_time_open_and_gaps_are_kept_by_host() {
    let mut lives = Lives::new(window());
    lives.take(entry(1, "session_started", "/a", "{}"));
    let between = format!(r#","between":["{}","{}"]"#, rfc3339(BASE + 2 * HOUR), rfc3339(BASE + 5 * HOUR));
    lives.take(entry(5, "session_ended", "/a", &death("unobserved", &between)));
    let gap = format!(r#"{{"from":"{}"}}"#, rfc3339(BASE - HOUR));
    lives.take(entry(3, "gap", "", &gap));
    lives.take(entry(9, "gap", "", "{}"));
    let row = only(&lives);
    assert_eq!((row.bars.as_slice(), row.marks[0].end), (&[bar(1, Some(2))][..], EndMark::Unobserved));
    assert_eq!(row.unseen, [Span { from_ns: BASE + 2 * HOUR, to_ns: BASE + 5 * HOUR }]);
    let spans =
        [(0, 3), (9, 9)].map(|(from, to)| Span { from_ns: BASE + from * HOUR, to_ns: BASE + to * HOUR });
    assert_eq!(lives.gaps.get("").unwrap(), &spans);
}

#[test]
fn restarts_are_one_bar_with_marks_that_count() {
    let mut lives = Lives::new(window());
    let (first, last) = (rfc3339(BASE + HOUR), rfc3339(BASE + HOUR + 9_000_000_000));
    let restarts = format!(
        r#"{{"restarts":{{"count":14,"first":"{first}","last":"{last}","deaths":{{"exited":1,"signaled":13}}}}}}"#
    );
    lives.take(entry(1, "session_started", "/a", &restarts));
    let row = only(&lives);
    assert_eq!(row.bars, [bar(1, None)]);
    assert_eq!(
        row.marks.iter().map(|mark| (mark.end, mark.count)).collect::<Vec<_>>(),
        [(EndMark::Signal, 14)]
    );
}

#[test]
fn a_session_that_ended_after_starts_that_are_counted_together_has_ended() {
    let (first, last) = (rfc3339(BASE), rfc3339(BASE + HOUR));
    let restarts = format!(
        r#"{{"restarts":{{"count":14,"first":"{first}","last":"{last}","deaths":{{"exited":14}}}}}}"#
    );
    for start in [Some(entry(0, "session_started", "/a", "{}")), None] {
        let mut lives = Lives::new(window());
        if let Some(start) = start {
            lives.take(start);
        }
        lives.take(entry(1, "session_ended", "/a", &restarts));
        let row = only(&lives);
        assert_eq!(row.bars, [bar(0, Some(1))]);
        assert_eq!(row.marks.iter().map(|mark| mark.count).sum::<u64>(), 14);
    }
}

#[test]
fn what_is_kept_is_bounded_whatever_the_history() {
    let mut lives = Lives::new(window());
    let detail = death("exited", r#","code":3"#);
    for second in 0..20_000 {
        let at =
            |entry: PastEntry<'static>, ns| PastEntry { at_ns: BASE + second * 1_000_000_000 + ns, ..entry };
        lives.take(at(entry(0, "session_started", "/a", "{}"), 0));
        let end = entry(0, "session_ended", "/a", &detail);
        lives.take(PastEntry { at_ns: BASE + second * 1_000_000_000 + 500_000_000, ..end });
        lives.take(at(entry(0, "gap", "", "{}"), 0));
    }
    assert_eq!(only(&lives).marks.last().unwrap().at_ns, BASE + 19_999_500_000_000, "of the last end");
    let row = only(&lives);
    let parts = usize::try_from(PARTS).unwrap();
    assert!(row.bars.len() <= parts && row.marks.len() <= parts && lives.gaps[""].len() <= parts);
    assert_eq!(row.marks.iter().map(|mark| mark.count).sum::<u64>(), 20_000);
    for home in 0..ROWS_MAX + 10 {
        lives.take(entry(1, "session_started", &format!("/h{home}"), "{}"));
    }
    assert_eq!((lives.rows.len(), lives.left_out), (ROWS_MAX, 11));
}

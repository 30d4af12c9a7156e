//! Which sessions are listed, and how a line looks.

use clap::Parser;
use unicode_width::UnicodeWidthStr as _;

use super::columns::ended_ago;
use super::*;
use crate::api::cost::CostJson;
use crate::api::death::DeathJson;
use crate::clock;
use crate::text::bytes::to_line;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    list: ListArgs,
}

fn shown_by(words: &[&str]) -> Vec<String> {
    let Line { list } = Line::try_parse_from([&["list"], words].concat()).unwrap();
    let filter = WatchFilter::new(false, list.glob.as_deref()).unwrap();
    let session = |name: &'static str, home: &'static str, state| SessionJson {
        name: Text::from(name.as_bytes()),
        home: Text::from(home.as_bytes()),
        state,
        ..SessionJson::default()
    };
    let sessions = [
        session("alpha", "/srv/a/alpha", SessionState::Live),
        session("beta", "/srv/b/beta", SessionState::Left),
    ];
    sessions.iter().filter(|it| list.wants(&filter, it)).map(|it| shown(&it.name)).collect()
}

fn lines(columns: &[Column], session: &SessionJson<'_>, width: Option<usize>) -> Vec<String> {
    let lines = table(columns, &[session]);
    let lines = lines.lines(width).map(|line| anstream::adapter::strip_str(&line).to_string());
    lines.collect()
}

fn seconds_ago(seconds: i64) -> String {
    let now_s = i64::try_from(clock::realtime_ns() / 1_000_000_000).unwrap();
    crate::text::time::unix_rfc3339((now_s - seconds) * 1_000_000_000).unwrap()
}

/// A session of which every column is as wide as it can be.
fn wide(name: &[u8], state: SessionState) -> SessionJson<'static> {
    let text = |bytes: &[u8]| Text::from(bytes.to_vec());
    let home = [b"/srv/agents/", name].concat();
    SessionJson {
        name: text(name),
        home: text(&home),
        state,
        since: "2026-01-01T00:00:00.000Z".into(),
        foreign: Some(true),
        roots: 3,
        session_death: (state == SessionState::Ended).then(|| DeathJson {
            kind: crate::api::words::DeathCause::Unobserved,
            between: Some(["2026-01-01T00:00:00Z".into(), "2026-01-01T00:00:01Z".into()]),
            ..DeathJson::default()
        }),
        primary: crate::api::process::ProcessJson {
            pid: 4_194_304,
            stopped: true,
            tty: Some(text(b"pts/1048575")),
            program: Some(text(name)),
            started_at: seconds_ago(999 * 86_400 + 23 * 3_600 + 1_800),
            ..Default::default()
        },
        ..SessionJson::default()
    }
}

#[test]
fn a_line_fits_the_terminal_and_the_pid_is_whole() {
    let names = [b"n".repeat(200), "日本語".repeat(30).into_bytes(), b"\n\x1b[2J\xff\xe2\x80\xae".repeat(9)];
    let states = [SessionState::Live, SessionState::Detached, SessionState::Ended];
    for (name, state) in names.iter().flat_map(|name| states.map(|state| (name, state))) {
        let session = wide(name, state);
        for (width, columns) in [(80, COLUMNS), (40, COLUMNS), (40, LONG_COLUMNS)] {
            let [header, line] = &lines(columns, &session, Some(width))[..] else { panic!() };
            assert!(header.width() <= width && line.width() <= width, "{width}: {line}");
            assert!(line.contains("  4194304  ") && !line.contains('\n'), "{line}");
            let has_all =
                ["STATE", "TTY", "UP", "ENDED", "PROGRAM", "HOME"].iter().all(|it| header.contains(it));
            assert!(width < 80 || (has_all && line.contains("  /srv")), "{line}");
        }
        let whole = lines(COLUMNS, &session, None).remove(1);
        assert!(whole.ends_with(&format!("/srv/agents/{}", to_line(name))), "{whole}");
    }
    // Both ends of a home show.
    let line = lines(COLUMNS, &wide(&b"x".repeat(90), SessionState::Live), Some(100)).remove(1);
    assert!(line.contains("  /srv/") && line.ends_with("…xxxxxx"), "{line}");
}

#[test]
fn a_terminal_that_is_too_narrow_for_long_has_the_line_of_list_and_the_rest_below() {
    let text = |text: &str| Text::from(text.as_bytes().to_vec());
    let mut session = wide(b"alpha", SessionState::Live);
    (session.foreign, session.roots, session.primary.stopped) = (None, 1, false);
    session.primary.cwd = Some(text(&format!("/srv/agents/alpha/{}src", "deep/".repeat(20))));
    session.primary.unit = Some(text("session-3.scope"));
    session.primary.key = "7f3e90ab-4194304-1a2b3c4d5e".into();
    session.starts = vec!["2026-01-01T00:00:00Z".into(); 2];
    session.cost = Some(CostJson {
        cpu_ms: 420,
        max_rss_bytes: Some(3 << 20),
        processes: Some(4),
        ..CostJson::default()
    });
    let columns: Vec<Column> = LONG_COLUMNS
        .iter()
        .copied()
        .filter(|column| !matches!(column, Column::Ended | Column::Labels | Column::Container))
        .collect();
    let lines = |width| -> Vec<String> {
        let lines = details::lines(&columns, &[&session, &session], width);
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    };
    assert_eq!(
        lines(80)[..5],
        [
            "NAME       PID  STATE  TTY                UP  PROGRAM  HOME",
            "alpha  4194304  live   pts/1048575  999d 23h  alpha    /srv/agents/alpha",
            "    user root  starts 2  cpu 0.42s  memory 3 MiB  born 4",
            "    cwd /srv/agents/alpha/deep/deep/deep/de…ep/deep/deep/deep/deep/deep/deep/src",
            "    unit session-3.scope  key 7f3e90ab-4194304-1a2b3c4d5e",
        ]
    );
    assert_eq!(lines(80).len(), 9);
    for width in 40..200 {
        assert!(lines(width).iter().all(|line| line.width() <= width), "{width}: {:#?}", lines(width));
    }
    let table = table(&columns, &[&session]);
    let shown = table.lines(Some(table.width_min())).nth(1).unwrap();
    let shown = anstream::adapter::strip_str(&shown).to_string();
    assert!(shown.contains(" alpha ") && shown.contains(" /srv/agents/alpha "), "{shown}");
    assert!(table.width_min() > 150 && shown.ends_with("1a2b3c4d5e"), "{shown}");
}

#[test]
fn an_ended_session_says_how_long_ago_that_was() {
    let ended = SessionJson { since: seconds_ago(3_630), ..wide(b"alpha", SessionState::Ended) };
    let lines = lines(COLUMNS, &ended, None);
    let at = lines[0].find("ENDED").unwrap();
    assert_eq!(lines[1].get(at..at + 5), Some("1h 0m"), "{lines:?}");
    assert_eq!(ended_ago(&wide(b"alpha", SessionState::Live)), "-");
}

#[test]
fn a_session_in_the_home_of_another_user_is_marked() {
    let primary =
        crate::api::process::ProcessJson { key: "7f3e90ab-4242-1a2b3c4d5e".into(), ..Default::default() };
    let foreign = SessionJson {
        name: Text::from(&b"alpha"[..]),
        home: Text::from(&b"/srv/a"[..]),
        state: SessionState::Live,
        foreign: Some(true),
        primary,
        ..SessionJson::default()
    };
    let lines = lines(COLUMNS, &foreign, None);
    assert!(lines[1].contains("live (foreign)"), "{lines:?}");
    assert_eq!(
        long_porcelain(&foreign),
        "alpha\t0\t\t/srv/a\t\troot\ttrue\tlive\t\t\t\t7f3e90ab-4242-1a2b3c4d5e"
    );
}

#[test]
fn an_ended_session_says_how_it_ended() {
    let moved = SessionJson {
        state: SessionState::Ended,
        end_reason: Some(crate::api::words::SessionEndReason::Moved),
        ..SessionJson::default()
    };
    let lines = lines(COLUMNS, &moved, None);
    assert!(lines[1].contains("ended: it moved to another home"), "{lines:?}");
}

#[test]
fn a_home_in_another_mount_namespace_is_told_apart() {
    let inside = SessionJson {
        home_mnt_ns: Some(4026532700),
        home: Text::from(&b"/work"[..]),
        ..SessionJson::default()
    };
    assert_eq!(lines(&[Column::Home], &inside, None)[1], "/work@4026532700");
}

#[test]
fn a_list_is_narrowed_by_name_home_and_state() {
    assert_eq!(shown_by(&[]), ["alpha", "beta"]);
    assert_eq!(shown_by(&["al*"]), ["alpha"]);
    assert_eq!(shown_by(&["/srv/b/*"]), ["beta"]);
    assert_eq!(shown_by(&["--state", "left"]), ["beta"]);
    assert!(shown_by(&["al*", "--state", "left"]).is_empty());
    assert!(Line::try_parse_from(["list", "--state", "paused"]).is_err());
}

#[test]
fn the_cost_of_a_session_is_that_of_all_its_processes() {
    let cost =
        CostJson { cpu_ms: 400, cpu_children_ms: 25, max_rss_bytes: Some(5 << 20), processes: Some(12) };
    let live = SessionJson { cost: Some(cost), ..wide(b"alpha", SessionState::Live) };
    let shown = |session: &SessionJson<'_>| {
        let columns = [Column::Cpu, Column::Memory, Column::Processes];
        lines(&columns, session, None).remove(1).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&live), "0.42s 5 MiB 12");
    let death =
        DeathJson { cost: Some(CostJson { cpu_children_ms: 3_700_000, ..cost }), ..DeathJson::default() };
    let ended = SessionJson { session_death: Some(death), ..wide(b"alpha", SessionState::Ended) };
    assert_eq!(shown(&ended), "1h 1m 5 MiB 12");
    assert_eq!(shown(&wide(b"alpha", SessionState::Live)), "? ? ?");
}

#[test]
fn a_long_line_has_the_unit_and_the_whole_container() {
    let id = "1b2c".repeat(16);
    let primary = crate::api::process::ProcessJson {
        unit: Some(Text::from(&b"docker.service"[..])),
        container: Some(Text::from(id.as_bytes())),
        ..Default::default()
    };
    let session = SessionJson { primary, ..SessionJson::default() };
    let lines = lines(&[Column::Unit, Column::Container], &session, None);
    assert!(lines[0].starts_with("UNIT            CONTAINER"), "{lines:?}");
    assert_eq!(lines[1], format!("docker.service  {id}"));
}

#[test]
fn a_long_line_ends_with_labels_without_control_characters_and_the_whole_key() {
    let labels = [("agent", &b"1\x1b[2J"[..]), ("task", b"a b")];
    let labels = labels.map(|(name, value)| (name.into(), Text::from(value)));
    let key = "7f3e90ab-4242-1a2b3c4d5e";
    let primary = crate::api::process::ProcessJson { key: key.into(), ..Default::default() };
    let session = SessionJson { labels: labels.into(), primary, ..SessionJson::default() };
    let lines = lines(LONG_COLUMNS, &session, None);
    let header = lines[0].trim_end_matches("KEY");
    assert!(header.len() < lines[0].len() && header.trim_end().ends_with("  LABELS"), "{lines:?}");
    assert!(lines[1].ends_with(&format!(r"  agent=1\x1b[2J task=a b  {key}")), "{lines:?}");
    assert!(!COLUMNS.contains(&Column::Labels) && !COLUMNS.contains(&Column::Key));
}

//! The screen of `observer top`, from events to lines of text.

use std::borrow::Cow;

use ratatui_core::backend::TestBackend;
use ratatui_core::terminal::Terminal;

use super::super::event::{
    Details, DetailsWanted, Effect, EventLine, LastDeath, Scope, SeenSession, SessionsSeen, TopEvent,
};
use super::super::jump::OwnMux;
use super::super::keys::TopKey;
use super::super::model::TopSetting;
use super::*;
use crate::api::cost::CostJson;
use crate::api::death::DeathJson;
use crate::api::process::ProcessJson;
use crate::api::session::SessionJson;
use crate::api::words::{DeathCause, SessionEndReason};
use crate::text::bytes::Text;
use crate::text::time::unix_ns;

/// 2026-11-21T08:00:00Z.
const NOW_NS: i128 = 1_795_248_000_000_000_000;
const SECOND_NS: i128 = 1_000_000_000;

/// A moment so many seconds before [`NOW_NS`].
fn ago(seconds: i64) -> String {
    unix_rfc3339(i64::try_from(NOW_NS).unwrap() - seconds * 1_000_000_000).unwrap()
}

fn session(name: &str, pid: u32, cpu_ms: u64) -> SessionJson<'static> {
    let text = |text: String| Text::from(text.into_bytes());
    let primary = ProcessJson {
        pid,
        key: format!("boot-{pid}-1"),
        uid: 1000,
        program: Some(text("claude".into())),
        started_at: ago(7_500),
        tty: Some(text("pts/3".into())),
        cwd: Some(text(format!("/srv/{name}"))),
        ..ProcessJson::default()
    };
    SessionJson {
        name: text(name.into()),
        home: text(format!("/srv/{name}")),
        instance: 1,
        state: SessionState::Live,
        since: ago(7_500),
        roots: 1,
        starts: vec![ago(9_000), ago(7_500)],
        tty_input_at: Some(ago(900)),
        tty_output_at: Some(ago(600)),
        cost: Some(CostJson {
            cpu_ms,
            max_rss_bytes: Some(210_000_000),
            processes: Some(14),
            ..CostJson::default()
        }),
        primary,
        ..SessionJson::default()
    }
}

fn seen(session: SessionJson<'static>) -> SeenSession {
    SeenSession { session, ..SeenSession::default() }
}

/// The answer at this second of the boot.
fn answer(second: u64, sessions: Vec<SessionJson<'static>>) -> TopEvent {
    TopEvent::Sessions(SessionsSeen {
        sessions: sessions.into_iter().map(seen).collect(),
        at_boottime_ns: second * 1_000_000_000,
        is_certain: true,
    })
}

fn killed(name: &str, pid: u32) -> SessionJson<'static> {
    let death = DeathJson {
        kind: DeathCause::Signaled,
        signal: Some(9),
        signal_name: Some("SIGKILL".into()),
        at: ago(65),
        lifetime_ms: Some(5_000),
        ..DeathJson::default()
    };
    SessionJson {
        state: SessionState::Ended,
        since: ago(65),
        end_reason: Some(SessionEndReason::Died),
        session_death: Some(death),
        cost: None,
        ..session(name, pid, 0)
    }
}

/// A screen, and the effects that its events had.
struct Screen {
    model: TopModel,
    size: (u16, u16),
    effects: Vec<Effect>,
}

impl Screen {
    fn of(scope: Scope, width: u16, height: u16) -> Self {
        let setting = TopSetting { scope, colour: true, own: OwnMux::new(None, 0) };
        let model = TopModel::new(setting, (width, height), NOW_NS);
        Self { model, size: (width, height), effects: Vec::new() }
    }

    fn new(width: u16, height: u16) -> Self {
        Self::of(Scope::Local, width, height)
    }

    /// The same after three sessions were read twice, two seconds apart.
    fn with_three(width: u16, height: u16) -> Self {
        let mut screen = Self::new(width, height);
        for (second, spent) in [(100, 1_000), (102, 1_250)] {
            let mut beta = session("beta", 12, 90_000);
            (beta.state, beta.primary.tty, beta.primary.stopped) = (SessionState::Detached, None, false);
            beta.tty_output_at = None;
            beta.tty_input_at = None;
            let mut gamma = session("gamma", 13, 4_000);
            (gamma.roots, gamma.primary.started_at) = (3, ago(42));
            screen.event(answer(second, vec![session("alpha", 11, spent), beta, gamma]));
        }
        screen
    }

    fn event(&mut self, event: TopEvent) -> &mut Self {
        let now = self.model.now_ns;
        self.effects.extend(self.model.update(event, now));
        self.model.settle();
        self
    }

    fn key(&mut self, key: TopKey) -> &mut Self {
        self.event(TopEvent::Key(key))
    }

    fn keys(&mut self, keys: &str) -> &mut Self {
        for c in keys.chars() {
            self.key(TopKey::Char(c));
        }
        self
    }

    fn terminal(&self) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(self.size.0, self.size.1)).unwrap();
        let drawn = terminal.draw(|frame| {
            if let Some(position) = draw(&self.model, frame.buffer_mut()) {
                frame.set_cursor_position(position);
            }
        });
        let _ = drawn.unwrap();
        terminal
    }

    /// The screen as lines of text.
    fn lines(&self) -> Vec<String> {
        let terminal = self.terminal();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(usize::from(self.size.0).max(1)).map(|cells| {
            let mut skip = 0;
            let mut line = String::new();
            for cell in cells {
                if skip == 0 {
                    line.push_str(cell.symbol());
                }
                skip = std::cmp::max(skip, cell.symbol().width()).saturating_sub(1);
            }
            line.trim_end().to_owned()
        });
        lines.collect()
    }

    fn chosen(&self) -> String {
        self.model
            .chosen()
            .map(|row| String::from_utf8_lossy(row.seen.session.name.as_bytes()).into_owned())
            .unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let rows = self.model.shown.iter().map(|&at| &self.model.rows[at]);
        rows.map(|row| String::from_utf8_lossy(row.seen.session.name.as_bytes()).into_owned()).collect()
    }
}

fn now() -> String {
    clock(NOW_NS)
}

#[test]
fn eighty_columns_show_state_cost_and_the_last_death() {
    let mut screen = Screen::with_three(80, 8);
    screen.event(TopEvent::Deaths(vec![(
        screen.model.rows[2].id(),
        LastDeath { at: ago(300), cause: "SIGKILL by bash (900)".into() },
    )]));
    let title = "observer top  3 sessions, 1 detached  by NAME";
    assert_eq!(
        screen.lines(),
        [
            format!("{title}{:>35}", now()),
            "NAME       STATE         UP STARTS   CPU  MEMORY   QUIET LAST DEATH".into(),
            "alpha      live       2h 5m      2   12%  210 MB    busy -".into(),
            "beta       detached   2h 5m      2    0%  210 MB       - -".into(),
            "gamma      live +2      42s      2    0%  210 MB  10m 0s 5m 0s ago: SIGKILL by …".into(),
            String::new(),
            String::new(),
            "?help  /filter  ←→sort  Enter details  g pane  q quit".into(),
        ]
    );
}

#[test]
fn forty_columns_and_ten_lines_are_enough_and_a_wide_screen_shows_more() {
    let screen = Screen::with_three(40, 10);
    let lines = screen.lines();
    assert_eq!(lines[0], "observer top  3 sessions, 1 detached  b…");
    assert_eq!(lines[1], "NAME       STATE         UP   CPU");
    assert_eq!(lines[2], "alpha      live       2h 5m   12%");
    assert_eq!(lines[9], "?help  /filter  ←→sort  Enter details  g");
    let wide = Screen::with_three(140, 10).lines();
    assert!(wide[1].contains("PROGRAM") && wide[1].ends_with("HOME"), "{wide:#?}");
    assert!(wide[2].contains("claude") && wide[2].ends_with("/srv/alpha"), "{wide:#?}");
}

#[test]
fn every_size_is_drawn_and_nothing_leaves_the_screen() {
    for (width, height) in
        (0..60).flat_map(|width| [0, 1, 2, 3, 4, 5, 15, 16, 30].map(|height| (width, height)))
    {
        let mut screen = Screen::with_three(width, height);
        for keys in ["", "?", "?", "g", "/x", "e"] {
            screen.keys(keys);
            assert_eq!(screen.lines().len(), usize::from(if width == 0 { 0 } else { height }));
        }
        screen.key(TopKey::Esc).key(TopKey::Esc).key(TopKey::Enter).lines();
    }
}

#[test]
fn a_state_of_another_size_is_drawn_within_the_buffer() {
    for keys in ["", "?", "/x"] {
        for (width, height) in [(0, 0), (1, 1), (39, 7), (40, 30), (200, 5), (200, 60)] {
            let mut screen = Screen::with_three(80, 24);
            screen.keys(keys);
            let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
            let cursor = draw(&screen.model, &mut buffer);
            assert!(cursor.is_none_or(|at| buffer.area.contains(at)), "{width}x{height}: {cursor:?}");
            let (mut fitted, mut expected) = (screen, Screen::with_three(width, height));
            expected.keys(keys);
            fitted.model.fit(width, height);
            fitted.size = (width, height);
            assert_eq!(fitted.lines(), expected.lines(), "{width}x{height}");
        }
    }
}

#[test]
fn starts_that_are_not_all_kept_are_so_many_and_more() {
    let mut screen = Screen::new(80, 24);
    let mut often = session("alpha", 11, 0);
    often.starts = vec![ago(9_000); 63];
    screen.event(answer(1, vec![often.clone()]));
    assert!(screen.lines()[2].contains(" 63 "), "{:?}", screen.lines());
    often.starts.push(ago(7_500));
    screen.event(answer(2, vec![often])).key(TopKey::Enter);
    assert!(screen.lines()[2].contains(" 64+ "), "{:?}", screen.lines());
    assert!(screen.lines().iter().any(|line| line.contains(", 64+ starts, ")), "{:?}", screen.lines());
}

#[test]
fn the_later_of_two_ends_is_the_last_death() {
    let death = |seconds, cause: &str| LastDeath { at: ago(seconds), cause: cause.into() };
    let mut screen = Screen::with_three(80, 8);
    let id = screen.model.rows[0].id();
    let (old, new, between) = (death(300, "exit 1"), death(200, "exit 2"), death(250, "exit 3"));
    for (read, expected) in [(&old, &old), (&new, &new), (&between, &new)] {
        screen.event(TopEvent::Deaths(vec![(id.clone(), read.clone())]));
        assert_eq!(screen.model.rows[0].death.as_ref(), Some(expected));
    }
    // Also where the session has no row in between.
    screen.event(TopEvent::Changed(Box::new(seen(killed("alpha", 11))), 103_000_000_000));
    screen.event(TopEvent::Deaths(vec![(id.clone(), death(400, "exit 4"))]));
    screen.event(TopEvent::Changed(Box::new(seen(session("alpha", 21, 0))), 104_000_000_000));
    assert_eq!(screen.model.rows[0].death, Some(death(65, "SIGKILL")));
    // An end that is in the journal alone is newer than the one that a frame said.
    screen.event(TopEvent::Deaths(vec![(id, death(5, "exit 5"))]));
    assert_eq!(screen.model.rows[0].death, Some(death(5, "exit 5")));
}

#[test]
fn a_filter_that_takes_no_more_characters_leaves_the_choice() {
    let mut screen = Screen::with_three(80, 8);
    screen.keys("/").keys(&"a".repeat(64));
    screen.event(answer(3, ["x", "y"].map(|end| session(&format!("{}{end}", "a".repeat(64)), 9, 0)).into()));
    let chosen = screen.chosen();
    screen.keys("jj");
    assert_eq!((screen.model.filter.len(), screen.chosen()), (64, chosen.clone()));
    screen.key(TopKey::Down);
    assert_ne!(screen.chosen(), chosen);
}

#[test]
fn hostile_names_are_escaped_and_cut() {
    let mut screen = Screen::new(140, 6);
    let mut evil = session("x", 11, 0);
    evil.name = Text::from([&b"\x1b[2J\n\xff\xe2\x80\xae"[..], "語".repeat(200).as_bytes()].concat());
    evil.primary.program = Some(Text::from(&b"\x1b]0;owned\x07"[..]));
    evil.primary.tty = Some(Text::from(&b"\r\x9b"[..]));
    evil.primary.pane = Some(Text::from(&b"%1\x1b[A"[..]));
    evil.primary.mux = Some(Cow::Borrowed("tmux"));
    evil.primary.mux_socket = Some(Text::from(&b"\x1b"[..]));
    screen.event(answer(1, vec![evil])).keys("/語");
    let check = |screen: &Screen| {
        let terminal = screen.terminal();
        for cell in terminal.backend().buffer().content() {
            assert!(cell.symbol().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{cell:?}");
        }
        screen.lines().join("\n")
    };
    assert!(check(&screen).contains(r"\x1b[2J\n\xff"));
    screen.key(TopKey::Enter).keys("g");
    assert!(check(&screen).contains(r"names a pane that is none of tmux"), "{}", check(&screen));
    screen.key(TopKey::Enter);
    check(&screen);
    screen.event(TopEvent::Note("a\x1b[2Jb\u{202e}".into())).event(TopEvent::Away("c\x07d".into()));
    let text = check(&screen);
    assert!(text.contains(r"a\x1b[2Jb\u{202e}") && text.contains(r"c\x07d"), "{text}");
}

#[test]
fn rows_are_sorted_filtered_and_chosen_by_keys() {
    let mut screen = Screen::with_three(80, 8);
    assert_eq!(
        (screen.names(), screen.chosen()),
        (vec!["alpha".into(), "beta".into(), "gamma".into()], "alpha".into())
    );
    screen.key(TopKey::Down).keys("r");
    assert_eq!((screen.names()[0].as_str(), screen.chosen().as_str()), ("gamma", "beta"), "the choice stays");
    screen.keys("u");
    assert_eq!(screen.names(), ["alpha", "beta", "gamma"]);
    screen.keys("b");
    assert_eq!(screen.names(), ["alpha", "gamma", "beta"], "busy first, then the shortest silence");
    screen.keys("c");
    assert_eq!(screen.names()[0], "alpha");
    screen.key(TopKey::Right);
    assert_eq!(screen.model.column, TopColumn::Memory);
    screen.key(TopKey::Last);
    assert_eq!(screen.chosen(), "gamma");
    screen.keys("/BET");
    assert_eq!((screen.names(), screen.chosen()), (vec!["beta".into()], "beta".into()));
    assert_eq!(screen.lines()[7], "/BET");
    let cursor = screen.terminal().backend().cursor_position();
    assert_eq!((cursor.x, cursor.y), (4, 7));
    screen.key(TopKey::Backspace).key(TopKey::Enter).keys("n");
    assert!(screen.lines()[0].starts_with("observer top  1 shown, 3 sessions"), "{:?}", screen.lines());
    assert_eq!(screen.lines()[7], "/BE  Esc shows all");
    screen.key(TopKey::Esc);
    assert_eq!((screen.names().len(), screen.effects.len()), (3, 0));
    screen.keys("/nothing").key(TopKey::Enter);
    assert_eq!(screen.lines()[2], "no session matches the filter: Esc shows all");
    screen.key(TopKey::Esc).keys("[A");
    assert_eq!((screen.names().len(), screen.effects.len()), (3, 0));
    // An arrow key whose bytes come in two parts.
    screen.key(TopKey::Esc).keys("[A");
    assert_eq!((screen.effects.len(), screen.chosen().as_str()), (0, "alpha"));
    screen.keys("q");
    assert_eq!(screen.effects, [Effect::Quit]);
    screen.key(TopKey::Interrupt);
    assert_eq!(screen.effects, [Effect::Quit, Effect::Quit]);
}

#[test]
fn a_long_list_scrolls_with_the_chosen_row() {
    let mut screen = Screen::new(80, 8);
    let sessions = |count: u32| (0..count).map(|pid| session(&format!("s{pid:03}"), pid + 1, 0)).collect();
    screen.event(answer(1, sessions(100)));
    screen.key(TopKey::PageDown);
    assert_eq!((screen.chosen().as_str(), screen.model.offset), ("s005", 1));
    screen.key(TopKey::Last);
    assert_eq!((screen.chosen().as_str(), screen.model.offset), ("s099", 95));
    assert!(screen.lines()[6].starts_with("s099"), "{:?}", screen.lines());
    screen.event(answer(2, sessions(10)));
    assert_eq!(
        (screen.chosen().as_str(), screen.model.offset),
        ("s009", 5),
        "the last row of those that are left"
    );
    screen.event(answer(3, Vec::new()));
    assert_eq!((screen.lines()[2].as_str(), screen.chosen().as_str()), ("no sessions", ""));
    screen.event(answer(4, sessions(3)));
    assert_eq!(screen.chosen(), "s000");
}

#[test]
fn frames_change_rows_between_answers_and_older_answers_do_not_undo_them() {
    let mut screen = Screen::with_three(80, 8);
    let second = |second: u64| second * 1_000_000_000;
    let mut left = session("alpha", 11, 0);
    (left.state, left.cost) = (SessionState::Left, None);
    screen.event(TopEvent::Changed(Box::new(seen(left)), second(103)));
    assert!(
        screen.lines()[2].starts_with("alpha      left       2h 5m      2   12%  210 MB"),
        "{:?}",
        screen.lines()
    );
    let (beta, gamma) = (session("beta", 12, 0), session("gamma", 13, 0));
    screen.event(TopEvent::Changed(Box::new(seen(killed("beta", 12))), second(104)));
    assert_eq!(screen.names(), ["alpha", "gamma"]);
    screen.event(TopEvent::Changed(Box::new(seen(session("delta", 14, 0))), second(105)));
    assert_eq!(screen.names(), ["alpha", "delta", "gamma"]);
    // It was made before the frames.
    screen.event(answer(102, vec![session("alpha", 11, 1_450), gamma.clone()]));
    assert_eq!(screen.names(), ["alpha", "delta", "gamma"]);
    assert_eq!(screen.model.rows[0].seen.session.state, SessionState::Left);
    // It is newer: what it does not have is gone. The new primary has the death of the former one.
    let beta = SessionJson { primary: ProcessJson { key: "other".into(), ..beta.primary.clone() }, ..beta };
    screen.event(answer(106, vec![session("alpha", 11, 1_450), beta, gamma]));
    assert_eq!(screen.names(), ["alpha", "beta", "gamma"]);
    let beta = screen.lines()[3].clone();
    assert!(beta.ends_with("2     -  210 MB  10m 0s 1m 5s ago: SIGKILL"), "{beta}");
}

#[test]
fn thousands_of_changes_are_put_in_order_once() {
    let mut screen = Screen::new(80, 8);
    let sessions = |count: u32| (0..count).map(|pid| session(&format!("s{pid:04}"), pid + 1, 0)).collect();
    screen.event(answer(1, sessions(2_000)));
    screen.key(TopKey::Last);
    for pid in 0..2_000 {
        let ended = seen(killed(&format!("s{pid:04}"), pid + 1));
        screen.model.update(TopEvent::Changed(Box::new(ended), 2_000_000_000), NOW_NS);
        assert_eq!(screen.model.shown.len(), 2_000);
    }
    screen.key(TopKey::Down);
    assert_eq!((screen.names().len(), screen.chosen().as_str()), (0, ""));
}

#[test]
fn sessions_that_ended_are_shown_when_asked_for() {
    let mut screen = Screen::with_three(80, 8);
    screen.keys("e");
    assert_eq!(screen.effects, [Effect::List { ended: true }]);
    screen.event(answer(110, vec![session("alpha", 11, 0), killed("omega", 9)]));
    let lines = screen.lines();
    assert_eq!(lines[3], "omega      ended         5s      2     -       -       - 1m 5s ago: SIGKILL");
    assert!(lines[0].starts_with("observer top  2 shown, 1 session  by"), "{lines:?}");
    screen.keys("e");
    assert_eq!((screen.names(), screen.effects.len()), (vec!["alpha".into()], 2));
}

#[test]
fn a_daemon_that_is_away_is_said_and_comes_back() {
    let mut screen = Screen::with_three(80, 8);
    screen.event(TopEvent::Away("no daemon listens".into()));
    screen.model.update(TopEvent::Away("it is starting".into()), NOW_NS + 9 * SECOND_NS);
    let expected = format!("observer top  the daemon is away since {}: it is starting", now());
    assert_eq!(screen.lines()[0], expected);
    screen.event(answer(1, vec![session("alpha", 11, 0)]));
    assert!(screen.lines()[0].starts_with("observer top  1 session  by"), "{:?}", screen.lines());
    assert_eq!(screen.model.rows[0].cpu_permille, None, "of another boot, or of another clock");
    screen.model.update(TopEvent::Tick, NOW_NS + 60 * SECOND_NS);
    assert!(screen.lines()[0].contains("no answer since "), "{:?}", screen.lines());
    // A daemon that takes long is asked each 20 s.
    let mut slow = Screen::with_three(80, 8);
    slow.model.update(TopEvent::Tick, NOW_NS + 25 * SECOND_NS);
    assert!(!slow.lines()[0].contains("no answer since "), "{:?}", slow.lines());
}

#[test]
fn details_are_asked_for_and_shown_below_the_table() {
    let mut screen = Screen::with_three(80, 24);
    screen.key(TopKey::Enter);
    let id = screen.model.rows[0].id();
    assert_eq!(screen.effects, [Effect::Ask(DetailsWanted { id: id.clone(), pid: Some(11) })]);
    assert!(screen.lines().iter().any(|line| line == "asking …"));
    let event = |event: &str, is_bad| EventLine {
        when: "2026-11-21 08:00:00".into(),
        event: event.into(),
        how: "exit 3".into(),
        is_bad,
    };
    let details = Details {
        id,
        user: "agents".into(),
        processes: Ok(vec!["11 claude".into(), "└─ 14 node server.js".into()]),
        events: Ok(vec![event("ended", true), event("started", false)]),
    };
    screen.event(TopEvent::Details(Box::new(details.clone())));
    let since = crate::cli::history::shown::local_time(unix_ns(&ago(7_500)).unwrap());
    let since = &since[..19];
    assert!(since.starts_with("2026-11-2"), "{since}");
    let expected = [
        "── details ─────────────────────────────────────────────────────────────────────".to_owned(),
        "alpha  claude  pid 11  /srv/alpha".into(),
        format!("live since {since}, up 2h 5m, 2 starts, user agents"),
        "terminal pts/3".into(),
        "CPU 12% now, 1.25s in all, at most 210 MB in one process, 14 processes born in".into(),
        "it".into(),
        "key boot-11-1".into(),
        "PROCESSES".into(),
        "11 claude".into(),
        "└─ 14 node server.js".into(),
        "LAST EVENTS".into(),
        "2026-11-21 08:00:00  ended    exit 3".into(),
        "2026-11-21 08:00:00  started  exit 3".into(),
    ];
    assert_eq!(screen.lines()[8..21], expected);
    // They are asked for again after a while, and for another session at once; an answer about the former one is not shown.
    let ask = |pid| matches!(pid, Some(Effect::Ask(DetailsWanted { pid: Some(_), .. })));
    assert_eq!(screen.model.update(TopEvent::Tick, NOW_NS + SECOND_NS), None);
    assert!(ask(screen.model.update(TopEvent::Tick, NOW_NS + 5 * SECOND_NS)));
    assert!(ask(screen.model.update(TopEvent::Key(TopKey::Down), NOW_NS + 5 * SECOND_NS)));
    screen.event(TopEvent::Details(Box::new(details)));
    assert!(screen.lines().iter().any(|line| line == "asking …"));
    screen.key(TopKey::Esc);
    assert_eq!(screen.model.pane, TopPane::Closed);
}

#[test]
fn details_and_help_take_a_small_screen_and_scroll() {
    let mut screen = Screen::with_three(40, 10);
    screen.key(TopKey::Enter);
    let lines = screen.lines();
    assert!(lines[1].starts_with("── details, lines 1-7 of "), "{lines:#?}");
    assert!(lines[2].starts_with("alpha  claude  pid 11"), "{lines:#?}");
    screen.keys("]]]]]]]]]]]]]]]]]]]]]]]]");
    assert_eq!(screen.lines()[8], "asking …");
    screen.key(TopKey::Esc).keys("?");
    assert!(screen.lines()[2].starts_with("↑ ↓ j k   choose a session"), "{:?}", screen.lines());
    for _ in 0..100 {
        screen.key(TopKey::Down);
    }
    assert!(screen.lines()[8].contains("quit"), "{:#?}", screen.lines());
    screen.keys("?");
    assert_eq!(screen.model.pane, TopPane::Closed);
}

#[test]
fn a_fleet_shows_hosts_and_no_costs() {
    let mut screen = Screen::of(Scope::Fleet, 80, 6);
    let on = |host: &str, session| SeenSession { host_id: format!("id-{host}"), host: host.into(), session };
    let mut far = session("alpha", 11, 0);
    far.cost = None;
    let sessions = vec![on("web1", far.clone()), on("web2\u{1b}", far)];
    screen
        .event(TopEvent::Presence("id-web1".into(), true))
        .event(TopEvent::Presence("id-web2\u{1b}".into(), false));
    screen.event(TopEvent::Sessions(SessionsSeen { sessions, at_boottime_ns: 0, is_certain: true }));
    let lines = screen.lines();
    assert_eq!(
        lines[1..4],
        [
            "HOST     NAME       STATE         UP STARTS LAST DEATH         PROGRAM",
            "web1     alpha      live       2h 5m      2 -                  claude",
            r"web2\x1b alpha      unknown    2h 5m      2 -                  claude",
        ]
    );
    screen.keys("c");
    assert_eq!(screen.model.column, TopColumn::Name, "there is no such column");
    screen.keys("h").event(TopEvent::Presence("id-web2\u{1b}".into(), true));
    assert_eq!(screen.model.column, TopColumn::Host);
    assert!(screen.lines()[3].contains(" live "), "{:?}", screen.lines());
}

#[test]
fn without_colours_no_cell_has_one() {
    for colour in [true, false] {
        let mut screen = Screen::with_three(80, 24);
        screen.model.setting.colour = colour;
        screen.key(TopKey::Enter).event(TopEvent::Away("x".into()));
        let terminal = screen.terminal();
        let mut cells = terminal.backend().buffer().content().iter();
        let coloured = cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(coloured, colour);
    }
}

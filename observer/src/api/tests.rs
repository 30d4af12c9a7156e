//! The contract's objects, complete, from a map with given inputs.

use observer_core::Settings;
use observer_core::cost::ProcessUsage;
use observer_core::input::{Block, ProcessFacts, RawPath, TaskRow};
use observer_core::label::LabelVariable;
use observer_core::process::{Comm, DirId, Tty, Uids};
use observer_core::rule::{Conditions, HomeRule};
use observer_core::{BootTime, Change, Core, Input, ProcessKey, Request, Rule, Sink};
use serde_json::{Value, json};

use super::Context;
use super::audience::Audience;
use super::change::{change_body, session_changed_body};
use super::changed::Changed;
use super::process::ProcessJson;
use super::session::SessionJson;

const S: u64 = 1_000_000_000;
const KEY: ProcessKey = ProcessKey::new(4_242, 9_007_199_254_740_993);
const START: u64 = 9_007_199_254_740_993;
const CONTEXT: Context<'_> = Context { boot_id: "boot", certain: true, audience: Audience::Root };

#[derive(Default)]
pub(crate) struct Frames(Vec<Value>);

impl Sink for Frames {
    fn change(&mut self, at: BootTime, change: Change<'_>) {
        let body = change_body(at, &change, 0, CONTEXT);
        assert!(!body.contains(&b'\n'), "a frame is one line");
        self.0.push(serde_json::from_slice(&body).unwrap());
    }

    fn request(&mut self, _: Request<'_>) {}
}

fn padded(text: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..text.len()].copy_from_slice(text);
    bytes
}

fn facts() -> ProcessFacts {
    ProcessFacts {
        parent: ProcessKey::new(1, 5),
        cwd: DirId { ino: 18_446_744_073_709_551_615, dev: (253 << 20) | 17, mnt_id: 7, ..DirId::default() },
        mnt_ns: 4_026_531_840,
        cgroup_id: 1,
        sid: 4_200,
        pgid: 4_242,
        uids: Uids { uid: 1_000, euid: 1_001, suid: 1_002 },
        tty: Some(Tty { dev: (136 << 20) | 3, name: padded(b"pts3") }),
        exec_id: 2,
        comm: Comm(padded(b"cl\xffau\nde")),
        ..ProcessFacts::default()
    }
}

/// A map with one process on pts/3 that exec'd in a pane of tmux, in a directory with a hostile name.
pub(crate) fn map() -> (Core, Frames) {
    let rule = Rule {
        home: HomeRule::Cwd,
        conditions: Conditions { uids: vec![1_000], ..Conditions::default() },
        not_comm: Vec::new(),
        not_program: Vec::new(),
        wrappers: Vec::new(),
        owner: false,
        instances: observer_core::rule::Instances::One,
        min_age_ns: S,
        name: "{basename}".into(),
    };
    let env = ["TMUX_PANE", "TMUX", "STY", "WINDOW"].map(|name| name.as_bytes().to_vec()).into();
    let labels = vec![LabelVariable { name: "agent".into(), variable: b"AGENT".to_vec() }];
    let mut core = Core::new(Settings {
        rules: vec![rule],
        env,
        labels,
        host_mnt_ns: 4_026_531_840,
        ..Settings::default()
    });
    let mut frames = Frames::default();
    let at = BootTime(START + S);
    let row = TaskRow {
        at,
        key: KEY,
        facts: facts(),
        cwd_path: RawPath { components: b"a\xfe\x1bb\0srv\0", flags: 0 },
        exe: RawPath { components: b"claude\0bin\0", flags: 0 },
        cgroup: RawPath { components: b"a\0lxc\0session-3.scope\0user.slice\0", flags: 0 },
        tty_pgrp: 4_242,
        stopped: true,
        executing: false,
        dead: None,
        usage: ProcessUsage { cpu_ns: 1_500_000, children_cpu_ns: 0, max_rss_pages: 2 },
        rss_pages: 2,
    };
    core.handle(Input::PassBegin { at: BootTime(START + S - 1), drops_total: 0 }, &mut frames);
    core.handle(Input::PassRow(row), &mut frames);
    // The server of tmux, and the shell in its pane.
    let root = ProcessFacts { uids: Uids::default(), ..facts() };
    let (server, shell) = (ProcessKey::new(77, 100), ProcessKey::new(4_200, 200));
    let exe = RawPath { components: b"tmux\0bin\0", flags: 0 };
    core.handle(
        Input::PassRow(TaskRow {
            key: server,
            facts: ProcessFacts { sid: 77, tty: None, ..root },
            exe,
            ..row
        }),
        &mut frames,
    );
    let facts_of_shell = ProcessFacts { parent: server, ..root };
    core.handle(Input::PassRow(TaskRow { key: shell, facts: facts_of_shell, ..row }), &mut frames);
    core.handle(Input::PassEnd { at, complete: true }, &mut frames);
    let exec = Input::Exec {
        at: BootTime(START + 2 * S),
        key: KEY,
        facts: ProcessFacts { exec_id: 3, ..facts() },
        exe: row.exe,
        filename: b"claude",
        argv: Block { bytes: b"claude\0\0--x=\xc3\0", truncated: false },
        env: Block {
            bytes: b"HOME=/root\0AGENT=a\xff\x1b\0TMUX=/tmp/a,b/default,77,0\0TMUX_PANE=%5\0",
            truncated: false,
        },
    };
    core.handle(exec, &mut frames);
    core.handle(Input::Tick { at: BootTime(START + 3 * S) }, &mut frames);
    (core, frames)
}

fn process_json() -> Value {
    json!({
        "pid": 4242, "ppid": 1, "ancestor_pid": null, "start_boottime_ns": "9007199254740993",
        "key": "boot-4242-20000000000001", "started_at": "1970-04-15T05:59:59.254Z", "exec_at": "1970-04-15T06:00:01.254Z",
        "exec_id": 3,
        "comm": "cl\u{10feff}au\nde", "program": "claude", "exe": "/bin/claude", "exe_deleted": false,
        "argv": ["claude", "", "--x=\u{10fec3}"], "argv_truncated": false, "argv_source": "exec",
        "cwd": "/srv/a\u{10fefe}\u{1b}b", "cwd_dev": "253:17", "cwd_ino": "18446744073709551615",
        "cwd_deleted": false, "cwd_truncated": false, "cwd_unreachable": false, "mnt_ns": 4026531840_u32,
        "tty": "pts/3", "tty_dev": "136:3", "foreground": true, "stopped": true, "uid": 1000, "euid": 1001, "suid": 1002, "sid": 4200, "pgid": 4242,
        "cgroup": "/user.slice/session-3.scope/lxc/a", "unit": "session-3.scope", "container": "a", "pane": "%5", "pane_stale": false, "mux": "tmux", "mux_socket": "/tmp/a,b/default",
        "as_of": {"cwd": "1970-04-15T06:00:00.254Z"}, "certain": true, "boot_id": "boot"
    })
}

#[test]
fn a_process_has_every_field_of_the_contract() {
    let (core, _) = map();
    let process = core.process_by_key(KEY).unwrap();
    let mut shown = serde_json::to_value(ProcessJson::new(process, CONTEXT)).unwrap();
    // The core decides when the cwd was confirmed; this test only requires that the time is shown.
    let as_of = shown["as_of"]["cwd"].take();
    assert!(as_of.as_str().unwrap().starts_with("1970-04-15T06:00:0"), "{as_of}");
    let mut expected = process_json();
    expected["as_of"]["cwd"] = Value::Null;
    assert_eq!(shown, expected);
}

#[test]
fn others_than_root_and_who_executed_a_program_see_its_name_alone() {
    let (core, _) = map();
    let process = core.process_by_key(KEY).unwrap();
    let (session, primary) = core.sessions().next().expect("pts/3 for more than a second");
    let mut whole = process_json();
    let argv = whole["argv"].take();
    for (audience, expected) in [
        (Audience::of_user(0), (argv.clone(), false)),
        (Audience::of_user(1_000), (argv, false)),
        (Audience::of_user(1_001), (json!(["claude"]), true)),
        (Audience::Anyone, (json!(["claude"]), true)),
    ] {
        let context = CONTEXT.read_by(audience);
        for shown in [
            serde_json::to_value(ProcessJson::new(process, context)).unwrap(),
            serde_json::to_value(SessionJson::new(session, primary, context)).unwrap(),
        ] {
            let seen = (shown["argv"].clone(), shown["argv_truncated"] == json!(true));
            assert_eq!(seen, expected, "{audience:?}");
            assert_eq!((&shown["argv_source"], &shown["program"]), (&json!("exec"), &json!("claude")));
        }
        let mut hidden = ProcessJson::new(process, context);
        hidden.hide_arguments();
        assert_eq!(hidden, ProcessJson::new(process, CONTEXT.read_by(Audience::Anyone)));
    }
}

#[test]
fn a_session_has_the_fields_of_its_home_and_its_primary() {
    let (core, frames) = map();
    let (session, primary) = core.sessions().next().expect("pts/3 for more than a second");
    let shown = serde_json::to_value(SessionJson::new(session, primary, CONTEXT)).unwrap();
    for (field, value) in process_json().as_object().unwrap() {
        if field != "as_of" {
            assert_eq!(&shown[field], value, "{field}");
        }
    }
    for (field, value) in [
        ("name", json!("a\u{10fefe}\u{1b}b")),
        ("home", json!("/srv/a\u{10fefe}\u{1b}b")),
        ("home_mnt_ns", Value::Null),
        ("state", json!("live")),
        ("roots", json!(1)),
        ("others", json!([])),
        ("wrapper_pid", Value::Null),
        ("moved_to", Value::Null),
        ("home_deleted", json!(false)),
        ("home_dir", json!({"dev": "253:17", "ino": "18446744073709551615", "generation": 0})),
        ("labels", json!({"agent": "a\u{10feff}\u{1b}"})),
        ("label_variables", json!({"agent": "AGENT"})),
        ("end_reason", Value::Null),
        ("death", Value::Null),
        ("cost", Value::Null),
    ] {
        assert_eq!(shown.get(field), Some(&value), "{field}");
    }
    assert!(shown["starts"].as_array().is_some_and(|starts| !starts.is_empty()));
    let back: SessionJson<'_> = serde_json::from_value(shown.clone()).unwrap();
    assert_eq!(back.home.as_bytes(), b"/srv/a\xfe\x1bb");
    assert_eq!(serde_json::to_value(back).unwrap(), shown, "what a client reads it can write");
    assert!(frames.0.iter().any(|frame| frame["kind"] == "session_started"));
}

#[test]
fn the_program_is_the_recorded_one_while_the_arguments_are_not_known() {
    let (core, _) = map();
    let (session, primary) = core.sessions().next().expect("pts/3 for more than a second");
    let mut session = session.clone();
    (session.recorded_program, session.unconfirmed) = (Some((*b"gemini").into()), true);
    let json = SessionJson::new(&session, primary, CONTEXT);
    assert_eq!(json.primary.program.map(|it| it.as_bytes().to_vec()), Some(b"gemini".to_vec()));
    assert!(!json.primary.certain);
}

#[test]
fn a_changed_session_has_every_field_and_what_changed() {
    let (core, _) = map();
    let (session, primary) = core.sessions().next().expect("pts/3 for more than a second");
    let json = SessionJson::new(session, primary, CONTEXT);
    let before = SessionJson { roots: 2, ..json.clone() };
    let frame = |changed: Option<&Changed<'_>>| -> Value {
        serde_json::from_slice(&session_changed_body(BootTime(START), 0, &json, changed)).unwrap()
    };
    let known = frame(Some(&Changed::between(&before, &json)));
    assert_eq!((&known["kind"], &known["changed"]), (&json!("session_changed"), &json!({"roots": [2, 1]})));
    let session = serde_json::to_value(&json).unwrap();
    for (field, value) in session.as_object().unwrap() {
        assert_eq!(&known[field], value, "{field}");
    }
    assert_eq!(frame(None).get("changed"), Some(&Value::Null), "the values before are not known");
}

#[test]
fn both_kinds_of_end_carry_the_death() {
    let (mut core, _) = map();
    let mut frames = Frames::default();
    let exit = Input::Exit {
        at: BootTime(START + 5 * S),
        key: KEY,
        raw_status: 9,
        led_sid: None,
        usage: ProcessUsage::default(),
    };
    core.handle(exit, &mut frames);
    for kind in ["process_ended", "session_ended"] {
        let frame = frames.0.iter().find(|frame| frame["kind"] == kind).expect(kind);
        assert_eq!(frame["death"]["signal_name"], "SIGKILL");
        assert_eq!(frame["death"]["lifetime_ms"], 5_000);
        assert_eq!(frame["death"].as_object().unwrap().len(), 14);
        assert_eq!(frame["death"]["left"], json!({"processes": 0, "rss_bytes": 0, "keys": []}));
        assert_eq!(
            (&frame["pid"], &frame["boottime_ns"]),
            (&json!(4242), &json!((START + 5 * S).to_string()))
        );
        assert_eq!(frame["at"], "1970-04-15T06:00:04.254Z");
    }
}

#[test]
fn what_a_session_left_has_a_frame_that_names_the_session_and_the_processes() {
    let (mut core, _) = map();
    let mut frames = Frames::default();
    let (child, end) = (ProcessKey::new(4_300, START + 4 * S), START + 5 * S);
    // The rule does not admit it.
    let uids = Uids { uid: 1_001, ..facts().uids };
    let facts = ProcessFacts { parent: KEY, uids, ..facts() };
    core.handle(Input::Fork { at: child.start_boottime, key: child, facts, creator: KEY }, &mut frames);
    let (at, usage) = (BootTime(end), ProcessUsage::default());
    core.handle(Input::Exit { at, key: KEY, raw_status: 9, led_sid: None, usage }, &mut frames);
    let ended = frames.0.iter().find(|frame| frame["kind"] == "session_ended").expect("an end").clone();
    assert_eq!(ended["death"]["left"], Value::Null, "it is counted later");
    let at = BootTime(end + S);
    core.handle(Input::Tick { at }, &mut frames);
    core.handle(Input::ResidentPages { at, began: at }, &mut frames);
    let mut left = frames.0.iter().find(|frame| frame["kind"] == "session_left").expect("a count").clone();
    let expected = json!({"at": "1970-04-15T06:00:05.254Z", "boottime_ns": (end + S).to_string(),
        "kind": "session_left", "boot_id": "boot", "name": left["name"], "home": left["home"], "home_mnt_ns": null,
        "instance": 1, "uid": 1000, "foreign": null, "pid": 4242, "key": "boot-4242-20000000000001",
        "start_boottime_ns": START.to_string(), "ended_at": "1970-04-15T06:00:04.254Z",
        "ended_boottime_ns": end.to_string(), "comm": left["comm"], "program": left["program"],
        "death_kind": "signaled",
        "left": {"processes": 1, "rss_bytes": null, "keys": [format!("boot-4300-{:x}", START + 4 * S)]}});
    assert_eq!((&left["name"], &left["home"]), (&ended["name"], &ended["home"]));
    assert_eq!((&left["comm"], &left["program"]), (&ended["comm"], &ended["program"]));
    left["foreign"].take();
    assert_eq!(left, expected);
}

#[test]
fn a_deleted_directory_is_shown_as_the_kernel_shows_it() {
    let (mut core, mut frames) = map();
    let moved = Input::Cwd {
        at: BootTime(START + 4 * S),
        key: KEY,
        cwd: DirId { ino: 5, dev: 1, mnt_id: 7, ..DirId::default() },
        mnt_ns: 4_026_531_840,
        path: RawPath { components: b"gone\0srv\0", flags: observer_common::record::path_flag::DELETED },
        fs_shared: false,
    };
    core.handle(moved, &mut frames);
    let shown = serde_json::to_value(ProcessJson::new(core.process_by_key(KEY).unwrap(), CONTEXT)).unwrap();
    assert_eq!((&shown["cwd"], &shown["cwd_deleted"]), (&json!("/srv/gone (deleted)"), &json!(true)));
    assert_eq!((&shown["cwd_dev"], &shown["cwd_ino"]), (&json!("0:1"), &json!("5")));
}

#[test]
fn a_pane_of_a_dead_server_is_stale_and_has_no_names() {
    let (mut core, _) = map();
    let mut frames = Frames::default();
    let exit = Input::Exit {
        at: BootTime(START + 4 * S),
        key: ProcessKey::new(77, 100),
        raw_status: 9,
        led_sid: None,
        usage: ProcessUsage::default(),
    };
    core.handle(exit, &mut frames);
    for kind in ["process_changed", "session_changed"] {
        let frame = frames.0.iter().find(|frame| frame["kind"] == kind && frame["pid"] == 4242).expect(kind);
        let shown = ["pane", "mux", "mux_socket", "pane_stale"].map(|field| frame[field].clone());
        assert_eq!(shown, [Value::Null, Value::Null, Value::Null, json!(true)], "{kind}");
    }
}

#[test]
fn a_process_is_shown_in_the_window_of_screen_that_it_was_found_in() {
    let (core, _) = map();
    let env: observer_core::process::Env =
        ["STY=77.pts-1.host", "WINDOW=2", "TMUX=/tmp/x,5,0"].map(|entry| entry.as_bytes().into()).into();
    let process = core.process_by_key(KEY).unwrap();
    let shown = ProcessJson::new(process, CONTEXT).in_pane(&observer_core::process::Pane::Screen(env));
    let shown = serde_json::to_value(shown).unwrap();
    assert_eq!((&shown["pane"], &shown["mux"]), (&json!("2"), &json!("screen")));
    assert_eq!(shown["mux_socket"], "77.pts-1.host");
}

#[test]
fn gaps_say_from_when_to_when_and_what_was_lost() {
    let (mut core, _) = map();
    let mut frames = Frames::default();
    core.handle(Input::Dropped { at: BootTime(START + 5 * S), total: 3 }, &mut frames);
    let opened = &frames.0[0];
    assert_eq!((&opened["kind"], &opened["reason"]), (&json!("gap_opened"), &json!("dropped")));
    assert!(opened["from_boottime_ns"].is_string() && opened["boot_id"] == "boot");
    core.handle(Input::PassBegin { at: BootTime(START + 6 * S), drops_total: 3 }, &mut frames);
    core.handle(Input::PassEnd { at: BootTime(START + 6 * S), complete: true }, &mut frames);
    core.handle(Input::PassBegin { at: BootTime(START + 7 * S), drops_total: 3 }, &mut frames);
    core.handle(Input::PassEnd { at: BootTime(START + 7 * S), complete: true }, &mut frames);
    let closed = frames.0.iter().find(|frame| frame["kind"] == "gap_closed").expect("healed");
    assert_eq!(closed["lost"], 3);
    let ended =
        frames.0.iter().find(|frame| frame["kind"] == "process_ended").expect("absent from two passes");
    assert_eq!(ended["death"]["kind"], "unobserved");
    assert!(ended["death"]["between"].is_array() && ended["death"]["raw_status"].is_null());
}

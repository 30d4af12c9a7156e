//! Roots: wrappers, shells, helpers, two programs in one home, and the takeover by the second.

use observer_harness::Verb;
use observer_harness::wait::Waited;
use observer_harness::{Pty, text};
use serde_json::Value;

use crate::Scene;

#[test]
fn a_program_below_a_wrapper_that_stays_is_the_primary() {
    let scene = Scene::new("");
    for (name, wrapper) in [
        ("timeout", &["timeout", "--foreground", "100"][..]),
        ("strace-less", &["sh", "-c", "\"$0\" \"$@\"; true", "timeout", "--foreground", "100"][..]),
    ] {
        let (home, pty) = (scene.home(name), Pty::open());
        let agent = scene.wrapped(wrapper, "agent", &home, &pty);
        assert!(agent.wrapper_pid().is_some(), "the wrapper stays");
        let row = scene.assert_session(&home, &agent, "live");
        let parent = scene.daemon.row(agent.pid).and_then(|row| text::u64_any(&row, "ppid"));
        assert_eq!(text::u64_any(&row, "wrapper_pid"), parent, "the wrapper, its parent, is named: {row:#}");
        assert_eq!(text::u64_any(&row, "roots"), Some(1), "wrapper and program are one root: {row:#}");
    }
}

#[test]
fn a_program_below_a_wrapper_that_execs_has_no_wrapper() {
    let scene = Scene::new("");
    for (name, wrapper) in [("env", &["env", "A=b"][..]), ("nice", &["nice", "-n", "1"][..])] {
        let (home, pty) = (scene.home(name), Pty::open());
        let agent = scene.wrapped(wrapper, "agent", &home, &pty);
        let row = scene.assert_session(&home, &agent, "live");
        assert_eq!(row.get("wrapper_pid"), Some(&Value::Null), "{row:#}");
    }
}

#[test]
fn a_program_on_the_terminal_that_script_made_is_the_primary() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("scripted"), Pty::open());
    let command =
        format!("exec {} {} scripted", scene.fixture.program("agent").display(), scene.fixture.address);
    let script = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(&home)
        .stdin(std::fs::File::open(&pty.path).expect("open the outer terminal"))
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut script = script.expect("start script(1)");
    let agent = scene.fixture.meet("scripted");
    let row = scene.assert_session(&home, &agent, "live");
    assert_ne!(
        row.get("tty").and_then(Value::as_str),
        Some(pty.tty().as_str()),
        "on the inner terminal: {row:#}"
    );
    agent.signal(libc::SIGKILL);
    script.wait().expect("script ends with its command");
    scene.wait_for_frame("session_ended", &home);
}

#[test]
fn a_shell_is_no_session_but_the_program_that_it_runs_is_one() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("shelly"), Pty::open());
    let shell = scene.named("bash", &home, &pty);
    observer_harness::truth::assert_row(&scene.daemon, shell.pid);
    assert!(scene.session(&home).is_none(), "a shell alone is no session");
    drop(shell);
    let pty = Pty::open();
    let agent = scene.wrapped(&["bash", "-c", "\"$0\" \"$@\"; true"], "agent", &home, &pty);
    let row = scene.assert_session(&home, &agent, "live");
    assert_eq!(row.get("wrapper_pid"), Some(&Value::Null), "a shell is no wrapper: {row:#}");
}

#[test]
fn helpers_of_a_program_are_no_roots_even_when_orphaned() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("helped"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    let (mut helper, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    let (orphan, _) = helper.bears(&scene.fixture, Verb::Fork, &[]);
    let row = scene.assert_session(&home, &agent, "live");
    assert_eq!(text::u64_any(&row, "roots"), Some(1), "{row:#}");
    helper.request(Verb::Exit, &[b"0"]);
    agent.does(Verb::Wait, &[helper.pid.to_string().as_bytes()]);
    observer_harness::truth::assert_row(&scene.daemon, orphan.pid);
    let row = scene.assert_session(&home, &agent, "live");
    assert_eq!(text::u64_any(&row, "roots"), Some(1), "ancestry is by birth: {row:#}");
}

#[test]
fn the_first_of_two_programs_in_one_home_is_primary_and_both_are_counted() {
    let scene = Scene::new("");
    let home = scene.home("two");
    let ptys = [Pty::open(), Pty::open()];
    let first = scene.agent(&home, &ptys[0]);
    let second = scene.agent(&home, &ptys[1]);
    let row = scene.assert_session(&home, &first, "live");
    assert_eq!(text::u64_any(&row, "roots"), Some(2), "{row:#}");
    let others = row.get("others").and_then(Value::as_array).expect("the other one");
    let [other] = &others[..] else { panic!("{row:#}") };
    let process = scene.daemon.row(second.pid).expect("it lives");
    for field in ["key", "program", "tty"] {
        assert_eq!(other.get(field), process.get(field), "{field} of {row:#}");
    }
    let answer = scene.daemon.observer(&["pid", "two"]);
    assert_eq!((answer.code, answer.text()), (Some(0), format!("{}\n", first.pid).as_str()));
    assert!(answer.stderr.contains(&second.pid.to_string()), "it warns of the other one: {answer:?}");
}

#[test]
fn when_the_first_of_two_ends_the_other_takes_over_in_one_change() {
    let scene = Scene::new("");
    let home = scene.home("handover");
    let ptys = [Pty::open(), Pty::open()];
    let first = scene.agent(&home, &ptys[0]);
    let second = scene.agent(&home, &ptys[1]);
    scene.assert_session(&home, &first, "live");
    let pid = first.pid;
    first.killed(libc::SIGKILL);
    let row = scene.assert_session(&home, &second, "live");
    assert_eq!(text::u64_any(&row, "roots"), Some(1), "{row:#}");
    scene.watch.wait_for("the change of primary", |frame| frame.is("session_changed", second.pid));
    scene.watch.end_of(pid);
    assert!(
        !scene.frame_kinds(&home).contains(&"session_ended".to_owned()),
        "never ended: {:?}",
        scene.frame_kinds(&home)
    );
    assert_eq!(
        scene.frame_kinds(&home).iter().filter(|kind| *kind == "session_started").count(),
        1,
        "nor started again"
    );
    let frames = scene.watch.frames();
    let at = |kind: &str, pid| frames.iter().position(|frame| frame.is(kind, pid));
    assert!(at("process_ended", pid) < at("session_changed", second.pid), "its death, then the change");
}

#[test]
fn a_sessions_end_carries_its_primarys_death() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("ending"), Pty::open());
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    let pid = agent.pid;
    let Waited { raw_status, .. } = agent.killed(libc::SIGKILL);
    let end = scene.wait_for_frame("session_ended", &home);
    assert_eq!(end.pid(), Some(pid));
    let death = end.death();
    assert_eq!(death.get("raw_status"), Some(&raw_status.into()), "wait4's word: {death:#}");
    assert_eq!(death.get("signal_name").and_then(Value::as_str), Some("SIGKILL"), "{death:#}");
    assert_eq!(Some(&death), scene.watch.end_of(pid).0.get("death"), "the process's own certificate");
    scene.assert_none(&home);
    let result = scene.daemon.observer(&["pid", "ending"]);
    assert_eq!((result.code, result.stdout.len()), (Some(1), 0), "certainly none: {result:?}");
}

#[test]
fn an_explanation_names_the_session_the_helper_and_the_condition() {
    let scene = Scene::new("");
    let (home, pty, other_pty) = (scene.home("explained"), Pty::open(), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    let (helper, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    let stranger = scene.agent(&scene.fixture.mkdir("elsewhere"), &other_pty);
    let explained = |subject: &str| {
        let result = scene.daemon.observer(&["explain", subject]);
        (result.code, result.text().to_owned())
    };
    let (code, text) = explained(&agent.pid.to_string());
    let verdict = format!("{} (agent) is the session explained: home {}", agent.pid, home.display());
    assert!(code == Some(0) && text.starts_with(&verdict) && text.contains("rule 1: admits it"), "{text}");
    let elected = "it was elected because nothing else could be the session at that moment";
    assert!(text.contains(elected), "{text}");
    assert_eq!(explained("explained"), (code, text), "by its name, too");
    let (_, text) = explained(&helper.pid.to_string());
    let verdict = format!("is a helper of the session explained: {} started it", agent.pid);
    let born = format!("it was born in the session explained, below its primary {}", agent.pid);
    assert!(text.contains(&verdict) && text.contains(&born), "{text}");
    let (_, text) = explained(&stranger.pid.to_string());
    assert!(text.contains("rule 1: does not admit it: its directory"), "{text}");
    assert_eq!(explained("4194305").0, Some(1), "no such process");
}

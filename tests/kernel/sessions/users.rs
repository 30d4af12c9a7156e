//! Whose a session is: two users in one directory, owners, and what `pid` answers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use observer_harness::fixture::{PATIENCE, PuppetOptions};
use observer_harness::observe::CommandResult;
use observer_harness::{Pty, Puppet, Verb, eventually, text};
use serde_json::Value;

use crate::Scene;

const OWNER: u32 = 3001;
const STRANGER: u32 = 3002;

fn agent_of(scene: &Scene, uid: u32, home: &Path, pty: &Pty) -> Puppet {
    scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        dir: Some(home.to_owned()),
        pty: Some(pty),
        uid: Some(uid),
        ..PuppetOptions::default()
    })
}

fn home_of(scene: &Scene, name: &str, uid: u32) -> PathBuf {
    let home = scene.home(name);
    std::os::unix::fs::chown(&home, Some(uid), Some(uid)).expect("give the home away");
    home
}

/// The row of the session of `uid` in `home`, once `foreign` is known.
fn row_of(scene: &Scene, home: &Path, uid: u32) -> Value {
    eventually(&format!("the session of user {uid} and its owner"), PATIENCE, || {
        let rows = scene.daemon.list();
        let is_meant = |row: &&Value| {
            row.get("home").and_then(Value::as_str) == home.to_str()
                && text::u64_any(row, "uid") == Some(uid.into())
                && row.get("foreign").is_some_and(Value::is_boolean)
        };
        rows.iter().find(is_meant).cloned().ok_or_else(|| format!("{rows:#?}"))
    })
}

#[test]
fn a_stranger_in_a_home_is_a_session_of_its_own_and_not_what_pid_answers() {
    let scene = Scene::new("");
    let home = home_of(&scene, "guarded", OWNER);
    let ptys = [Pty::open(), Pty::open()];
    let stranger = agent_of(&scene, STRANGER, &home, &ptys[0]);
    let row = row_of(&scene, &home, STRANGER);
    assert_eq!((row.get("foreign"), text::u64_any(&row, "owner")), (Some(&true.into()), Some(OWNER.into())));
    let path = home.to_str().expect("a path of text");
    let alone = scene.daemon.observer(&["pid", path]);
    assert_eq!(alone.code, Some(3), "{alone:?}");
    assert!(alone.stderr.contains("--user 3002  (foreign)"), "{}", alone.stderr);
    let owner = agent_of(&scene, OWNER, &home, &ptys[1]);
    let row = row_of(&scene, &home, OWNER);
    assert_eq!(row.get("foreign"), Some(&false.into()));
    for (args, pid) in [
        (&["pid", path][..], owner.pid),
        (&["pid", "guarded"], owner.pid),
        (&["pid", path, "--user", "3002"], stranger.pid),
    ] {
        let answer = scene.daemon.observer(args);
        assert_eq!((answer.code, answer.text().trim()), (Some(0), pid.to_string().as_str()), "{answer:?}");
    }
    // The owner's program dies: nobody takes its place, though the stranger is there.
    let pid = owner.pid;
    owner.killed(libc::SIGKILL);
    scene.watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    assert_eq!(scene.daemon.observer(&["pid", path]).code, Some(3));
    let next = agent_of(&scene, OWNER, &home, &ptys[1]);
    assert_eq!(text::u64_any(&row_of(&scene, &home, OWNER), "pid"), Some(next.pid.into()));
    let of_nobody = scene.daemon.observer(&["pid", path, "--user", "3003"]);
    assert_eq!(of_nobody.code, Some(1), "{of_nobody:?}");
}

#[test]
fn roots_program_in_the_home_of_another_is_not_foreign() {
    let scene = Scene::new("");
    let home = home_of(&scene, "administered", OWNER);
    let pty = Pty::open();
    let agent = agent_of(&scene, 0, &home, &pty);
    assert_eq!(row_of(&scene, &home, 0).get("foreign"), Some(&false.into()));
    let answer = scene.daemon.observer(&["pid", "administered"]);
    assert_eq!((answer.code, answer.text().trim()), (Some(0), agent.pid.to_string().as_str()));
}

#[test]
fn a_rule_that_names_the_user_makes_no_session_of_that_user_foreign() {
    let scene = Scene::new("user = [\"3002\"]\n");
    let home = home_of(&scene, "lent", OWNER);
    let ptys = [Pty::open(), Pty::open()];
    let agent = agent_of(&scene, STRANGER, &home, &ptys[0]);
    let _refused = agent_of(&scene, OWNER, &home, &ptys[1]);
    assert_eq!(row_of(&scene, &home, STRANGER).get("foreign"), Some(&false.into()));
    let answer = scene.daemon.observer(&["pid", "lent"]);
    assert_eq!((answer.code, answer.text().trim()), (Some(0), agent.pid.to_string().as_str()));
}

#[test]
fn a_primary_that_changes_its_user_goes_on_as_a_session_of_that_user() {
    let scene = Scene::new("");
    let home = home_of(&scene, "dropped", OWNER);
    let pty = Pty::open();
    let mut agent = agent_of(&scene, 0, &home, &pty);
    row_of(&scene, &home, 0);
    agent.does(Verb::Setresuid, &[b"3001", b"3001", b"3001"]);
    let row = row_of(&scene, &home, OWNER);
    assert_eq!(text::u64_any(&row, "pid"), Some(agent.pid.into()));
    let ended = scene.watch.wait_for("its end as root's", |frame| frame.is("session_ended", agent.pid));
    assert_eq!(ended.0.get("end_reason").and_then(Value::as_str), Some("user_changed"));
    assert_eq!(text::u64_any(&ended.0, "uid"), Some(0), "as it was");
}

#[test]
fn who_was_refused_is_a_session_once_the_directory_is_given_to_them() {
    let scene = Scene::new("owner = true\n");
    let home = home_of(&scene, "granted", OWNER);
    let give_to = |uid| std::os::unix::fs::chown(&home, Some(uid), Some(uid)).expect("give the home away");
    let pty = Pty::open();
    let agent = agent_of(&scene, STRANGER, &home, &pty);
    eventually("its refusal", PATIENCE, || {
        let explained = scene.daemon.observer(&["explain", &agent.pid.to_string(), "--json"]).json();
        let is_refused = explained.pointer("/rules/0") == Some(&"owner".into())
            && explained.get("position") == Some(&"not_admitted".into());
        if is_refused { Ok(()) } else { Err(explained.to_string()) }
    });
    give_to(STRANGER);
    let row = row_of(&scene, &home, STRANGER);
    assert_eq!(
        (text::u64_any(&row, "pid"), row.get("foreign")),
        (Some(agent.pid.into()), Some(&false.into()))
    );
    give_to(OWNER);
    eventually("that it is foreign", PATIENCE, || {
        let row = row_of(&scene, &home, STRANGER);
        if row.get("foreign") == Some(&true.into()) { Ok(()) } else { Err(row.to_string()) }
    });
}

/// Has /proc/sys alone. It is a home to the daemon of each of these tests, and so is who is there.
fn alone_in_proc_sys() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_home_whose_owner_cannot_be_read_is_not_certainly_without_a_session() {
    let _alone = alone_in_proc_sys();
    // Nobody may ask whose the files below /proc are, since they may be those of a process.
    let scene =
        Scene::new("owner = true\n[[session]]\ncwd = \"/proc/sys\"\ncomm = \"agent\"\nowner = true\n");
    let pty = Pty::open();
    let agent = agent_of(&scene, STRANGER, Path::new("/proc/sys"), &pty);
    eventually("that it is undecided", PATIENCE, || {
        let answer = scene.daemon.observer(&["pid", "sys"]);
        if answer.code == Some(4) { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    for (args, code) in [
        (&["pid", "/proc/sys"][..], 4),
        (&["pid", "sys", "--user", "3002"], 4),
        (&["pid", "sys", "--user", "3003"], 1),
        (&["pid", "elsewhere"], 1),
        (&["list", "sys"], 4),
        (&["explain", "sys"], 4),
        (&["explain", "sys", "--user", "3003"], 1),
        (&["explain", "elsewhere"], 1),
        (&["wait", "sys"], 125),
    ] {
        let answer = scene.daemon.observer(args);
        assert_eq!(answer.code, Some(code), "{args:?}: {answer:?}");
        let says_who = answer.stderr.contains(&format!("pid {} in /proc/sys", agent.pid));
        assert_eq!(says_who, code != 1, "{args:?}: {}", answer.stderr);
    }
    agent.killed(libc::SIGKILL);
    eventually("that there is certainly none", PATIENCE, || {
        let answer = scene.daemon.observer(&["pid", "sys"]);
        if answer.code == Some(1) { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

#[test]
fn a_home_whose_owner_cannot_be_read_is_not_certainly_without_a_session_in_one_look_either() {
    let _alone = alone_in_proc_sys();
    let mut scene =
        Scene::new("owner = true\n[[session]]\ncwd = \"/proc/sys\"\ncomm = \"agent\"\nowner = true\n");
    let pty = Pty::open();
    let agent = agent_of(&scene, STRANGER, Path::new("/proc/sys"), &pty);
    let config = scene.daemon.dir().join("observer.toml");
    assert_eq!(scene.daemon.stop(), Some(0));
    for (subject, code) in [("sys", 4), ("elsewhere", 1)] {
        let mut command = scene.daemon.command(&["explain", subject]);
        let places: [PathBuf; 4] =
            ["--config".into(), config.clone(), "--state-dir".into(), scene.daemon.state_dir()];
        let answer = CommandResult::of(command.args(places));
        assert_eq!(answer.code, Some(code), "{subject}: {answer:?}");
        let says_who = answer.stderr.contains(&format!("pid {} in /proc/sys", agent.pid));
        assert_eq!(says_who, code == 4, "{subject}: {}", answer.stderr);
    }
}

#[test]
fn whose_session_it_is_cannot_be_said_where_the_owner_cannot_be_read() {
    let _alone = alone_in_proc_sys();
    let scene = Scene::new("[[session]]\ncwd = \"/proc/sys\"\ncomm = \"agent\"\n");
    let pty = Pty::open();
    let agent = agent_of(&scene, STRANGER, Path::new("/proc/sys"), &pty);
    scene.watch.wait_for("its session", |frame| frame.is("session_started", agent.pid));
    let rows = scene.daemon.list();
    let row = rows.iter().find(|row| text::u64_any(row, "pid") == Some(agent.pid.into())).expect("a row");
    assert_eq!(row.get("foreign"), Some(&Value::Null), "{row:#}");
    let key = row.get("key").and_then(Value::as_str).expect("a key");
    for (args, code) in [
        (&["pid", "sys"][..], 4),
        (&["pid", "/proc/sys"], 4),
        (&["signal", "sys", "0"], 4),
        (&["pid", "sys", "--user", "3002"], 0),
        (&["pid", key], 0),
    ] {
        let answer = scene.daemon.observer(args);
        assert_eq!(answer.code, Some(code), "{args:?}: {answer:?}");
        let says_how =
            answer.stderr.contains(&format!("pid {} of ", agent.pid)) && answer.stderr.contains("--user");
        assert_eq!(says_how, code == 4, "{args:?}: {}", answer.stderr);
    }
}

#[test]
fn a_directory_of_another_owner_in_the_place_of_a_home_admits_nobody_who_comes_back() {
    let scene = Scene::new("owner = true\n");
    let home = home_of(&scene, "replaced", STRANGER);
    let pty = Pty::open();
    let mut agent = agent_of(&scene, STRANGER, &home, &pty);
    row_of(&scene, &home, STRANGER);
    agent.chdir(Path::new("/"));
    scene.watch.wait_for("that it left", |frame| {
        frame.is("session_changed", agent.pid) && frame.0.get("state") == Some(&"left".into())
    });
    // The directory goes away, and one of another user takes its place.
    let aside = home.with_extension("aside");
    std::fs::rename(&home, &aside).expect("move the home away");
    let replacement = home_of(&scene, "replaced", OWNER);
    std::fs::set_permissions(&replacement, std::fs::Permissions::from_mode(0o755)).expect("open it");
    agent.chdir(&home);
    eventually("that it is refused", PATIENCE, || {
        let explained = scene.daemon.observer(&["explain", &agent.pid.to_string(), "--json"]).json();
        let is_refused = explained.pointer("/rules/0") == Some(&"owner".into());
        if is_refused { Ok(()) } else { Err(explained.to_string()) }
    });
    // Its session is that of the directory which was moved away: it is not there again, and no answer.
    let row = row_of(&scene, &home, STRANGER);
    assert_eq!((row.get("state"), row.get("foreign")), (Some(&"left".into()), Some(&true.into())), "{row:#}");
    for args in [["pid", home.to_str().expect("a path of text")], ["pid", "replaced"]] {
        let answer = scene.daemon.observer(&args);
        assert_eq!(answer.code, Some(3), "{args:?}: {answer:?}");
    }
    let other = Pty::open();
    let owner = agent_of(&scene, OWNER, &home, &other);
    row_of(&scene, &home, OWNER);
    let answer = scene.daemon.observer(&["pid", "replaced"]);
    assert_eq!((answer.code, answer.text().trim()), (Some(0), owner.pid.to_string().as_str()));
}

#[test]
fn a_strangers_own_home_does_not_take_the_name_of_a_session_that_ended() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(elsewhere.path(), std::fs::Permissions::from_mode(0o755)).expect("open it");
    let mut scene = Scene::new(&format!("[[session]]\ncwd = \"{}/*\"\n", elsewhere.path().display()));
    let home = home_of(&scene, "sought", OWNER);
    let other = elsewhere.path().join("sought");
    std::fs::create_dir(&other).expect("make a home");
    std::os::unix::fs::chown(&other, Some(STRANGER), Some(STRANGER)).expect("give the home away");
    let ptys = [Pty::open(), Pty::open()];
    let victim = agent_of(&scene, OWNER, &home, &ptys[0]);
    row_of(&scene, &home, OWNER);
    let pid = victim.pid;
    victim.killed(libc::SIGKILL);
    scene.watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    let stranger = agent_of(&scene, STRANGER, &other, &ptys[1]);
    row_of(&scene, &other, STRANGER);
    let by_name = scene.daemon.observer(&["pid", "sought"]);
    assert_eq!(by_name.code, Some(3), "{by_name:?}");
    for path in [&home, &other] {
        assert!(by_name.stderr.contains(path.to_str().expect("a path of text")), "{}", by_name.stderr);
    }
    let named = [other.to_str().expect("a path of text"), "sought"];
    for args in [&["pid", named[0]][..], &["pid", named[1], "--user", "3002"]] {
        let answer = scene.daemon.observer(args);
        assert_eq!(
            (answer.code, answer.text().trim()),
            (Some(0), stranger.pid.to_string().as_str()),
            "{args:?}"
        );
    }
    // A daemon that is started again knows as much.
    for killed in [false, true] {
        if killed {
            scene.daemon.kill();
        } else {
            assert_eq!(scene.daemon.stop(), Some(0));
        }
        scene.daemon.restart();
        row_of(&scene, &other, STRANGER);
        let again = scene.daemon.observer(&["pid", "sought"]);
        assert_eq!((again.code, again.stderr), (Some(3), by_name.stderr.clone()), "killed: {killed}");
    }
}

//! Arguments that hold a secret: root and the user who executed the program see them, and others see the first alone.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use observer_harness::fixture::PuppetOptions;
use observer_harness::observe::CommandResult;
use observer_harness::{Daemon, Fixture, Options, Pty, Puppet, Verb, Watch, eventually};

use crate::Scene;

const OWNER: u32 = 3001;
const STRANGER: u32 = 3002;
const GROUP: u32 = 3009;
const SECRET: &str = "--token=hunter2";

/// A daemon that members of the group may ask, with `extra` at the end of its configuration.
fn scene(extra: &str) -> Scene {
    let fixture = Fixture::new();
    let homes = fixture.mkdir("homes");
    let config = format!(
        "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ntty = \"pts/*\"\nargv = \"--token=*\"\n{extra}\n",
        homes.display()
    );
    let options =
        Options { config: Some(config), groups: Some("root:x:0:\nobserver:x:3009:\n"), ..Options::default() };
    let daemon = Daemon::start(&options);
    let watch = Watch::all(&daemon);
    Scene { fixture, daemon, watch }
}

/// A command of root, or of a member of the group.
fn command_of(daemon: &Daemon, uid: u32, args: &[&str]) -> Command {
    if uid == 0 { daemon.command(args) } else { daemon.command_of(uid, GROUP, args) }
}

/// A program with a secret among its arguments, in a home of its own.
fn agent(scene: &Scene, uid: u32, home: &str, pty: &Pty) -> Puppet {
    scene.fixture.cast(&PuppetOptions {
        program: Some(scene.fixture.program("agent")),
        args: vec![SECRET.into()],
        dir: Some(scene.home(home)),
        pty: Some(pty),
        uid: Some(uid),
        ..PuppetOptions::default()
    })
}

/// Asserts for each command whether its answer to this user has the secret.
#[track_caller]
fn assert_answers(scene: &Scene, uid: u32, pid: u32, sees: bool) {
    let pid = pid.to_string();
    for args in [
        &["ps", &pid, "--json"][..],
        &["ps", &pid],
        &["list", "--json"],
        &["list", "--ended", "--json"],
        &["explain", &pid, "--json"],
    ] {
        let answer = CommandResult::of(&mut command_of(&scene.daemon, uid, args));
        assert_eq!(answer.code, Some(0), "user {uid}: {args:?}: {answer:?}");
        assert!(answer.text().contains("agent"), "user {uid}: {args:?}: {}", answer.text());
        assert_eq!(answer.text().contains(SECRET), sees, "user {uid}: {args:?}: {}", answer.text());
    }
    for args in [&["list", "--long"][..], &["explain", &pid], &["status", "--json"], &["list"]] {
        let answer = CommandResult::of(&mut command_of(&scene.daemon, uid, args));
        assert_eq!(answer.code, Some(0), "user {uid}: {args:?}: {answer:?}");
        assert!(!answer.text().contains(SECRET), "no command shows it: {args:?}: {}", answer.text());
    }
}

/// How many frames that concern the process have the secret, and how many there are.
fn frames_with_secret(watch: &Watch, pid: u32) -> (usize, usize) {
    let frames: Vec<_> = watch.frames().into_iter().filter(|frame| frame.pid() == Some(pid)).collect();
    (frames.iter().filter(|frame| frame.0.to_string().contains(SECRET)).count(), frames.len())
}

#[test]
fn others_than_root_and_the_user_see_the_first_argument_alone() {
    let scene = scene("");
    let pty = Pty::open();
    let watchers = [0, OWNER, STRANGER].map(|uid| {
        (uid, Watch::of(&scene.daemon, command_of(&scene.daemon, uid, &["watch", "--json", "--all"])))
    });
    let mut agent = agent(&scene, OWNER, "watched", &pty);
    let pid = agent.pid;
    for (_, watch) in &watchers {
        watch.wait_for("its start", |frame| frame.is("session_started", pid));
    }
    for (uid, sees) in [(0, true), (OWNER, true), (STRANGER, false)] {
        assert_answers(&scene, uid, pid, sees);
        let snapshot =
            Watch::of(&scene.daemon, command_of(&scene.daemon, uid, &["watch", "--json", "--all"]));
        let (with_secret, all) = frames_with_secret(&snapshot, pid);
        assert_eq!((with_secret, all), (if sees { 2 } else { 0 }, 2), "its process and its session");
    }
    agent.chdir(&scene.fixture.dir());
    agent.killed(libc::SIGKILL);
    for (uid, watch) in &watchers {
        watch.wait_for("its end", |frame| frame.is("session_ended", pid));
        let (with_secret, all) = frames_with_secret(watch, pid);
        // Before its exec it is another program.
        let expected = if *uid == STRANGER { with_secret == 0 } else { with_secret >= 4 };
        assert!(expected && all >= 5, "user {uid}: {with_secret} of {all}");
    }
    let ended = |uid| {
        CommandResult::of(&mut command_of(&scene.daemon, uid, &["list", "--ended", "--json"]))
            .text()
            .to_owned()
    };
    assert_eq!([0, OWNER, STRANGER].map(|uid| ended(uid).contains(SECRET)), [true, true, false]);
}

#[test]
fn a_process_that_changes_its_user_shows_that_one_no_arguments_that_root_gave() {
    let scene = scene("");
    let pty = Pty::open();
    let mut agent = agent(&scene, 0, "dropped", &pty);
    scene.watch.wait_for("its start", |frame| frame.is("session_started", agent.pid));
    let uid = STRANGER.to_string();
    agent.does(Verb::Setresuid, &[uid.as_bytes(), uid.as_bytes(), uid.as_bytes()]);
    for (uid, sees) in [(0, true), (STRANGER, false)] {
        assert_answers(&scene, uid, agent.pid, sees);
    }
}

#[test]
fn root_of_a_user_namespace_is_the_user_that_it_is_outside() {
    let scene = scene("");
    let ptys = [Pty::open(), Pty::open()];
    let [of_root, own] = [(0, "roots", &ptys[0]), (STRANGER, "own", &ptys[1])]
        .map(|(uid, home, pty)| agent(&scene, uid, home, pty));
    for pid in [of_root.pid, own.pid] {
        scene.watch.wait_for("its start", |frame| frame.is("session_started", pid));
    }
    for (pid, sees) in [(of_root.pid, false), (own.pid, true)] {
        let asked = scene.daemon.command_of(STRANGER, GROUP, &["ps", &pid.to_string(), "--json"]);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--"]).arg(asked.get_program()).args(asked.get_args());
        let answer = CommandResult::of(command.uid(STRANGER).gid(GROUP));
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.text().contains(SECRET), sees, "{answer:?}");
    }
}

/// All that the state directory has.
fn written(scene: &Scene) -> Vec<u8> {
    let files = std::fs::read_dir(scene.daemon.state_dir()).expect("the state directory");
    files.flat_map(|file| std::fs::read(file.expect("a file").path()).expect("its bytes")).collect()
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

#[test]
fn the_journal_has_the_first_argument_alone_unless_it_is_to_have_all() {
    for keeps in [false, true] {
        let extra = if keeps { "[journal]\nargv = true" } else { "" };
        let mut scene = scene(extra);
        let ptys = [Pty::open(), Pty::open()];
        let [mut gone, stays] =
            [("gone", &ptys[0]), ("stays", &ptys[1])].map(|(home, pty)| agent(&scene, OWNER, home, pty));
        for pid in [gone.pid, stays.pid] {
            scene.watch.wait_for("its start", |frame| frame.is("session_started", pid));
        }
        gone.chdir(&scene.fixture.dir());
        let pid = gone.pid;
        scene.watch.wait_for("that it left", |frame| {
            frame.is("session_changed", pid) && frame.0.get("state") == Some(&"left".into())
        });
        // This daemon sees the end of one, and the next one finds that of the other.
        gone.killed(libc::SIGKILL);
        scene.watch.wait_for("its end", |frame| frame.is("session_ended", pid));
        assert_eq!(scene.daemon.stop(), Some(0));
        stays.killed(libc::SIGKILL);
        scene.daemon.restart();
        let history = eventually("both ends are written", observer_harness::watch::SOON, || {
            let mut history = scene.daemon.command(&["history", "--json"]);
            let history = CommandResult::of(history.arg("--state-dir").arg(scene.daemon.state_dir()));
            let ends = history.text().matches("\"session_ended\"").count();
            if ends == 2 { Ok(history.text().to_owned()) } else { Err(history.text().to_owned()) }
        });
        let with_secret = history.lines().filter(|line| line.contains(SECRET)).count();
        assert_eq!((with_secret >= 5, with_secret == 0), (keeps, !keeps), "{history}");
        assert_eq!(has_secret(&written(&scene)), keeps);
        // Who reads through the daemon sees no more of what it has from the journal.
        for (uid, sees) in [(0, keeps), (OWNER, false), (STRANGER, false)] {
            let args = ["list", "--ended", "--json"];
            let answer = CommandResult::of(&mut command_of(&scene.daemon, uid, &args));
            assert!(answer.text().contains("\"gone\""), "{answer:?}");
            assert_eq!(answer.text().contains(SECRET), sees, "user {uid}: {answer:?}");
        }
        assert_eq!(scene.daemon.stop(), Some(0));
        assert_eq!(has_secret(&written(&scene)), keeps);
    }
}

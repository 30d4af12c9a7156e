//! Homes: two at once, two of the same name, and homes that are renamed, deleted and created again, or behind
//! a symlink.

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Pty, Puppet, text};
use serde_json::Value;

use crate::Scene;

#[test]
fn two_programs_on_two_terminals_in_two_directories_are_two_sessions() {
    let scene = Scene::new("");
    let (one, two) = (scene.home("one"), scene.home("two"));
    let ptys = [Pty::open(), Pty::open()];
    let (a, b) = (scene.agent(&one, &ptys[0]), scene.agent(&two, &ptys[1]));
    let row = scene.assert_session(&one, &a, "live");
    assert_eq!(row.get("name").and_then(Value::as_str), Some("one"));
    assert_eq!(row.get("tty").and_then(Value::as_str), Some(ptys[0].tty().as_str()));
    assert_eq!(
        (text::u64_any(&row, "roots"), row.get("wrapper_pid")),
        (Some(1), Some(&Value::Null)),
        "{row:#}"
    );
    scene.assert_session(&two, &b, "live");
    let porcelain = scene.daemon.observer(&["list", "--porcelain"]);
    let expected = format!("one\t{}\t{}\ntwo\t{}\t{}\n", a.pid, one.display(), b.pid, two.display());
    assert_eq!(porcelain.text(), expected, "sorted by name");
}

#[test]
fn a_session_anywhere_below_a_home_belongs_to_the_home() {
    let scene = Scene::new("");
    let home = scene.home("one");
    let below = scene.home("one/deep/er");
    let pty = Pty::open();
    let mut agent = scene.agent(&below, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.chdir(&home);
    scene.assert_session(&home, &agent, "live");
    assert!(scene.session(&below).is_none(), "below is no home of its own");
}

#[test]
fn two_homes_of_one_name_are_ambiguous_by_name_and_exact_by_path() {
    let fixture = observer_harness::Fixture::new();
    let (a, b) = (fixture.mkdir("a/same"), fixture.mkdir("b/same"));
    let config = ["a", "b"]
        .map(|name| {
            format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\n", fixture.dir().join(name).display())
        })
        .concat();
    let daemon = observer_harness::Daemon::start(&observer_harness::Options {
        config: Some(config),
        ..Default::default()
    });
    let ptys = [Pty::open(), Pty::open()];
    let cast = |dir: &std::path::Path, pty| {
        fixture.cast(&PuppetOptions { dir: Some(dir.to_owned()), pty: Some(pty), ..Default::default() })
    };
    let (first, second) = (cast(&a, &ptys[0]), cast(&b, &ptys[1]));
    let result = daemon.observer(&["pid", "same"]);
    assert_eq!(
        (result.code, result.stdout.len()),
        (Some(3), 0),
        "ambiguous, and nothing for a script to use: {result:?}"
    );
    for home in [&a, &b] {
        assert!(
            result.stderr.contains(&home.display().to_string()),
            "the homes are listed: {}",
            result.stderr
        );
    }
    for (home, puppet) in [(&a, &first), (&b, &second)] {
        let result = daemon.observer(&[std::ffi::OsStr::new("pid"), home.as_os_str()]);
        assert_eq!((result.code, result.text()), (Some(0), format!("{}\n", puppet.pid).as_str()));
    }
    let porcelain = daemon.observer(&["list", "--porcelain"]);
    let homes: Vec<_> = porcelain.text().lines().filter_map(|line| line.split('\t').nth(2)).collect();
    assert_eq!(
        homes,
        [a.to_str().unwrap_or_default(), b.to_str().unwrap_or_default()],
        "sorted by home then"
    );
}

#[test]
fn a_session_moves_to_the_new_path_of_its_renamed_home_after_a_second() {
    let scene = Scene::new("");
    let home = scene.home("before");
    let after = home.with_file_name("after");
    let pty = Pty::open();
    let agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    std::fs::rename(&home, &after).expect("rename the home");
    let row = scene.session(&home).expect("the old home keeps its row");
    assert_eq!(row.get("state").and_then(Value::as_str), Some("left"), "{row:#}");
    assert_eq!(row.get("moved_to").and_then(Value::as_str), after.to_str(), "{row:#}");
    assert!(scene.session(&after).is_none(), "one process is one session");
    let ended = scene.wait_for_frame("session_ended", &home);
    assert_eq!(ended.field("end_reason"), Some(&"moved".into()), "{ended:?}");
    assert_eq!(ended.field("moved_to").and_then(Value::as_str), after.to_str(), "{ended:?}");
    scene.wait_for_frame("session_started", &after);
    scene.assert_session(&after, &agent, "live");
    scene.assert_none(&home);
}

#[test]
fn a_deleted_home_keeps_its_row_beside_the_one_of_a_new_directory() {
    let scene = Scene::new("");
    let home = scene.home("doomed");
    let ptys = [Pty::open(), Pty::open()];
    let first = scene.agent(&home, &ptys[0]);
    let before = scene.assert_session(&home, &first, "live");
    std::fs::remove_dir(&home).expect("remove the home");
    let row = scene.session(&home).expect("it keeps its row");
    assert_eq!(text::u64_any(&row, "pid"), Some(first.pid.into()), "{row:#}");
    assert_eq!(row.get("cwd_deleted"), Some(&true.into()), "{row:#}");
    scene.home("doomed");
    let second = scene.agent(&home, &ptys[1]);
    let rows = scene.daemon.list();
    let of = |puppet: &Puppet| rows.iter().find(|row| text::u64_any(row, "pid") == Some(puppet.pid.into()));
    let old = of(&first).expect("the one in the deleted directory");
    assert_eq!(
        ["name", "state", "home_deleted"].map(|field| old.get(field).cloned()),
        [Some("doomed#2".into()), Some("live".into()), Some(true.into())],
        "{old:#}"
    );
    let row = of(&second).expect("the one in the new directory");
    assert_eq!(row.get("name").and_then(Value::as_str), Some("doomed"), "{row:#}");
    assert_ne!(row.get("cwd_ino"), before.get("cwd_ino"), "another directory");
    assert_eq!(
        text::u64_any(row, "roots"),
        Some(1),
        "the one in the deleted directory is none of its roots: {row:#}"
    );
    assert_eq!(row.get("cwd_deleted"), Some(&false.into()), "{row:#}");
}

#[test]
fn homes_of_a_rule_with_a_symlink_have_their_real_path() {
    let fixture = observer_harness::Fixture::new();
    let real = fixture.mkdir("real/project");
    std::os::unix::fs::symlink(fixture.dir().join("real"), fixture.dir().join("link"))
        .expect("make a symlink");
    let config = format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/link/*\"\n", fixture.dir().display());
    let daemon = observer_harness::Daemon::start(&observer_harness::Options {
        config: Some(config),
        ..Default::default()
    });
    let pty = Pty::open();
    // The program enters through the link; the kernel knows only the real path.
    let dir = fixture.dir().join("link/project");
    let agent = fixture.cast(&PuppetOptions { dir: Some(dir), pty: Some(&pty), ..Default::default() });
    let list = daemon.list();
    let [row] = &list[..] else { panic!("one session: {list:#?}") };
    assert_eq!(row.get("home").and_then(Value::as_str), real.to_str());
    assert_eq!(text::u64_any(row, "pid"), Some(agent.pid.into()));
}

//! Names that processes choose may contain any bytes: JSON shows them without loss, and all other output
//! shows them without harm.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Pty, Puppet, Watch, share, text};
use serde_json::Value;

/// Names that break lines, columns, terminals, encodings and escapes.
const NAMES: [&[u8]; 14] = [
    b"new\nline",
    b"tab\there",
    b"\x1b[31mred\x1b]0;title\x07",
    b"bad\xff\xfe\xc3utf8",
    b"cr\rback\x08\x08del\x7f",
    "bidi\u{202e}evil\u{2066}".as_bytes(),
    "zero\u{200b}width\u{feff}".as_bytes(),
    "private\u{10fe80}\u{10feff}".as_bytes(),
    "c1\u{9b}31m".as_bytes(),
    b"back\\slash\\n\\x41",
    b"quote\"brace{}",
    b") R 1 1 (paren",
    "gr\u{fc}\u{df}e \u{65e5}\u{672c}".as_bytes(),
    b" ",
];

/// Asserts that output for a person or a script is harmless: it is UTF-8, has no control or bidi characters,
/// and has one line for each item.
#[track_caller]
fn assert_harmless(daemon: &Daemon, args: &[&str]) -> String {
    let result = daemon.observer(args);
    assert_eq!(result.code, Some(0), "{args:?}: {result:?}");
    let shown = result.text().to_owned();
    for (number, line) in shown.lines().enumerate() {
        let bad = line.chars().find(|&c| {
            (c.is_control() && c != '\t')
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
                || ('\u{10fe00}'..='\u{10feff}').contains(&c)
        });
        assert_eq!(bad, None, "{args:?}, line {number}: {line:?}");
    }
    shown
}

/// Starts a session in a directory of each hostile name.
fn sessions(fixture: &Fixture, names: &[&[u8]], ptys: &[Pty]) -> Vec<(PathBuf, Puppet)> {
    let made = names.iter().zip(ptys).map(|(name, pty)| {
        let dir = fixture.mkdir(PathBuf::from("homes").join(OsStr::from_bytes(name)));
        let args = vec![OsString::from_vec(name.to_vec())];
        (
            dir.clone(),
            fixture.cast(&PuppetOptions { dir: Some(dir), pty: Some(pty), args, ..Default::default() }),
        )
    });
    made.collect()
}

#[test]
fn hostile_directories_and_arguments_are_shown_without_loss_and_without_harm() {
    let (fixture, names) = (Fixture::new(), share::of(NAMES));
    let homes = fixture.mkdir("homes");
    let config = format!("[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\n", homes.display());
    let daemon = Daemon::start(&observer_harness::Options { config: Some(config), ..Default::default() });
    let watch = Watch::all(&daemon);
    let ptys: Vec<_> = names.iter().map(|_| Pty::open()).collect();
    let cast = sessions(&fixture, &names, &ptys);
    let list = daemon.list();
    for (dir, puppet) in &cast {
        let row = assert_row(&daemon, puppet.pid);
        let argv =
            row.get("argv").and_then(Value::as_array).and_then(|argv| argv.last()).and_then(Value::as_str);
        assert_eq!(
            argv.map(text::decode).as_deref(),
            dir.file_name().map(OsStr::as_bytes),
            "the argument's bytes"
        );
        let home =
            |session: &&Value| text::bytes(session, "home").as_deref() == Some(dir.as_os_str().as_bytes());
        let session = list.iter().find(home).unwrap_or_else(|| panic!("{dir:?} is a home: {list:#?}"));
        assert_eq!(text::bytes(session, "name").as_deref(), dir.file_name().map(OsStr::as_bytes), "its name");
        assert_eq!(text::u64_any(session, "pid"), Some(puppet.pid.into()));
        watch.wait_for("its session", |frame| frame.is("session_started", puppet.pid));
    }
    let porcelain = assert_harmless(&daemon, &["list", "--porcelain"]);
    assert_eq!(porcelain.lines().count(), names.len(), "one line a session:\n{porcelain}");
    for line in porcelain.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [_, pid, cwd] = fields[..] else { panic!("name, pid, cwd: {line:?}") };
        assert!(cast.iter().any(|(_, puppet)| puppet.pid.to_string() == pid), "{line:?}");
        assert!(cwd.starts_with('/'), "{line:?}");
    }
    let table = assert_harmless(&daemon, &["list"]);
    assert!(table.lines().count() >= names.len() && !table.contains('\t'), "{table}");
    assert!(!assert_harmless(&daemon, &["ps"]).contains('\t'), "columns, not tabs");
    for (dir, puppet) in &cast {
        let pid = daemon.observer(&[OsStr::new("pid"), dir.as_os_str()]);
        assert_eq!(pid.text().trim(), puppet.pid.to_string(), "the home's bytes name it: {pid:?}");
    }
}

#[test]
fn a_hostile_comm_is_shown_without_loss_and_without_harm() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let (names, mut puppets) = (share::of(NAMES), Vec::new());
    for &name in &names {
        let mut puppet = fixture.puppet();
        puppet.does(Verb::Setname, &[name]);
        let row = assert_row(daemon, puppet.pid);
        assert_eq!(text::bytes(&row, "comm").as_deref(), name.get(..name.len().min(15)), "{row:#}");
        puppets.push(puppet);
    }
    let table = assert_harmless(daemon, &["ps"]);
    assert!(table.lines().count() > names.len(), "{table}");
    for puppet in puppets {
        let pid = puppet.pid;
        puppet.ends(Verb::Exit, &[b"0"]);
        watch.end_of(pid);
    }
}

#[test]
fn a_program_with_a_hostile_file_name_is_shown_without_loss() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let image = std::fs::read(observer_harness::fixture::puppet_program()).expect("read the puppet");
    for name in share::of(NAMES) {
        let program = fixture.mkdir("programs").join(OsStr::from_bytes(name));
        fixture.install(&image, &program);
        let puppet = fixture.cast(&PuppetOptions { program: Some(program.clone()), ..Default::default() });
        let row = assert_row(daemon, puppet.pid);
        assert_eq!(text::bytes(&row, "exe").as_deref(), Some(program.as_os_str().as_bytes()), "{row:#}");
    }
}

/// Makes the puppet create and enter `levels` nested directories called `name` below `start`, which only
/// relative paths can reach. Returns the whole path.
fn descend(puppet: &mut Puppet, start: &std::path::Path, name: &[u8], levels: usize) -> Vec<u8> {
    let mut path = start.as_os_str().as_bytes().to_vec();
    puppet.chdir(start);
    for _ in 0..levels {
        puppet.does(Verb::Mkdir, &[name]);
        puppet.does(Verb::Chdir, &[name]);
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

#[test]
fn a_path_component_of_255_bytes_is_shown_whole() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    let component: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').cycle().take(255).collect();
    let path = descend(&mut puppet, &fixture.dir(), &component, 3);
    let row = assert_row(daemon, puppet.pid);
    assert_eq!(text::bytes(&row, "cwd"), Some(path), "255 different bytes");
}

#[test]
fn a_path_of_4095_bytes_is_shown_whole() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    let mut path = descend(&mut puppet, &fixture.dir(), &[b'x'; 200], 19);
    let rest = 4_094 - path.len();
    assert!((1..=255).contains(&rest), "one component more: {rest}");
    let last = vec![b'y'; rest];
    puppet.does(Verb::Mkdir, &[&last]);
    puppet.does(Verb::Chdir, &[&last]);
    path.push(b'/');
    path.extend(last);
    assert_eq!(path.len(), 4_095, "PATH_MAX without its NUL");
    let row = daemon.row(puppet.pid).expect("it lives");
    assert_eq!(text::bytes(&row, "cwd").map(|cwd| cwd.len()), Some(path.len()), "whole");
    assert_eq!(text::bytes(&row, "cwd"), Some(path));
}

#[test]
fn a_path_200_levels_deep_is_shown_whole() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    let path = descend(&mut puppet, &fixture.dir(), b"level", 200);
    let row = assert_row(daemon, puppet.pid);
    assert_eq!(text::bytes(&row, "cwd"), Some(path));
}

#[test]
fn a_path_longer_than_any_limit_is_null_and_marked_as_truncated() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let mut puppet = fixture.puppet();
    for (name, levels) in [(&[b'z'; 250][..], 20), (b"d", 400)] {
        descend(&mut puppet, &fixture.mkdir("deep"), name, levels);
        let row = daemon.row(puppet.pid).expect("it lives");
        assert_eq!(
            (row.get("cwd"), row.get("cwd_truncated")),
            (Some(&Value::Null), Some(&true.into())),
            "{row:#}"
        );
        let here = puppet.does(Verb::Facts, &[]);
        let ino = here.get(8).map(u64::to_string);
        assert_eq!(
            row.get("cwd_ino").and_then(Value::as_str),
            ino.as_deref(),
            "its identity is known all the same"
        );
    }
    puppet.chdir(&fixture.dir());
    assert_row(daemon, puppet.pid);
}

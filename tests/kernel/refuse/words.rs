//! Errors on the command line and in the configuration.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;
use observer_harness::{Daemon, Fixture, Options, Pty, failure};

use crate::{assert_refused, run};

/// Broken configurations, each with the line of the error and a word that the message must contain.
const BROKEN: [(&str, u32, &str); 8] = [
    ("[[session]]\ncwd = \"/srv/*\"\ntty = pts\n", 3, "quoted"),
    ("[[session]]\ncwd = \"/srv/*\"\ncolour = \"red\"\n", 3, "colour"),
    ("[[session]]\ncwd = \"relative/*\"\n", 2, "absolute"),
    ("[[session]]\ncwd = \"~/x\"\n", 2, "~"),
    ("[[session]]\ncwd = \"/srv/[\"\n", 2, "["),
    ("[[session]]\ncwd = \"/srv/*\"\nmin_age = \"soon\"\n", 3, "min_age"),
    ("[[session]]\ncwd = \"/srv/*\"\nuser = \"nobody-has-this-name\"\n", 3, "nobody-has-this-name"),
    ("session = 3\n", 1, "expected"),
];

#[test]
fn a_broken_configuration_is_refused_with_file_line_and_column() {
    failure::require_root();
    for (text, line, word) in BROKEN {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("observer.toml");
        std::fs::write(&file, text).expect("write the configuration");
        let path = file.display().to_string();
        let result = run(&[], dir.path(), &["--config", &path]);
        assert!(result.code.is_some_and(|code| code != 0 && code != 124), "refused: {result:?}");
        assert_refused(&result, result.code.unwrap_or(0), &[&path, word]);
        let at = format!("{path}:{line}:");
        assert!(result.stderr.contains(&at), "{at} and a column for {text:?}: {}", result.stderr);
    }
}

/// A user who is neither root nor the owner of anything here.
const STRANGER: &str = "65534";
/// include/uapi/linux/capability.h
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;

#[test]
fn a_file_of_the_configuration_that_the_user_of_the_daemon_cannot_read_is_no_ok() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("set the mode");
    };
    set_mode(dir.path(), 0o755);
    let [file, closed] = ["observer.toml", "closed"].map(|name| dir.path().join(name));
    let url = closed.join("database_url");
    std::fs::create_dir(&closed).expect("make a directory");
    let write_url = |text: &str| std::fs::write(&url, text).expect("write the connection string");
    write_url("postgresql://observer:secret@db.example/fleet?sslmode=verify-full");
    let text = format!("[mirror]\ndatabase_url_file = \"{}\"\n", url.display());
    std::fs::write(&file, text).expect("write the configuration");
    let check = |user: &str| {
        let mut command = Command::new(product());
        CommandResult::of(command.arg("check-config").arg(&file).args(["--user", user]))
    };
    // Only root may enter the directory, and then, read the file.
    let [closed, url_shown] = [&closed, &url].map(|path| path.display().to_string());
    set_mode(Path::new(&closed), 0o700);
    for (at, mode) in [(&closed, 0o700), (&url_shown, 0o600)] {
        set_mode(Path::new(at), mode);
        let result = check(STRANGER);
        assert_eq!(result.code, Some(2), "{result:?}");
        let why = format!("cannot read {url_shown}: {at} has mode 0{mode:o} and belongs to root:");
        assert!(result.stderr.contains(&why) && result.stderr.contains("LoadCredential="), "{result:?}");
        assert!(result.text().contains(": 1 problem"), "{result:?}");
        let of_root = check("0");
        assert_eq!(of_root.code, Some(0), "{of_root:?}");
        assert!(of_root.text().contains("read as user root (uid 0)"), "{of_root:?}");
        set_mode(Path::new(at), 0o755);
    }
    assert_eq!(check(STRANGER).code, Some(0));
    // Files that the connection string names, and faults of it, count too.
    write_url(&format!("postgresql://db.example/fleet?sslrootcert={}/absent.pem", dir.path().display()));
    let result = check(STRANGER);
    assert_eq!(result.code, Some(2), "{result:?}");
    assert!(result.stderr.contains("absent.pem: No such file"), "{result:?}");
    write_url("postgresql://observer:secret@db.example/fleet?colour=red");
    let result = check(STRANGER);
    assert_eq!(result.code, Some(2), "{result:?}");
    assert!(!result.stderr.contains("secret"), "{result:?}");
    // Who cannot act as the daemon's user says so.
    set_mode(Path::new(&url_shown), 0o644);
    let mut command = Command::new(product());
    command.arg("check-config").arg(&file).args(["--user", "0"]).uid(65_534).gid(65_534);
    // What is wrong whoever reads it is a problem all the same.
    let result = CommandResult::of(&mut command);
    assert_eq!(result.code, Some(2), "{result:?}");
    assert!(result.stderr.contains("this runs as") && result.text().contains(": 1 problem"), "{result:?}");
    write_url("postgresql://observer:secret@db.example/fleet?sslmode=verify-full");
    let result = CommandResult::of(&mut command);
    assert_eq!(result.code, Some(4), "{result:?}");
    assert!(result.stderr.contains("this runs as") && result.text().contains(": not known"), "{result:?}");
}

#[test]
fn the_connection_string_is_checked_where_only_the_user_of_the_daemon_may_read_it() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    let [file, url] = ["observer.toml", "database_url"].map(|name| dir.path().join(name));
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("set the mode");
    std::fs::write(&file, format!("[mirror]\ndatabase_url_file = \"{}\"\n", url.display())).expect("write");
    std::fs::write(&url, "postgresql://observer:secret@db.example/fleet?colour=red").expect("write");
    std::fs::set_permissions(&url, Permissions::from_mode(0o400)).expect("set the mode");
    let stranger = STRANGER.parse().ok();
    std::os::unix::fs::chown(&url, stranger, stranger).expect("change the owner");
    let mut command = Command::new(product());
    command.arg("check-config").arg(&file).args(["--user", STRANGER]);
    // As root of a client of a network file system, which the server takes for nobody.
    // SAFETY: async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            for capability in [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH] {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let result = CommandResult::of(&mut command);
    assert_eq!(result.code, Some(2), "{result:?}");
    assert!(result.stderr.contains("key or value that is not understood"), "{result:?}");
    assert!(!result.stderr.contains("cannot read") && !result.stderr.contains("secret"), "{result:?}");
}

#[test]
fn a_file_that_the_service_cannot_see_is_warned_of() {
    failure::require_root();
    let hidden = tempfile::tempdir_in("/tmp").expect("a directory");
    let dir = tempfile::tempdir_in("/run").expect("a directory");
    let [file, link] = ["observer.toml", "database_url"].map(|name| dir.path().join(name));
    let url = hidden.path().join("database_url");
    std::fs::write(&url, "host=db.example user=observer dbname=fleet").expect("write");
    std::os::unix::fs::symlink(&url, &link).expect("make a link");
    let check = |named: &Path| {
        let text = format!("[mirror]\ndatabase_url_file = \"{}\"\n", named.display());
        std::fs::write(&file, text).expect("write the configuration");
        CommandResult::of(Command::new(product()).arg("check-config").arg(&file).args(["--user", "0"]))
    };
    for named in [&url, &link] {
        let result = check(named);
        assert_eq!(result.code, Some(0), "{result:?}");
        let why = format!("cannot see {}, because", named.display());
        assert!(result.stderr.contains(&why) && result.stderr.contains("PrivateTmp=yes"), "{result:?}");
        assert!(result.text().contains(": 1 warning"), "{result:?}");
    }
    std::fs::remove_file(&link).expect("remove the link");
    std::fs::rename(&url, &link).or_else(|_| std::fs::copy(&url, &link).map(drop)).expect("move the file");
    let result = check(&link);
    assert!(result.code == Some(0) && result.text().contains(": fine"), "{result:?}");
}

#[test]
fn a_missing_configuration_file_is_named() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("absent.toml").display().to_string();
    let result = run(&[], dir.path(), &["--config", &path]);
    assert!(result.code.is_some_and(|code| code != 0 && code != 124), "refused: {result:?}");
    assert!(result.stderr.contains(&path), "{}", result.stderr);
}

#[test]
fn a_ring_that_is_no_power_of_two_or_out_of_bounds_is_refused() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    for bytes in ["100000", "0", "4096", "4294967296", "1073741824", "-1", "many"] {
        let result = run(&[], dir.path(), &[&format!("--ring-bytes={bytes}")]);
        assert!(result.code.is_some_and(|code| code != 0 && code != 124), "refused: {result:?}");
        assert_refused(&result, result.code.unwrap_or(0), &["ring-bytes"]);
    }
}

#[test]
fn usage_errors_exit_2() {
    failure::require_root();
    for args in
        [&["no-such-verb"][..], &["pid"], &["list", "--json", "--porcelain"], &["run", "--no-such-flag"], &[]]
    {
        let result = observer_harness::observe::CommandResult::of(
            std::process::Command::new(observer_harness::daemon::product()).args(args),
        );
        assert_eq!(result.code, Some(2), "{args:?}: {result:?}");
        assert!(result.stderr.to_lowercase().contains("usage"), "{args:?}: {}", result.stderr);
    }
}

#[test]
fn a_glob_that_cannot_be_compiled_is_a_usage_error() {
    let daemon = Daemon::shared();
    for command in ["list", "ps", "watch"] {
        assert_refused(&daemon.observer(&[command, "[a-"]), 2, &["[a-"]);
        let long = format!("\x1b[2J{}", "x*".repeat(10_000));
        let result = daemon.observer(&[command, &long]);
        assert_refused(&result, 2, &["20004 bytes, and at most 256 are taken: shorten it"]);
        assert!(result.stderr.len() < 300 && !result.stderr.contains('\x1b'), "{}", result.stderr);
    }
}

#[test]
fn a_long_or_hostile_value_of_an_option_is_cut_and_said_once() {
    failure::require_root();
    let value = format!("x\x1b[2J{}", "y".repeat(20_000));
    for args in
        [&["list", "--state", &value][..], &["history", "--since", &value], &["pid", "a", "--user", &value]]
    {
        let result = observer_harness::observe::CommandResult::of(
            std::process::Command::new(observer_harness::daemon::product()).args(args),
        );
        assert_eq!(result.code, Some(2), "{}", result.stderr);
        assert_eq!(result.stderr.matches("x\\x1b[2Jy").count(), 1, "said once: {}", result.stderr);
        assert!(result.stderr.len() < 600 && !result.stderr.contains('\x1b'), "{}", result.stderr);
    }
}

#[test]
fn an_unknown_session_is_refused_with_exit_code_1() {
    let daemon = Daemon::shared();
    for name in ["no-such-session", "/no/such/home", "bad\nname"] {
        assert_refused(&daemon.observer(&["pid", name]), 1, &["no session"]);
    }
}

#[test]
fn a_list_without_sessions_is_empty_and_explained_on_standard_error() {
    let fixture = Fixture::new();
    let config = format!("[[session]]\ncwd = \"{}/*\"\n", fixture.mkdir("empty").display());
    let daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
    assert!(daemon.list().is_empty());
    for args in [&["list", "--porcelain"][..], &["list"]] {
        let result = daemon.observer(args);
        assert_eq!((result.code, result.stdout.len()), (Some(1), 0), "certainly none, {args:?}: {result:?}");
    }
    assert!(daemon.observer(&["list"]).stderr.contains("no sessions"), "in a sentence");
}

#[test]
fn a_reader_that_closes_the_pipe_causes_no_panic() {
    let daemon = Daemon::shared();
    let mut command = daemon.command(&["ps", "--json"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("start observer ps");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends");
    assert!(!String::from_utf8_lossy(&out.stderr).contains("panicked"), "{out:?}");
}

#[test]
fn output_has_no_colour_in_a_pipe_or_with_no_color() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let pty = Pty::open();
    let home = fixture.mkdir("coloured");
    let _session = fixture.cast(&observer_harness::fixture::PuppetOptions {
        dir: Some(home),
        pty: Some(&pty),
        ..Default::default()
    });
    for args in [&["ps"][..], &["list"], &["status"], &["doctor"]] {
        let result = daemon.observer(args);
        assert!(!result.stdout.contains(&0x1b), "{args:?} into a pipe: {result:?}");
    }
    let view = Pty::open();
    let slave =
        || std::fs::File::options().read(true).write(true).open(&view.path).expect("open the terminal");
    let mut command = daemon.command(&["ps"]);
    let mut child =
        command.stdout(slave()).env("NO_COLOR", "1").env("TERM", "xterm").spawn().expect("start observer ps");
    let shown = view.read_until("observer", std::time::Duration::from_secs(5));
    // A terminal buffers 4 KiB that nobody reads; a writer that fills the buffer ends when the terminal is
    // closed.
    drop(view);
    child.wait().expect("it ends");
    assert!(!shown.contains('\u{1b}'), "NO_COLOR is honoured: {shown:?}");
}

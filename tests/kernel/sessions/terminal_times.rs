//! When a terminal last received input and output.

use std::process::Command;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Daemon, Fixture, Pty, Watch};
use serde_json::Value;

/// Returns the row of the session whose primary is `pid`, when it has one.
#[track_caller]
fn row(daemon: &Daemon, watch: &Watch, pid: u32) -> Value {
    watch.wait_for("its session", |frame| frame.is("session_started", pid));
    let is_it = |row: &Value| row.get("pid").and_then(Value::as_u64) == Some(pid.into());
    daemon.list().into_iter().find(is_it).expect("its session")
}

#[test]
fn a_terminal_of_the_host_has_its_times_and_one_of_another_devpts_has_none() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::sessions(daemon);
    let pty = Pty::open();
    let host = fixture.cast(&PuppetOptions {
        dir: Some(fixture.mkdir("host")),
        pty: Some(&pty),
        ..PuppetOptions::default()
    });
    let shown = row(daemon, &watch, host.pid);
    for field in ["tty_input_at", "tty_output_at"] {
        assert!(shown.get(field).is_some_and(Value::is_string), "{field}: {shown:#}");
    }
    // The first terminal of another instance is pts/0, as is the first of the host.
    let mount = "mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts && mount -o bind /dev/pts/ptmx /dev/ptmx";
    let agent = format!("{} {} other", fixture.program("agent").display(), fixture.address);
    let mut script = Command::new("unshare")
        .args(["--mount", "sh", "-c", &format!("{mount} && script -qec '{agent}' /dev/null")])
        .current_dir(fixture.mkdir("other"))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("run unshare(1)");
    let other = fixture.meet("other");
    let shown = row(daemon, &watch, other.pid);
    assert_eq!(shown.get("tty").and_then(Value::as_str), Some("pts/0"), "{shown:#}");
    assert_eq!(shown.get("tty_dev").and_then(Value::as_str), Some("136:0"), "{shown:#}");
    for field in ["tty_input_at", "tty_output_at"] {
        assert_eq!(shown.get(field), Some(&Value::Null), "{field}: {shown:#}");
    }
    assert!(other.signal(libc::SIGKILL), "it lives");
    script.wait().expect("it ends with its program");
}

//! Calls systemd, and observer as a user of the machine does.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use observer_harness::observe::CommandResult;

pub const UNIT: &str = "observer.service";
pub const SOCKET: &str = "/run/observer/observer.sock";
/// The limit for an action of the service manager; emulated machines are slow.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The README's commands, which run in the directory of the files that they install.
const INSTALL: &str = "install -Dm644 packaging/observer.sysusers.conf /usr/lib/sysusers.d/observer.conf && \
                       systemd-sysusers && \
                       install -Dm644 packaging/observer.service /etc/systemd/system/observer.service && \
                       systemctl daemon-reload";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static INSTALLED: Once = Once::new();

/// Installs and stops the unit, and returns a guard under which no other test uses it.
pub fn installed() -> MutexGuard<'static, ()> {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    INSTALLED.call_once(|| {
        let result = CommandResult::of(Command::new("sh").args(["-c", INSTALL]).current_dir("/vm"));
        assert_eq!(result.code, Some(0), "the README's commands: {result:?}");
        for name in ["member", "stranger"] {
            let result = CommandResult::of(Command::new("useradd").args(["--no-create-home", name]));
            assert_eq!(result.code, Some(0), "a user of the machine: {result:?}");
        }
        let result = CommandResult::of(Command::new("usermod").args(["-aG", "observer", "member"]));
        assert_eq!(result.code, Some(0), "who may ask: {result:?}");
    });
    systemctl(&["stop", UNIT]);
    systemctl(&["reset-failed", UNIT]);
    alone
}

/// Runs systemctl.
pub fn systemctl(args: &[&str]) -> CommandResult {
    CommandResult::of(Command::new("systemctl").args(args))
}

/// Returns one property of the unit.
pub fn property(name: &str) -> String {
    let result = systemctl(&["show", "--value", "--property", name, UNIT]);
    assert_eq!(result.code, Some(0), "{result:?}");
    result.text().trim().to_owned()
}

/// Starts the unit; systemctl returns when the unit is ready.
pub fn start() {
    let result = systemctl(&["start", UNIT]);
    assert_eq!(result.code, Some(0), "{result:?}\n{}", journal());
    assert_eq!(property("ActiveState"), "active", "{}", journal());
}

/// Returns the pid of the running daemon.
pub fn main_pid() -> u32 {
    property("MainPID").parse().expect("a number")
}

/// Returns the unit's log from systemd's journal.
pub fn journal() -> String {
    let result =
        CommandResult::of(Command::new("journalctl").args(["--no-pager", "--output=cat", "--unit", UNIT]));
    String::from_utf8_lossy(&result.stdout).into_owned()
}

/// Runs observer as this user with all of the user's groups.
pub fn as_user(user: &str, args: &[&str]) -> CommandResult {
    CommandResult::of(
        Command::new("setpriv")
            .args(["--reuid", user, "--regid", user, "--init-groups", "observer"])
            .args(args),
    )
}

/// Returns the value of a line of the daemon's `/proc/PID/status`.
pub fn status_line(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
}

/// Polls until `holds` returns true; fails with the unit's log.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}\n{}", journal());
        std::thread::sleep(Duration::from_millis(20));
    }
}

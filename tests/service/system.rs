//! Calls systemd, and observer as a user of the machine does.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use observer_harness::observe::CommandResult;

pub const UNIT: &str = "observer.service";
pub const SOCKET: &str = "/run/observer/observer.sock";
/// The limit for an action of the service manager; emulated machines are slow.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The package, as `cargo xtask dist` made it.
pub const PACKAGE: &str = "/vm/packages/observer.deb";

/// Where drop-ins of the unit are.
const DROP_INS: &str = "/run/systemd/system/observer.service.d";

/// A drop-in of the unit, until this is dropped.
pub struct DropIn {
    path: String,
}

impl DropIn {
    /// Adds these settings of the service.
    pub fn new(name: &str, settings: &str) -> Self {
        let path = format!("{DROP_INS}/{name}.conf");
        let text = format!("[Service]\n{settings}");
        fs::create_dir_all(DROP_INS).and_then(|()| fs::write(&path, text)).expect("write as root");
        assert_eq!(systemctl(&["daemon-reload"]).code, Some(0));
        Self { path }
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        // Of the directory only if it is empty: another test may have one there.
        let _ = fs::remove_file(&self.path).and_then(|()| fs::remove_dir(DROP_INS));
        systemctl(&["daemon-reload"]);
    }
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static USERS: Once = Once::new();

/// Returns a guard under which no other test uses the unit.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the package where it is not, stops the unit, and returns a guard under which no other test uses it.
pub fn installed() -> MutexGuard<'static, ()> {
    let alone = alone();
    if !Path::new("/usr/bin/observer").exists() {
        dpkg(&["--install", PACKAGE]);
    }
    USERS.call_once(|| {
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

/// Runs dpkg as a machine's owner does, and without a person who could be asked.
pub fn dpkg(args: &[&str]) {
    let mut command = Command::new("dpkg");
    let result =
        CommandResult::of(command.env("DEBIAN_FRONTEND", "noninteractive").args(args).stdin(Stdio::null()));
    assert_eq!(result.code, Some(0), "dpkg {args:?}: {result:?}\n{}", journal());
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

/// Runs observer as root.
pub fn observer(args: &[&str]) -> CommandResult {
    CommandResult::of(Command::new("/usr/bin/observer").args(args))
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

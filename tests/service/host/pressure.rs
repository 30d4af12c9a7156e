//! Tests that programs which take the memory or the processors of a host do not take the daemon's sight first.

use std::fs;
use std::path::Path;
use std::process::Command;

use observer_harness::observe::CommandResult;
use serde_json::Value;

use crate::system::{
    DropIn, UNIT, as_user, eventually, installed, journal, main_pid, property, start, systemctl,
};

/// The settings of the daemon here: canaries come often enough that some fall into a short time of pressure.
const OFTEN: &str = "Environment=\"OBSERVER_ARGS=--canary-interval 2s\"\n";
/// Canaries that have to come round under pressure.
const ROUNDS: u64 = 2;

/// The slice in which the daemon shares too little memory with others.
const SLICE: &str = "hostile.slice";
/// Enough for the start of the daemon, and for a half of [`HOGS`].
const SLICE_MEMORY: &str = "192M";
/// 32 processes, of which each has 8 MiB and waits. The daemon is larger than any of them, so the kernel would end it first.
const HOGS: &str = "fork for 1 .. 5; my $bytes = 8 << 20; my $memory = 'x' x $bytes; sleep";

/// Every process forks for ever; from the limit of the unit on each of them keeps a processor busy with trying.
const BOMB: &str = "fork while 1";
const BOMB_TASKS: &str = "--property=TasksMax=256";
/// Processes that the bomb has to have made.
const BOMB_BIRTHS: u64 = 128;

/// A program that runs as a unit of its own, until this is dropped.
struct Hostile {
    unit: &'static str,
}

impl Hostile {
    /// Starts Perl, which every Debian has, with this script.
    fn start(unit: &'static str, properties: &[&str], script: &str) -> Self {
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect", &format!("--unit={unit}")]).args(properties);
        let result = CommandResult::of(command.args(["perl", "-e", script]));
        assert_eq!(result.code, Some(0), "{result:?}");
        Self { unit }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        systemctl(&["kill", "--signal=KILL", self.unit]);
        systemctl(&["stop", self.unit]);
        systemctl(&["reset-failed", self.unit]);
    }
}

/// A slice with a bound of memory, until this is dropped.
struct Slice {
    path: String,
}

impl Slice {
    fn new() -> Self {
        let path = format!("/run/systemd/system/{SLICE}");
        fs::write(&path, format!("[Slice]\nMemoryMax={SLICE_MEMORY}\nMemorySwapMax=0\n"))
            .expect("write as root");
        assert_eq!(systemctl(&["daemon-reload"]).code, Some(0));
        Self { path }
    }

    /// How many processes the kernel has ended because the slice had no memory left.
    fn kills() -> u64 {
        let events = fs::read_to_string(Path::new("/sys/fs/cgroup").join(SLICE).join("memory.events"));
        let events = events.unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.map_or(0, |kills| kills.trim().parse().expect("a number"))
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        systemctl(&["stop", UNIT]);
        systemctl(&["stop", SLICE]);
        let _ = fs::remove_file(&self.path);
        systemctl(&["daemon-reload"]);
    }
}

fn status() -> Value {
    let result = as_user("member", &["status", "--json"]);
    serde_json::from_slice(&result.stdout).unwrap_or_default()
}

/// A counter of the status; 0 while no daemon answers.
fn count(status: &Value, pointer: &str) -> u64 {
    status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn came_round(status: &Value) -> u64 {
    count(status, "/canary/came_round")
}

/// Waits until this many canaries came round since `before`, and `holds`.
fn wait_for_rounds(before: &Value, what: &str, holds: impl Fn(&Value) -> bool) {
    eventually(what, || {
        let status = status();
        came_round(&status) >= came_round(before) + ROUNDS && holds(&status)
    });
}

/// Asserts that the daemon `first` has seen all the time, and that what was lost is reported.
fn assert_saw(first: u32) {
    eventually("what was lost is healed", || status().get("certain").is_some_and(|certain| certain == true));
    let status = status();
    assert_eq!((main_pid(), property("NRestarts")), (first, "0".into()), "{}", journal());
    assert_eq!(count(&status, "/canary/missed"), 0, "a canary is missing: {status:#}\n{}", journal());
    let drops = status.get("drops_by_kind").and_then(Value::as_object).expect("losses by kind");
    let lost: u64 = drops.values().filter_map(Value::as_u64).sum();
    assert!(
        lost == 0 || count(&status, "/gaps") > 0,
        "{lost} records were lost, and no gap says so: {status:#}"
    );
    println!("{lost} records were lost, {} canaries came round", came_round(&status));
    let audit = as_user("member", &["audit", "--json"]);
    assert_eq!(audit.code, Some(0), "no drift: {audit:?}");
}

#[test]
fn those_who_take_the_memory_are_ended_before_the_daemon_which_reports_it() {
    let _alone = installed();
    let slice = Slice::new();
    let _often = DropIn::new("canary", OFTEN);
    let _slice = DropIn::new("slice", &format!("Slice={SLICE}\n"));
    start();
    let first = main_pid();
    wait_for_rounds(&Value::Null, "canaries come round", |_| true);
    let before = status();
    let in_slice = format!("--slice={SLICE}");
    let hogs = Hostile::start("hogs.service", &[&in_slice, "--property=OOMPolicy=continue"], HOGS);
    wait_for_rounds(&before, "memory runs out, and canaries come round", |_| Slice::kills() > 0);
    eventually("each of these deaths is known as one for lack of memory", || {
        count(&status(), "/events_by_kind/oom") >= count(&before, "/events_by_kind/oom") + Slice::kills()
    });
    println!("{} processes were ended for lack of memory", Slice::kills());
    drop(hogs);
    assert_saw(first);
    drop(slice);
}

#[test]
fn a_fork_bomb_takes_no_canary_from_the_daemon_which_reports_its_processes() {
    let _alone = installed();
    let _often = DropIn::new("canary", OFTEN);
    start();
    let first = main_pid();
    wait_for_rounds(&Value::Null, "canaries come round", |_| true);
    let before = status();
    let bomb = Hostile::start("bomb.service", &[BOMB_TASKS], BOMB);
    let births = |status: &Value| count(status, "/events_by_kind/fork");
    wait_for_rounds(&before, "processes are born, and canaries come round", |status| {
        births(status) >= births(&before) + BOMB_BIRTHS
    });
    println!("{} processes were born", births(&status()) - births(&before));
    drop(bomb);
    assert_saw(first);
}

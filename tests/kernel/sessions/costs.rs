//! What a session cost, compared with what its processes and the kernel measured.

use std::fs;
use std::time::Duration;

use observer_harness::cgroup::Cgroup;
use observer_harness::{Pty, Verb, eventually, share};
use serde_json::Value;

use crate::Scene;

const LIMIT: Duration = Duration::from_secs(60);
/// What each child uses, µs: less than a tick.
const EACH_US: &str = "200";
/// What the session has at a time, MiB.
const MEMORY_MIB: u64 = 24;

/// Numbers of children: those that the session waits for, those that the kernel reaps, and those that have a child which does the
/// work, for which they do not wait or do.
struct Children {
    waits: u64,
    ignores: u64,
    abandons: u64,
    delegates: u64,
}

impl Children {
    fn ways(&self) -> [(&'static str, u64); 4] {
        let Self { waits, ignores, abandons, delegates } = *self;
        [("waits", waits), ("ignores", ignores), ("abandons", abandons), ("delegates", delegates)]
    }

    fn born(&self) -> u64 {
        self.waits + self.ignores + 2 * (self.abandons + self.delegates)
    }
}

/// By how much a death may have less CPU time than wait4(2) counts, ms: a tick of 100 Hz, and what the end itself takes.
fn missing_ms_max(waited_ms: u64) -> u64 {
    10 + waited_ms / 100
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} of {value:#}"))
}

fn used_us(cgroup: &Cgroup) -> u64 {
    let stat = fs::read_to_string(cgroup.path.join("cpu.stat")).expect("read cpu.stat");
    let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
    usage.and_then(|us| us.trim().parse().ok()).expect("usage_usec")
}

#[test]
fn a_session_cost_what_all_its_processes_used_and_as_many_were_born() {
    let children = if share::is_emulated() {
        Children { waits: 100, ignores: 100, abandons: 30, delegates: 30 }
    } else {
        Children { waits: 300, ignores: 300, abandons: 100, delegates: 100 }
    };
    assert_costs("hundreds", &children);
}

#[test]
fn a_session_cost_what_ten_thousand_processes_used() {
    assert_costs("many", &Children { waits: 3_000, ignores: 3_000, abandons: 1_000, delegates: 1_000 });
}

#[track_caller]
fn assert_costs(name: &str, children: &Children) {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("working"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    scene.wait_for_frame("session_started", &home);
    let before = number(&scene.assert_session(&home, &agent, "live"), "/cost/cpu_ms");
    // The kernel counts what the processes of a cgroup use, whoever waits for them.
    let cgroup = Cgroup::new(name);
    fs::write(cgroup.path.join("cgroup.procs"), agent.pid.to_string()).expect("enter the cgroup");
    agent.patience(LIMIT);
    let (mut measured_us, mut max_rss_kib) = (0, 0);
    for (way, children) in children.ways() {
        let mebibytes = MEMORY_MIB.to_string();
        let args =
            [children.to_string().as_bytes(), EACH_US.as_bytes(), way.as_bytes(), mebibytes.as_bytes()]
                .map(<[u8]>::to_vec);
        let answer = agent.does(Verb::Works, &args.each_ref().map(Vec::as_slice));
        let [used_us, had_kib] = answer[..] else { panic!("{answer:?}") };
        measured_us += used_us;
        max_rss_kib = had_kib;
    }
    // The kernel releases processes a moment after their ends.
    let live = eventually("the session costs what its cgroup used", LIMIT, || {
        let live = scene.assert_session(&home, &agent, "live");
        let ours = number(&live, "/cost/cpu_ms") + number(&live, "/cost/cpu_children_ms");
        let kernels = before + used_us(&cgroup) / 1000;
        if ours.abs_diff(kernels) <= 10 + kernels / 100 { Ok(live) } else { Err(format!("{ours} {kernels}")) }
    });
    assert!(number(&live, "/cost/cpu_children_ms") >= measured_us / 1000, "{measured_us} µs: {live:#}");
    assert_eq!(number(&live, "/cost/processes"), children.born(), "{live:#}");

    let waited = agent.killed(libc::SIGKILL);
    let ended = scene.wait_for_frame("session_ended", &home);
    let cost = ended.death().get("cost").expect("a cost").clone();
    for field in ["/cpu_ms", "/cpu_children_ms", "/processes"] {
        let (at_end, live) = (number(&cost, field), number(&live, &format!("/cost{field}")));
        assert!(live <= at_end + 5 && at_end <= live + 100, "{field}: {live}, then {at_end}");
    }
    let most = number(&cost, "/max_rss_bytes") / 1024;
    assert!(most.abs_diff(max_rss_kib) <= 1024 && most >= MEMORY_MIB * 1024, "{most} KiB, not {max_rss_kib}");
    // wait4 lacks what nobody waited for.
    let (all_ms, waited_ms) =
        (number(&cost, "/cpu_ms") + number(&cost, "/cpu_children_ms"), waited.cpu_us / 1000);
    assert!(waited_ms <= all_ms + missing_ms_max(waited_ms), "{cost:#}, {waited:?}");
    assert!(most.abs_diff(waited.max_rss_kib) <= 1024, "{cost:#}, {waited:?}");
    let listed = scene.daemon.observer(&["list", "--ended", "--json"]).json();
    let of_home = |row: &&Value| row.get("home").and_then(Value::as_str) == home.to_str();
    let ended = listed.as_array().and_then(|rows| rows.iter().find(of_home)).expect("the ended session");
    assert_eq!(
        (ended.pointer("/death/cost"), ended.get("cost")),
        (Some(&cost), Some(&Value::Null)),
        "{ended:#}"
    );
}

#[test]
fn the_certificate_has_what_wait4_says_that_the_process_used() {
    let scene = Scene::new("");
    let (home, pty) = (scene.home("alone"), Pty::open());
    let mut agent = scene.agent(&home, &pty);
    scene.assert_session(&home, &agent, "live");
    agent.patience(LIMIT);
    agent.does(Verb::TakesMemory, &[(MEMORY_MIB << 20).to_string().as_bytes()]);
    // It computes for a second, which the kernel counts in ticks for the limit.
    let waited = agent.ends(Verb::UsesUpItsTime, &[b"1", b"60"]);
    assert_eq!(waited.si_status, libc::SIGXCPU, "{waited:?}");
    let death = scene.wait_for_frame("session_ended", &home).death();
    let (cpu_ms, waited_ms) = (number(&death, "/cost/cpu_ms"), waited.cpu_us / 1000);
    assert!(waited_ms >= 500, "{waited:?}");
    // Each is rounded down.
    let is_same = cpu_ms <= waited_ms + 1 && waited_ms <= cpu_ms + missing_ms_max(waited_ms);
    assert!(is_same, "{waited:?}, {death:#}");
    assert_eq!((number(&death, "/cost/cpu_children_ms"), number(&death, "/cost/processes")), (0, 0));
    let most_kib = number(&death, "/cost/max_rss_bytes") / 1024;
    assert!(
        most_kib.abs_diff(waited.max_rss_kib) <= 1024 && most_kib >= MEMORY_MIB * 1024,
        "{waited:?}, {death:#}"
    );
}

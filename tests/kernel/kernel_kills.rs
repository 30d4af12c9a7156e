//! Kills by the kernel itself: for lack of memory, because a pid namespace ended or a control group was killed, or by a
//! filter of system calls. What a process is told to do, and waitid, say what happened.

use std::fs;

use observer_harness::truth::{assert_no_row, assert_row};
use observer_harness::wait::Waited;
use observer_harness::{Cgroup, Daemon, Fixture, Puppet, Verb, Watch, share, skip, text};
use serde_json::{Value, json};

/// The memory of a control group, and what a process takes in it.
const LIMIT_BYTES: u64 = 24 << 20;
const TAKEN_BYTES: u64 = 64 << 20;

/// How often a process is killed while another one runs.
const TURNS: usize = 12;

/// A process that watches deaths, and a place for puppets.
struct Scene {
    fixture: Fixture,
    watch: Watch,
}

impl Scene {
    fn new() -> Self {
        Self { fixture: Fixture::new(), watch: Watch::all(Daemon::shared()) }
    }

    /// The death of a process of which this was the row. There must be one only.
    #[track_caller]
    fn death(&self, lived: &Value) -> Value {
        let death = self.watch.end_of_row(lived).death();
        assert_eq!(self.watch.count(|frame| frame.ends(lived)), 1, "one death");
        death
    }
}

/// Moves a process into a control group.
fn join(cgroup: &Cgroup, pid: u32) {
    fs::write(cgroup.path.join("cgroup.procs"), pid.to_string()).expect("move a process");
}

fn row(pid: u64) -> Value {
    assert_row(Daemon::shared(), u32::try_from(pid).expect("a pid"))
}

/// The children of a process, by /proc.
fn children_of(pid: u64) -> Vec<u64> {
    let processes = fs::read_dir("/proc").expect("read /proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    let is_child = |child: &u64| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let ppid = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        ppid.and_then(|ppid| ppid.parse().ok()) == Some(pid)
    };
    pids.filter(is_child).collect()
}

#[track_caller]
fn assert_killed(waited: Waited) {
    assert_eq!((waited.si_code, waited.si_status), (libc::CLD_KILLED, libc::SIGKILL));
}

/// What a death says had no memory left, if a hook tells it on this kernel, and otherwise that nobody knows.
fn oom(told: Value) -> Value {
    let status = Daemon::shared().status();
    let hooks = status.get("hooks").and_then(Value::as_array).expect("status has them");
    let is_known = hooks.iter().any(|hook| hook.get("fact") == Some(&json!("oom_scope")));
    if is_known { told } else { json!({"scope": "unknown", "cgroup": null}) }
}

/// Asserts that the kernel killed a process because this control group had no memory left.
#[track_caller]
fn assert_oom_killed(death: &Value, cgroup: &Cgroup) {
    let name = cgroup.path.file_name().and_then(|name| name.to_str()).expect("a name");
    assert_killed_for_lack(death, &oom(json!({"scope": "cgroup", "cgroup": format!("/{name}")})));
}

/// Asserts that the kernel killed a process for lack of memory, for which nobody else is named.
#[track_caller]
fn assert_killed_for_lack(death: &Value, oom: &Value) {
    for (field, expected) in [
        ("kind", json!("oom_killed")),
        ("signal", json!(9)),
        ("signal_name", json!("SIGKILL")),
        ("core_dumped", json!(false)),
        ("raw_status", json!(9)),
        ("code", Value::Null),
        ("between", Value::Null),
    ] {
        assert_eq!(death.get(field), Some(&expected), "{field}: {death:#}");
    }
    assert_eq!(death.get("oom"), Some(oom), "{death:#}");
    assert_by_kernel(death, "kernel", None);
}

/// Asserts that the kernel sent the fatal signal: by itself, or because of the process `pid`.
#[track_caller]
fn assert_by_kernel(death: &Value, by: &str, pid: Option<u64>) {
    let sender = death.get("sender").expect("a sender, or null");
    let expected = (Some(&json!("kernel")), Some(&json!(by)), Some(&json!(pid)));
    assert_eq!((sender.get("kind"), sender.get("by"), sender.get("pid")), expected, "{death:#}");
}

/// Takes more memory than its control group has, which ends the puppet.
fn runs_out_of_memory(puppet: Puppet) -> Waited {
    puppet.ends(Verb::TakesMemory, &[TAKEN_BYTES.to_string().as_bytes()])
}

#[test]
fn a_process_that_is_killed_for_lack_of_memory_is_named_so() {
    let (scene, cgroup) = (Scene::new(), Cgroup::limited("oom", LIMIT_BYTES));
    let puppet = scene.fixture.puppet();
    let lived = assert_row(Daemon::shared(), puppet.pid);
    join(&cgroup, puppet.pid);
    assert_killed(runs_out_of_memory(puppet));
    assert_oom_killed(&scene.death(&lived), &cgroup);
}

#[test]
fn the_control_group_at_its_limit_is_named_and_not_the_one_below_it_that_a_process_was_in() {
    let (scene, cgroup) = (Scene::new(), Cgroup::limited("outer", LIMIT_BYTES));
    // With a limit of its own, in a v2 hierarchy, which it does not reach.
    let _ = fs::write(cgroup.path.join("cgroup.subtree_control"), "+memory");
    let below = Cgroup { path: cgroup.path.join("below") };
    fs::create_dir(&below.path).expect("create a cgroup");
    let puppet = scene.fixture.puppet();
    let lived = assert_row(Daemon::shared(), puppet.pid);
    join(&below, puppet.pid);
    assert_killed(runs_out_of_memory(puppet));
    assert_oom_killed(&scene.death(&lived), &cgroup);
}

/// In the test machines alone a process can be killed for a lack of memory of the whole host. Their system has this name.
fn is_test_machine() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=observer-vm"))
}

#[test]
fn a_process_that_is_killed_when_no_control_group_is_at_its_limit_is_named_so() {
    if !is_test_machine() {
        skip!("the kernel would choose among all processes of this machine");
    }
    let scene = Scene::new();
    let mut puppet = scene.fixture.puppet();
    let lived = assert_row(Daemon::shared(), puppet.pid);
    // It counts as if it had all memory twice, so the kernel chooses it among all.
    fs::write(format!("/proc/{}/oom_score_adj", puppet.pid), "1000").expect("be chosen");
    // The kernel kills as it does when memory has run out (`moom_callback`, drivers/tty/sysrq.c).
    fs::write("/proc/sysrq-trigger", "f").expect("have the kernel kill");
    assert_killed(puppet.reap());
    assert_killed_for_lack(&scene.death(&lived), &oom(json!({"scope": "global", "cgroup": null})));
}

#[test]
fn whoever_asked_for_memory_is_not_the_sender_that_killed_the_one_who_had_most() {
    let scene = Scene::new();
    // The victim often ends on another processor before the kernel marks it.
    for turn in 0..share::of(0..TURNS).len() {
        let cgroup = Cgroup::limited(&format!("most{turn}"), LIMIT_BYTES);
        let [mut most, mut other] = [scene.fixture.puppet(), scene.fixture.puppet()];
        let [lived, asked] = [&most, &other].map(|puppet| assert_row(Daemon::shared(), puppet.pid));
        join(&cgroup, most.pid);
        join(&cgroup, other.pid);
        let part = (LIMIT_BYTES * 2 / 3).to_string();
        most.does(Verb::TakesMemory, &[part.as_bytes()]);
        // If the first is not gone in time, this one is killed as well.
        let survives = other.attempt(Verb::TakesMemory, &[part.as_bytes()]).is_ok();
        assert_killed(most.reap());
        assert_oom_killed(&scene.death(&lived), &cgroup);
        if !survives {
            assert_killed(other.reap());
            assert_oom_killed(&scene.death(&asked), &cgroup);
        }
    }
}

#[test]
fn a_process_that_is_killed_with_another_because_of_its_memory_is_named_so() {
    let (scene, cgroup) = (Scene::new(), Cgroup::limited("sharer", LIMIT_BYTES));
    let mut puppet = scene.fixture.puppet();
    let [sharer] = puppet.does(Verb::BearsSharer, &[])[..] else { panic!("one child") };
    let (lived, shared) = (assert_row(Daemon::shared(), puppet.pid), row(sharer));
    join(&cgroup, puppet.pid);
    assert_killed(runs_out_of_memory(puppet));
    assert_oom_killed(&scene.death(&lived), &cgroup);
    assert_oom_killed(&scene.death(&shared), &cgroup);
}

#[test]
fn a_process_that_somebody_kills_while_others_run_out_of_memory_was_killed_by_that() {
    let (scene, cgroup) = (Scene::new(), Cgroup::limited("both", LIMIT_BYTES));
    let (puppet, other) = (scene.fixture.puppet(), scene.fixture.puppet());
    let lived = assert_row(Daemon::shared(), puppet.pid);
    let killed = assert_row(Daemon::shared(), other.pid);
    join(&cgroup, puppet.pid);
    join(&cgroup, other.pid);
    assert_killed(other.killed(libc::SIGKILL));
    assert_killed(runs_out_of_memory(puppet));
    let death = scene.death(&killed);
    assert_eq!((death.get("kind"), death.get("oom")), (Some(&json!("signaled")), Some(&Value::Null)));
    let by = death.get("sender").and_then(|sender| text::u64_any(sender, "pid"));
    assert_eq!(by, Some(std::process::id().into()), "{death:#}");
    assert_oom_killed(&scene.death(&lived), &cgroup);
}

#[test]
fn a_process_that_ends_with_its_pid_namespace_is_killed_by_the_kernel_for_the_first_process() {
    let scene = Scene::new();
    let mut puppet = scene.fixture.puppet();
    let [init] = puppet.does(Verb::BearsNamespace, &[])[..] else { panic!("one child") };
    let [member] = children_of(init)[..] else { panic!("one child of {init}") };
    let (first, second) = (row(init), row(member));
    // SAFETY: a child of our puppet, which has not reaped it.
    assert_eq!(unsafe { libc::kill(i32::try_from(init).expect("a pid"), libc::SIGKILL) }, 0);
    let death = scene.death(&first);
    let sender = death.get("sender").expect("a sender");
    assert_eq!(text::u64_any(sender, "pid"), Some(std::process::id().into()), "{death:#}");
    let death = scene.death(&second);
    assert_eq!(death.get("raw_status"), Some(&json!(9)), "{death:#}");
    assert_by_kernel(&death, "caused", Some(init));
    let sender = death.get("sender").expect("a sender");
    assert_eq!(sender.get("reason"), Some(&json!("namespace_ended")), "{death:#}");
    for field in ["comm", "uid", "start_boottime_ns"] {
        assert_eq!(sender.get(field), first.get(field), "{field}: {death:#}");
    }
    let words = puppet.does(Verb::Wait, &[init.to_string().as_bytes()]);
    assert_eq!(words, [libc::CLD_KILLED as u64, 9, 9]);
}

#[test]
fn a_process_that_the_kernel_kills_for_another_reason_is_gone_from_the_next_answer() {
    let scene = Scene::new();
    let puppet = scene.fixture.puppet();
    let (pid, lived) = (puppet.pid, assert_row(Daemon::shared(), puppet.pid));
    assert_killed(puppet.ends(Verb::UsesUpItsTime, &[b"1", b"1"]));
    // Its death may wait for the mark of a lack of memory, and so does the answer.
    let start = lived.get("start_boottime_ns").and_then(Value::as_str).expect("a start time");
    assert_no_row(Daemon::shared(), pid, start);
    let death = scene.death(&lived);
    let found = (death.get("kind"), death.get("raw_status"), death.get("oom"));
    assert_eq!(found, (Some(&json!("signaled")), Some(&json!(9)), Some(&Value::Null)), "{death:#}");
    assert_by_kernel(&death, "kernel", None);
    assert_eq!(death.pointer("/sender/reason"), Some(&json!("cpu_limit")), "{death:#}");
}

#[test]
fn a_process_with_a_limit_of_cpu_time_that_others_kill_has_not_reached_it() {
    let scene = Scene::new();
    let cgroup = Cgroup::limited("both-limits", LIMIT_BYTES);
    let [killed, victim] = [scene.fixture.puppet(), scene.fixture.puppet()];
    for puppet in [&killed, &victim] {
        let hour = libc::rlimit { rlim_cur: 3600, rlim_max: 3600 };
        let pid = puppet.pid.cast_signed();
        // SAFETY: a valid limit, of our own child, which is not reaped.
        let result = unsafe { libc::prlimit(pid, libc::RLIMIT_CPU, &raw const hour, std::ptr::null_mut()) };
        assert_eq!(result, 0, "limit its time");
    }
    let [of_killed, of_victim] = [&killed, &victim].map(|puppet| assert_row(Daemon::shared(), puppet.pid));
    assert_killed(killed.killed(libc::SIGKILL));
    let death = scene.death(&of_killed);
    let sender = death.get("sender").expect("a sender");
    assert_eq!(text::u64_any(sender, "pid"), Some(std::process::id().into()), "{death:#}");
    assert_eq!(sender.get("reason"), Some(&Value::Null), "{death:#}");
    join(&cgroup, victim.pid);
    assert_killed(runs_out_of_memory(victim));
    let death = scene.death(&of_victim);
    assert_oom_killed(&death, &cgroup);
    assert_eq!(death.pointer("/sender/reason"), Some(&Value::Null), "{death:#}");
}

#[test]
fn whoever_kills_a_control_group_is_named() {
    let (scene, cgroup) = (Scene::new(), Cgroup::new("killed"));
    let kill = cgroup.path.join("cgroup.kill");
    if !kill.exists() {
        skip!("this kernel has no cgroup.kill, which is there from 5.14 on");
    }
    let mut puppet = scene.fixture.puppet();
    let lived = assert_row(Daemon::shared(), puppet.pid);
    join(&cgroup, puppet.pid);
    fs::write(&kill, "1").expect("kill the control group");
    let death = scene.death(&lived);
    assert_eq!(death.get("raw_status"), Some(&json!(9)), "{death:#}");
    assert_by_kernel(&death, "caused", Some(std::process::id().into()));
    assert_eq!(death.pointer("/sender/reason"), Some(&json!("cgroup_kill")), "{death:#}");
    puppet.reap();
}

#[test]
fn a_process_that_a_filter_kills_is_told_from_one_that_somebody_killed() {
    let scene = Scene::new();
    let puppet = scene.fixture.puppet();
    let lived = assert_row(Daemon::shared(), puppet.pid);
    let waited = puppet.ends(Verb::BreaksFilter, &[]);
    assert_eq!(waited.si_status, libc::SIGSYS);
    let death = scene.death(&lived);
    assert_eq!(text::u64_any(&death, "raw_status"), Some(waited.raw_status as u64), "{death:#}");
    assert_eq!(death.get("signal_name"), Some(&json!("SIGSYS")), "{death:#}");
    // Before 5.16 the kernel ended the process without a signal (`__seccomp_filter`, kernel/seccomp.c).
    if death.get("sender") != Some(&Value::Null) {
        assert_by_kernel(&death, "fault", None);
        let reason = death.get("sender").and_then(|sender| sender.get("reason"));
        assert_eq!(reason, Some(&json!("seccomp")), "{death:#}");
    } else {
        assert!(release() < (5, 16), "{death:#}");
    }
}

/// Version of the kernel.
fn release() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("read the kernel's version");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().expect("a number"), numbers.next().expect("a number"))
}

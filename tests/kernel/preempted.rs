//! Tasks that are preempted in the middle of a BPF program while other tasks enter the same program.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use observer_harness::Verb;
use observer_harness::observe::total;
use observer_harness::{Daemon, Fixture, Options, Puppet, fixture, share, tiny};
use serde_json::Value;

/// The number of processes that each of the two makers starts, and in an emulated machine.
const EACH: u64 = 1500;
const EACH_EMULATED: u64 = 500;
const KINDS: [&str; 3] = ["fork", "exec", "exit"];
/// The time that the makers may take on a busy emulated machine.
const LONG: Duration = Duration::from_secs(120);

/// Pins the puppet to the first processor. With `rt` it runs in real time and preempts every other task
/// there.
fn place(puppet: &Puppet, rt: bool) {
    let pid = puppet.pid.cast_signed();
    // SAFETY: the values are plain and outlive the calls; the process belongs to the test.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        assert_eq!(libc::sched_setaffinity(pid, size_of_val(&set), &raw const set), 0, "on one processor");
        let parameters = libc::sched_param { sched_priority: 1 };
        assert!(
            !rt || libc::sched_setscheduler(pid, libc::SCHED_FIFO, &raw const parameters) == 0,
            "in real time"
        );
    }
}

fn of(status: &Value, counters: &str) -> u64 {
    KINDS.iter().filter_map(|kind| status.get(counters)?.get(kind)?.as_u64()).sum()
}

#[test]
fn births_execs_and_deaths_are_reported_while_another_task_is_preempted_in_the_same_program() {
    let (daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let program = fixture.dir().join("tiny");
    fixture.install(&tiny::image(), &program);
    let dir = fixture.mkdir("a");
    let mut makers = [fixture.puppet(), fixture.puppet()];
    for (maker, rt) in makers.iter_mut().zip([false, true]) {
        place(maker, rt);
        maker.patience(LONG);
    }
    let before = daemon.status();
    let each = if share::is_emulated() { EACH_EMULATED } else { EACH };
    let (count, dir) = (each.to_string(), dir.as_os_str().as_bytes());
    // One maker never pauses; the other preempts it again and again and starts a child.
    for (maker, pause_us) in makers.iter_mut().zip(["0", "300"]) {
        maker.request(
            Verb::Storm,
            &[program.as_os_str().as_bytes(), dir, count.as_bytes(), dir, dir, pause_us.as_bytes()],
        );
    }
    for maker in &mut makers {
        let result = maker.answer(Verb::Storm).expect("it goes to its end");
        assert_eq!(
            result.first().map(|word| fixture::number(word)),
            Some(each),
            "every process ran and exited"
        );
    }
    let after = observer_harness::eventually("no gap is open", LONG, || {
        let result = daemon.observer(&["status", "--json"]);
        if result.code == Some(0) { Ok(result.json()) } else { Err(format!("{result:?}")) }
    });
    let received = of(&after, "events_by_kind") - of(&before, "events_by_kind");
    let (second, lost) = (of(&after, "preempted_by_kind"), of(&after, "drops_by_kind"));
    println!("received {received}, of them by the second program {second}; lost {lost}");
    assert!(received + lost >= 2 * each * KINDS.len() as u64, "what is lost is counted: {after:#}");
    // Records are lost only when two tasks were preempted at once, one in either program.
    assert!(lost <= second / 10, "skipped and lost: {after:#}");
    assert_eq!(total(&before, "drops_by_kind"), 0);
}

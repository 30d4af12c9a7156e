//! The audit: it finds what no hook reported, and nothing else, whatever other programs do meanwhile.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use observer_harness::{Daemon, share};
use serde_json::Value;

use crate::scene::alone;

/// Audits that are made while programs start.
const AUDITS: usize = 300;
/// Threads that start programs: more than there are processors, so that some are stopped in the middle of an exec.
const LOOPS: usize = 8;
/// Others go first, so that one in the middle of an exec stays there for a while.
const NICE: libc::c_int = 10;

/// Threads that start one program after the other as the C library does it, by vfork.
struct ExecLoops {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl ExecLoops {
    fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let ended = Arc::clone(&ended);
            thread::spawn(move || {
                // SAFETY: a system call with integers, which concerns this thread.
                let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
                assert_eq!(set, 0, "let others go first");
                while !ended.load(Ordering::Relaxed) {
                    assert!(Command::new("/bin/true").status().expect("start a program").success());
                }
            })
        };
        let threads = (0..LOOPS).map(start).collect();
        Self { ended, threads }
    }
}

impl Drop for ExecLoops {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A failed thread has printed why.
            let failed = thread.join().is_err();
            assert!(!failed || thread::panicking(), "programs start");
        }
    }
}

fn drift(audit: &Value) -> &[Value] {
    audit.get("drift").and_then(Value::as_array).expect("an audit has its drift")
}

#[test]
fn an_audit_in_the_middle_of_execs_finds_no_difference() {
    let _alone = alone();
    let daemon = Daemon::shared();
    let _loops = ExecLoops::start();
    for number in share::of(0..AUDITS) {
        let (audit, _) = daemon.audit();
        assert!(drift(&audit).is_empty(), "audit {number}: {audit:#}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_audit_finds_what_no_hook_reported() {
    use observer_harness::watch::SOON;
    use observer_harness::{Fixture, Options, Verb, eventually, inject};

    let _alone = alone();
    let flags = vec!["--canary-interval".into(), "1h".into()];
    let daemon = Daemon::start(&Options { flags, ..Options::default() });
    let fixture = Fixture::new();
    let mut puppet = fixture.puppet();
    assert!(daemon.row(puppet.pid).is_some(), "it is in the map");
    inject::detach_programs(daemon.pid());
    let mut names = (0..).map(|number| format!("unseen{number}"));
    eventually("the audit finds the other name", SOON, || {
        let name = names.next().expect("a name");
        puppet.does(Verb::Setname, &[name.as_bytes()]);
        // A pass that was due reads the name before.
        let (audit, code) = daemon.audit();
        let is_it = |row: &&Value| row.get("pid").and_then(Value::as_u64) == Some(puppet.pid.into());
        let mut found = drift(&audit).iter().filter(is_it).map(|row| (&row["field"], &row["kernel"]));
        match found.next() {
            Some(found) if found == (&"comm".into(), &name.as_str().into()) && code == Some(1) => Ok(()),
            _ => Err(format!("{code:?}: {audit:#}")),
        }
    });
}

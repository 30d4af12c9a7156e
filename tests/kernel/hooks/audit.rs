//! The audit: it finds what no hook reported, and nothing else, whatever other programs do meanwhile.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use observer_harness::btf::{WitnessBtf, kind};
use observer_harness::watch::SOON;
use observer_harness::{Daemon, Fixture, eventually, share, skip};
use serde_json::Value;

use crate::scene::alone;

/// Audits that are made while programs start.
const AUDITS: usize = 300;
/// The same of all machines together, each of which has one processor, so that most audits find programs in the middle of an exec.
const AUDITS_EMULATED: usize = 100;
/// Threads that start programs: more than there are processors, so that some are stopped in the middle of an exec.
const LOOPS: usize = 8;
/// Others go first, so that one in the middle of an exec stays there for a while.
const NICE: libc::c_int = 10;
/// Audits, one after the other, at which the same process is within an exec.
const IN_A_ROW: u32 = 10;

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
    let audits = if share::is_emulated() { AUDITS_EMULATED } else { AUDITS };
    for number in share::of(0..audits) {
        let (audit, _) = daemon.audit();
        assert!(drift(&audit).is_empty(), "audit {number}: {audit:#}");
    }
}

/// Number of the command, include/uapi/asm-generic/fcntl.h.
const F_SETSIG: libc::c_int = 10;

/// A lease on a program (fcntl(2)): whoever opens it waits until this is dropped, or for 45 s (`lease-break-time`, proc(5)).
struct Leased {
    file: File,
}

impl Leased {
    fn new(path: &Path) -> Self {
        // Not for writing, which would have the exec fail.
        let file = File::open(path).expect("open the program");
        // SAFETY: system calls with integers, on our own file. The default action of SIGURG is none.
        unsafe {
            assert_eq!(libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG), 0, "choose the signal");
            assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK), 0, "take a lease");
        }
        Self { file }
    }

    /// Whether somebody waits for it.
    fn is_waited_for(&self) -> bool {
        // SAFETY: a system call with integers, on our own file.
        let lease = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLEASE) };
        lease != libc::F_WRLCK
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        // Closing it would not do: the child that waits has it open as well.
        // SAFETY: a system call with integers, on our own file.
        let given_up = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        assert!(given_up == 0 || thread::panicking(), "give the lease up");
    }
}

/// Whether this kernel says which processes are within an exec.
fn tells_execs() -> bool {
    let btf = WitnessBtf::of_kernel();
    btf.named(kind::STRUCT, "task_struct").iter().any(|&id| btf.member(id, "in_execve").is_some())
}

#[test]
fn an_audit_says_that_it_could_not_compare_a_process_whose_exec_hangs() {
    if !tells_execs() {
        skip!("this kernel does not say which processes are within an exec");
    }
    let _alone = alone();
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let [program, script] = ["program", "script"].map(|name| fixture.dir().join(name));
    fs::copy("/bin/true", &program).expect("copy a program");
    // The kernel opens the interpreter of a script within the exec.
    fs::write(&script, format!("#!{}\n", program.display())).expect("write a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("make it executable");
    let lease = Leased::new(&program);
    let child = thread::spawn(move || Command::new(&script).status().expect("start the script"));
    // Until then the child is a copy of this process, with all that is open here: a pipe that is made before does not end.
    eventually("its exec waits", SOON, || if lease.is_waited_for() { Ok(()) } else { Err("not yet".into()) });
    let executing = |audit: &Value| audit.get("executing").and_then(Value::as_u64).expect("a number");
    // Other programs on this machine are within an exec for a moment, and not at each audit.
    let mut in_a_row = 0;
    eventually("the audit says that it could not compare it", SOON, || {
        let (audit, code) = daemon.audit();
        assert!(drift(&audit).is_empty() && code == Some(0), "{code:?}: {audit:#}");
        in_a_row = if executing(&audit) > 0 { in_a_row + 1 } else { 0 };
        // Nothing else runs in a test machine, where an audit may take seconds, and the lease is broken after 45.
        let wanted = if share::is_emulated() { 3 } else { IN_A_ROW };
        if in_a_row >= wanted { Ok(()) } else { Err(audit.to_string()) }
    });
    let text = daemon.observer(&["audit"]).text().to_owned();
    assert!(text.contains("in the middle of an exec"), "{text}");
    drop(lease);
    assert!(child.join().expect("the script ran").success());
    eventually("nobody is in the middle of an exec", SOON, || {
        let (audit, _) = daemon.audit();
        if executing(&audit) == 0 { Ok(()) } else { Err(audit.to_string()) }
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_audit_finds_what_no_hook_reported() {
    use observer_harness::{Options, Verb, inject};

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

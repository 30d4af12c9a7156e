//! Who sent the fatal signal, and which polite signal came before it, compared with what the sender did.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use observer_harness::fixture::PuppetOptions;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Pty, Verb, Watch, text};
use serde_json::{Value, json};

/// A process that watches deaths, and a place for puppets.
struct Scene {
    fixture: Fixture,
    watch: Watch,
}

impl Scene {
    fn new() -> Self {
        Self { fixture: Fixture::new(), watch: Watch::all(Daemon::shared()) }
    }

    /// The death of a puppet, which `end` has ended.
    fn death(&self, lived: &Value) -> Value {
        self.watch.end_of_row(lived).death().clone()
    }
}

fn sender(death: &Value) -> &Value {
    death.get("sender").expect("a sender, or null")
}

/// Asserts that this process sent the signal, in this way.
#[track_caller]
fn assert_by_this(sender: &Value, by: &str) {
    let own = assert_row(Daemon::shared(), std::process::id());
    for field in ["pid", "start_boottime_ns", "comm", "uid"] {
        assert_eq!(sender.get(field), own.get(field), "{field} of {sender:#}");
    }
    assert_eq!(
        (sender.get("kind"), sender.get("by")),
        (Some(&json!("user")), Some(&json!(by))),
        "{sender:#}"
    );
}

/// Asserts that the kernel sent the signal in this way and for this reason: by itself, or for something that the process `pid`
/// did.
#[track_caller]
fn assert_by_kernel(sender: &Value, by: &str, reason: Option<&str>, pid: Option<u32>) {
    let expected = (Some(&json!("kernel")), Some(&json!(by)), Some(&json!(pid)));
    assert_eq!((sender.get("kind"), sender.get("by"), sender.get("pid")), expected, "{sender:#}");
    assert_eq!(sender.get("reason"), Some(&json!(reason)), "{sender:#}");
}

fn pidfd_send(pid: u32, signal: libc::c_int) -> libc::c_long {
    // SAFETY: plain system calls; the descriptor is new and ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        let fd = OwnedFd::from_raw_fd(fd as i32);
        libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, 0, 0)
    }
}

fn queue(pid: u32, signal: libc::c_int) -> libc::c_long {
    let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
    // SAFETY: integers.
    unsafe { libc::sigqueue(pid.cast_signed(), signal, value).into() }
}

fn to_thread(pid: u32, signal: libc::c_int) -> libc::c_long {
    // SAFETY: integers.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, signal) }
}

#[test]
fn the_way_in_which_a_process_sent_the_signal_is_told() {
    let scene = Scene::new();
    for (send, signal, by) in [
        (queue as fn(u32, libc::c_int) -> libc::c_long, libc::SIGUSR1, "sigqueue"),
        (to_thread, libc::SIGTERM, "tgkill"),
        (pidfd_send, libc::SIGKILL, "kill"),
    ] {
        let mut puppet = scene.fixture.puppet();
        let lived = assert_row(Daemon::shared(), puppet.pid);
        assert_eq!(send(puppet.pid, signal), 0, "{}", std::io::Error::last_os_error());
        let death = scene.death(&lived);
        assert_eq!(text::u64_any(&death, "signal"), Some(signal as u64), "{death:#}");
        assert_by_this(sender(&death), by);
        puppet.reap();
    }
}

#[test]
fn a_signal_that_a_thread_sends_is_by_its_process() {
    let scene = Scene::new();
    let mut puppet = scene.fixture.puppet();
    let lived = assert_row(Daemon::shared(), puppet.pid);
    let pid = puppet.pid.cast_signed();
    let sender_of = std::thread::Builder::new().name("other-name".into());
    // SAFETY: our own child, which is not reaped.
    let thread = sender_of.spawn(move || unsafe { (libc::gettid(), libc::kill(pid, libc::SIGKILL)) });
    let (thread, sent) = thread.expect("a thread").join().expect("it ends");
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    assert_ne!(thread, std::process::id().cast_signed(), "it is not the leader");
    assert_by_this(sender(&scene.death(&lived)), "kill");
    puppet.reap();
}

#[test]
fn a_sender_has_its_own_real_user_whoever_the_target_belongs_to() {
    let scene = Scene::new();
    let of_user = |uid| scene.fixture.cast(&PuppetOptions { uid: Some(uid), ..PuppetOptions::default() });
    let mut killed = of_user(3001);
    let lived = assert_row(Daemon::shared(), killed.pid);
    assert!(killed.signal(libc::SIGTERM), "root may");
    assert_by_this(sender(&scene.death(&lived)), "kill");
    killed.reap();
    // Real, effective and saved user of the sender, and the target's.
    for ([real, effective, saved], of_target) in
        [([3001, 3002, 3002], 3002), ([3001, 3001, 3001], 3001), ([3001, 0, 0], 3002), ([3001, 0, 0], 0)]
    {
        let mut killer = scene.fixture.puppet();
        killer.does(
            Verb::Setresuid,
            &[real, effective, saved].map(|uid| uid.to_string()).each_ref().map(|it| it.as_bytes()),
        );
        let mut target = of_user(of_target);
        let (by, lived) =
            (assert_row(Daemon::shared(), killer.pid), assert_row(Daemon::shared(), target.pid));
        killer.does(Verb::Kills, &[target.pid.to_string().as_bytes(), b"15"]);
        let death = scene.death(&lived);
        for field in ["pid", "start_boottime_ns", "comm"] {
            assert_eq!(sender(&death).get(field), by.get(field), "{field}: {death:#}");
        }
        let found = (text::u64_any(sender(&death), "uid"), sender(&death).get("by"));
        assert_eq!(found, (Some(real), Some(&json!("kill"))), "{death:#}");
        assert_eq!(target.reap().raw_status, libc::SIGTERM);
    }
}

#[test]
fn a_polite_signal_that_was_handled_or_ignored_is_told_with_its_time() {
    let scene = Scene::new();
    for verb in [Verb::Counts, Verb::Ignore] {
        let mut puppet = scene.fixture.puppet();
        puppet.does(verb, &[b"15"]);
        let lived = assert_row(Daemon::shared(), puppet.pid);
        // SAFETY: our own child, which is not reaped.
        assert_eq!(unsafe { libc::kill(puppet.pid.cast_signed(), libc::SIGTERM) }, 0);
        puppet.killed(libc::SIGKILL);
        let death = scene.death(&lived);
        assert_by_this(sender(&death), "kill");
        assert_polite(&death);
    }
}

#[test]
fn sigterm_is_told_where_the_same_sender_sent_sighup_with_it() {
    let scene = Scene::new();
    for verb in [Verb::Counts, Verb::Ignore] {
        let mut puppet = scene.fixture.puppet();
        for signal in [b"15".as_slice(), b"1"] {
            puppet.does(verb, &[signal]);
        }
        let lived = assert_row(Daemon::shared(), puppet.pid);
        // As systemd does for SendSIGHUP=yes, which scopes of logins have.
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: our own child, which is not reaped.
            assert_eq!(unsafe { libc::kill(puppet.pid.cast_signed(), signal) }, 0);
        }
        puppet.killed(libc::SIGKILL);
        assert_polite(&scene.death(&lived));
    }
}

/// Asserts that this process had sent SIGTERM before.
#[track_caller]
fn assert_polite(death: &Value) {
    let polite = death.get("polite_signal").expect("a polite signal");
    assert_eq!(polite.get("signal_name"), Some(&json!("SIGTERM")), "{death:#}");
    assert_by_this(polite.get("sender").expect("its sender"), "kill");
    let at = |object: &Value| object.get("at").and_then(Value::as_str).expect("a time").to_owned();
    assert!(at(polite) <= at(death), "{death:#}");
}

#[test]
fn a_polite_signal_that_the_kernel_kept_from_the_first_process_of_a_namespace_is_told() {
    let scene = Scene::new();
    let mut parent = scene.fixture.puppet();
    let [init] = parent.does(Verb::BearsNamespace, &[])[..] else { panic!("one child") };
    let lived = assert_row(Daemon::shared(), u32::try_from(init).expect("a pid"));
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        // SAFETY: a child of our puppet, which has not reaped it.
        assert_eq!(unsafe { libc::kill(i32::try_from(init).expect("a pid"), signal) }, 0);
    }
    let death = scene.death(&lived);
    assert_by_this(sender(&death), "kill");
    assert_polite(&death);
    parent.does(Verb::Wait, &[init.to_string().as_bytes()]);
}

#[test]
fn the_kernel_is_the_sender_of_what_nobody_sent() {
    let scene = Scene::new();
    let piped = scene.fixture.puppet();
    let (pid, lived) = (piped.pid, assert_row(Daemon::shared(), piped.pid));
    piped.ends(Verb::WritesToClosedPipe, &[]);
    assert_by_kernel(sender(&scene.death(&lived)), "caused", Some("closed_pipe"), Some(pid));
}

#[test]
fn a_fault_is_told_with_its_code_and_where_the_address_is() {
    let scene = Scene::new();
    // Of a general protection fault, such as a privileged instruction is, the processor gives no address (SI_KERNEL).
    let cases = [("null", 1, Some("null_page")), ("user", 1, Some("user")), ("kernel", 1, Some("kernel"))];
    let privileged = cfg!(target_arch = "x86_64").then_some(("privileged", 0x80, None));
    for (how, code, address) in cases.into_iter().chain(privileged) {
        let fault = scene.fixture.puppet();
        let lived = assert_row(Daemon::shared(), fault.pid);
        let waited = fault.ends(Verb::Faults, &[how.as_bytes()]);
        assert_eq!(waited.si_status, libc::SIGSEGV, "{how}");
        let death = scene.death(&lived);
        assert_by_kernel(sender(&death), "fault", None, None);
        assert_eq!(text::u64_any(sender(&death), "code"), Some(code), "{how}: {death:#}");
        assert_eq!(sender(&death).get("address"), Some(&json!(address)), "{how}: {death:#}");
    }
}

#[test]
fn a_limit_that_a_process_reached_is_enforced_by_the_kernel() {
    let scene = Scene::new();
    let file = scene.fixture.dir().join("file");
    let path = file.to_str().expect("a path of text");
    // The hard limit of CPU time, which is SIGKILL, is far away.
    for (verb, args, signal, by, reason) in [
        (Verb::UsesUpItsTime, ["1", "60"], libc::SIGXCPU, "kernel", "cpu_limit"),
        (Verb::WritesTooMuch, [path, ""], libc::SIGXFSZ, "caused", "file_size_limit"),
    ] {
        let puppet = scene.fixture.puppet();
        let (pid, lived) = (puppet.pid, assert_row(Daemon::shared(), puppet.pid));
        let waited = puppet.ends(verb, &args.map(str::as_bytes));
        assert_eq!((waited.si_code, waited.si_status), (libc::CLD_KILLED, signal), "{verb:?}");
        let death = scene.death(&lived);
        assert_eq!(death.get("raw_status"), Some(&json!(waited.raw_status)), "{death:#}");
        assert_by_kernel(sender(&death), by, Some(reason), (by == "caused").then_some(pid));
    }
}

#[test]
fn a_hang_up_of_the_terminal_is_by_the_kernel() {
    let (scene, pty) = (Scene::new(), Pty::open());
    let mut puppet = scene.fixture.cast(&PuppetOptions { pty: Some(&pty), ..PuppetOptions::default() });
    let lived = assert_row(Daemon::shared(), puppet.pid);
    drop(pty);
    let death = scene.death(&lived);
    assert_eq!(death.get("signal_name"), Some(&json!("SIGHUP")), "{death:#}");
    assert_by_kernel(sender(&death), "kernel", Some("hang_up"), None);
    puppet.reap();
}

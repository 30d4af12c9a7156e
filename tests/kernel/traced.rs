//! Deaths of processes that another one traces, compared with what wait(2) returns, and with what the tracer did.

use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Puppet, Verb, Watch, text};
use serde_json::{Value, json};

/// `PTRACE_O_EXITKILL`, as an argument.
const EXITKILL: &[u8] = b"1048576";

/// A process, and its parent, which traces it.
struct Scene {
    watch: Watch,
    tracer: Puppet,
    tracee: Puppet,
    /// Its row before its end.
    lived: Value,
}

impl Scene {
    fn new(fixture: &Fixture) -> Self {
        let mut tracer = fixture.puppet();
        let (tracee, _) = tracer.bears(fixture, Verb::Fork, &[]);
        let lived = assert_row(Daemon::shared(), tracee.pid);
        tracer.does(Verb::Traces, &[tracee.pid.to_string().as_bytes(), b"0"]);
        Self { watch: Watch::all(Daemon::shared()), tracer, tracee, lived }
    }

    /// Sends a signal to the tracee, in the place of which its tracer delivers another one; 0: none.
    fn sends(&mut self, signal: i32, delivered: i32) {
        let pid = self.tracee.pid.to_string();
        self.tracer.request(Verb::Delivers, &[pid.as_bytes(), delivered.to_string().as_bytes()]);
        assert!(self.tracee.signal(signal), "it is there");
        let stopped = self.tracer.answer(Verb::Delivers).expect("it stopped for the signal");
        assert_eq!(stopped, [signal.to_string().into_bytes()]);
    }

    /// The certificate, which has the status that the tracer, its parent, gets.
    #[track_caller]
    fn death(&mut self) -> Value {
        let words = self.tracer.does(Verb::Wait, &[self.tracee.pid.to_string().as_bytes()]);
        let [_, _, raw_status] = words[..] else { panic!("a status: {words:?}") };
        let death = self.watch.end_of_row(&self.lived).death();
        assert_eq!(death.get("raw_status"), Some(&json!(raw_status)), "{death:#}");
        assert_eq!(self.watch.count(|frame| frame.ends(&self.lived)), 1, "one death");
        death
    }
}

/// pid of who sent the fatal signal; `None`: not known.
fn sender_pid(death: &Value) -> Option<u64> {
    text::u64_any(death.get("sender").expect("a sender, or null"), "pid")
}

/// Asserts that this process sent SIGTERM, which did not end it.
#[track_caller]
fn assert_polite(death: &Value) {
    let polite = death.get("polite_signal").expect("a polite signal, or null");
    assert_eq!(polite.get("signal"), Some(&json!(libc::SIGTERM)), "{death:#}");
    assert_eq!(sender_pid(polite), Some(std::process::id().into()), "{death:#}");
}

#[test]
fn a_signal_that_the_tracer_passes_on_is_by_whoever_sent_it() {
    let fixture = Fixture::new();
    for signal in [libc::SIGTERM, libc::SIGUSR1] {
        let mut scene = Scene::new(&fixture);
        scene.sends(signal, signal);
        let death = scene.death();
        assert_eq!(death.get("signal"), Some(&json!(signal)), "{death:#}");
        assert_eq!(sender_pid(&death), Some(std::process::id().into()), "{death:#}");
        assert_eq!(death.get("polite_signal"), Some(&Value::Null), "{death:#}");
    }
}

#[test]
fn a_signal_that_the_tracer_delivers_instead_is_not_by_whoever_sent_the_first() {
    let fixture = Fixture::new();
    for delivered in [libc::SIGKILL, libc::SIGINT, libc::SIGUSR1] {
        let mut scene = Scene::new(&fixture);
        scene.sends(libc::SIGTERM, delivered);
        let death = scene.death();
        assert_eq!(death.get("signal"), Some(&json!(delivered)), "{death:#}");
        let sender = sender_pid(&death);
        assert!(
            sender.is_none_or(|pid| pid == u64::from(scene.tracer.pid)),
            "unknown, or the tracer: {death:#}"
        );
        assert_polite(&death);
    }
}

#[test]
fn a_traced_process_that_exits_or_is_killed_has_the_status_of_wait() {
    let fixture = Fixture::new();
    let mut scene = Scene::new(&fixture);
    scene.tracee.request(Verb::Exit, &[b"7"]);
    let death = scene.death();
    assert_eq!((death.get("code"), sender_pid(&death)), (Some(&json!(7)), None), "{death:#}");

    // The tracer keeps the polite signal from it.
    let mut scene = Scene::new(&fixture);
    scene.sends(libc::SIGTERM, 0);
    assert!(scene.tracee.signal(libc::SIGKILL), "it lives");
    let death = scene.death();
    assert_eq!(sender_pid(&death), Some(std::process::id().into()), "{death:#}");
    assert_polite(&death);
}

#[test]
fn a_process_that_ends_with_its_tracer_is_killed_by_the_kernel_for_the_tracer() {
    let (daemon, fixture) = (Daemon::shared(), Fixture::new());
    let watch = Watch::all(daemon);
    let (mut parent, mut tracer) = (fixture.puppet(), fixture.puppet());
    let (tracee, _) = parent.bears(&fixture, Verb::Fork, &[]);
    let pid = tracee.pid.to_string();
    let (lived, of_tracer) = (assert_row(daemon, tracee.pid), assert_row(daemon, tracer.pid));
    tracer.does(Verb::Traces, &[pid.as_bytes(), EXITKILL]);
    tracer.ends(Verb::Exit, &[b"0"]);
    assert_eq!(parent.does(Verb::Wait, &[pid.as_bytes()]), [libc::CLD_KILLED as u64, 9, 9]);
    let death = watch.end_of_row(&lived).death();
    assert_eq!(death.get("raw_status"), Some(&json!(9)), "{death:#}");
    let sender = death.get("sender").expect("a sender, or null");
    for (field, expected) in [("kind", "kernel"), ("by", "caused"), ("reason", "tracer_ended")] {
        assert_eq!(sender.get(field), Some(&json!(expected)), "{field}: {death:#}");
    }
    for field in ["pid", "start_boottime_ns", "comm", "uid"] {
        assert_eq!(sender.get(field), of_tracer.get(field), "{field}: {death:#}");
    }
    assert_eq!(watch.count(|frame| frame.ends(&lived)), 1, "one death");
}

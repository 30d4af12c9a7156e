//! The process that is the canary, and the thread that starts it and waits for its end: neither a slow exec nor a child that
//! hangs delays the event loop.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

/// The argument with which this program is a canary: it ends at once.
pub const ARGUMENT: &str = "canary";
/// The directory that the canary changes to before its exec.
pub const DIRECTORY: &str = "/sys/kernel/btf";
/// The canary's exit code: a number that no field has by chance.
pub const EXIT_CODE: u8 = 86;

/// What became of the canary that was ordered last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryOutcome {
    /// It waits for the one before, is being started, or runs.
    Runs,
    /// It ended as it should.
    Ended,
    /// The system did not start it, for this reason.
    NotStarted(String),
    /// It did not end as it should.
    Failed(String),
}

impl CanaryOutcome {
    /// Why it could not do what it is for.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Runs | Self::Ended => None,
            Self::NotStarted(why) | Self::Failed(why) => Some(why),
        }
    }
}

/// Starts canaries, one at a time.
pub struct CanaryStarter {
    orders: SyncSender<()>,
    outcome: Arc<Mutex<CanaryOutcome>>,
}

impl CanaryStarter {
    /// Starts the thread. It ends once the starter is dropped and the last canary has ended.
    pub fn new() -> io::Result<Self> {
        // An order that comes while the last canary has not ended waits for that.
        let (orders, received) = sync_channel(1);
        let outcome = Arc::new(Mutex::new(CanaryOutcome::Ended));
        let shared = Arc::clone(&outcome);
        thread::Builder::new().name("canary".into()).spawn(move || serve(&received, &shared))?;
        Ok(Self { orders, outcome })
    }

    /// Has a canary started. Nothing is waited for.
    pub fn start(&self) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = CanaryOutcome::Runs;
        // If an order waits already, that one starts it.
        let _ = self.orders.try_send(());
    }

    /// What became of the canary that was ordered last.
    pub fn outcome(&self) -> CanaryOutcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(orders: &Receiver<()>, outcome: &Mutex<CanaryOutcome>) {
    for () in orders {
        let result = run();
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = result;
    }
}

/// Starts a canary and waits for its end.
fn run() -> CanaryOutcome {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("observer").arg(ARGUMENT).current_dir(DIRECTORY).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = match command.status() {
        Ok(status) => status,
        Err(error) => return CanaryOutcome::NotStarted(format!("it could not be started ({error})")),
    };
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(EXIT_CODE) => CanaryOutcome::Ended,
        (_, Some(signal)) => CanaryOutcome::Failed(format!("signal {signal} ended it")),
        _ => CanaryOutcome::Failed(format!("it ended with {status}")),
    }
}

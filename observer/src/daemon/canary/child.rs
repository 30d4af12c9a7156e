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

/// Starts canaries, one at a time.
pub struct CanaryStarter {
    orders: SyncSender<()>,
    failure: Arc<Mutex<Option<String>>>,
}

impl CanaryStarter {
    /// Starts the thread. It ends once the starter is dropped and the last canary has ended.
    pub fn new() -> io::Result<Self> {
        // An order that comes while the last canary has not ended waits for that.
        let (orders, received) = sync_channel(1);
        let failure = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&failure);
        thread::Builder::new().name("canary".into()).spawn(move || serve(&received, &shared))?;
        Ok(Self { orders, failure })
    }

    /// Has a canary started. Nothing is waited for.
    pub fn start(&self) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // If an order waits already, that one starts it.
        let _ = self.orders.try_send(());
    }

    /// Why the canary that was ordered last could not do what it is for; `None`: it could, or is not through.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(orders: &Receiver<()>, failure: &Mutex<Option<String>>) {
    for () in orders {
        if let Err(why) = run() {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
    }
}

/// Starts a canary and waits for its end.
fn run() -> Result<(), String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("observer").arg(ARGUMENT).current_dir(DIRECTORY).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().map_err(|error| format!("it could not be started ({error})"))?;
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(EXIT_CODE) => Ok(()),
        (_, Some(signal)) => Err(format!("signal {signal} ended it")),
        _ => Err(format!("it ended with {status}")),
    }
}

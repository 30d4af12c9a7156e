//! The signals that `observer top` handles: it gives the terminal back before it ends or stops.

use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, SigSet, Signal, raise, signal};

use super::screen;

/// Signals that end the program.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
/// How long the program may take to end in order. A terminal that takes no output can hold it up for ever.
const END_PATIENCE: Duration = Duration::from_secs(1);

fn handled() -> SigSet {
    ENDING.into_iter().chain([Signal::SIGTSTP, Signal::SIGCONT]).collect()
}

/// Has every thread that is started from here on leave these signals to one thread, which sends each of them as `wake`. Where
/// nobody acts on one that ends the program, that thread ends it.
pub(super) fn receive<T: Send + 'static>(out: SyncSender<T>, wake: fn(Signal) -> T) -> anyhow::Result<()> {
    let set = handled();
    set.thread_block().context("cannot block signals; report this")?;
    let wait = move || {
        while let Ok(signal) = set.wait() {
            let is_end = ENDING.contains(&signal);
            if !is_end {
                let _ = out.send(wake(signal));
                continue;
            }
            let _ = out.try_send(wake(signal));
            thread::sleep(END_PATIENCE);
            screen::give_back();
            die_of(signal);
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .context("cannot start a thread; see `ulimit -u`")?;
    Ok(())
}

/// Ends this process as `ending` ends those that do not handle it.
pub(super) fn die_of(ending: Signal) -> ! {
    // SAFETY: the default action runs no code of ours.
    let restored = unsafe { signal(ending, SigHandler::SigDfl) };
    if restored.is_ok() {
        let set: SigSet = [ending].into_iter().collect();
        let _ = set.thread_unblock();
        let _ = raise(ending);
    }
    std::process::exit(128_i32.saturating_add(ending as i32))
}

/// Stops this process until it is continued, as Ctrl-Z stops others. A process that nobody could continue is not stopped by
/// the kernel.
pub(super) fn stop() {
    let set: SigSet = [Signal::SIGTSTP].into_iter().collect();
    if set.thread_unblock().is_ok() {
        let _ = raise(Signal::SIGTSTP);
        let _ = set.thread_block();
    }
}

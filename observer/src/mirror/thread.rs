//! The mirror's thread. It has a runtime of its own: whatever a database, a name server or a directory of users does, the loop
//! that drains the ring does not wait for it.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::driver;
use super::feed::{MirrorFeed, MirrorOptions};
use super::status::SharedStatus;
use crate::api::status::MirrorStatus;

/// How long the daemon's end waits for the mirror.
const STOP_WAIT: Duration = Duration::from_millis(1500);
/// Threads for look-ups of names.
const LOOKUP_THREADS_MAX: usize = 4;

/// A running mirror. Dropping it delivers what is committed, for a moment, and ends presence.
pub struct Mirror {
    status: SharedStatus,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Starts the thread; it waits for nothing.
    pub fn start(options: MirrorOptions, feed: MirrorFeed) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS_MAX)
            .build()
            .context("cannot start the mirror's event loop; raise the limit of open files")?;
        let status = SharedStatus::new(MirrorStatus::connecting(feed.identity.host_id));
        let (stop, stopping) = watch::channel(false);
        let its_status = status.clone();
        let thread = std::thread::Builder::new()
            .name("mirror".into())
            .spawn(move || {
                runtime.block_on(driver::run(options, feed, its_status, stopping));
                // A look-up that hangs must not keep the process.
                runtime.shutdown_background();
            })
            .context("cannot start the mirror's thread; raise the limit of processes (ulimit -u)")?;
        Ok(Self { status, stop, thread: Some(thread) })
    }

    /// How it stands. Does not wait for the thread.
    pub fn status(&self) -> MirrorStatus {
        self.status.read()
    }

    /// Ends it as dropping does, but waits no longer than `deadline`.
    pub fn stop_by(mut self, deadline: Instant) {
        self.stop(deadline.min(Instant::now() + STOP_WAIT));
    }

    fn stop(&mut self, deadline: Instant) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop(Instant::now() + STOP_WAIT);
    }
}

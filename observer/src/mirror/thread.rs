//! The mirror's thread: connection after connection, for ever. It has a runtime of its own: whatever a database, a name
//! server or a directory of users does, the loop that drains the ring does not wait for it.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::deliver::Delivery;
use super::rows::Shape;
use super::source::Feed;
use super::sqlstate::{Trouble, Verdict};
use super::status::Shared;
use super::target::DatabaseUrl;
use crate::api::status::MirrorStatus;
use crate::text::bytes::to_line;

/// Between two attempts, doubled each time from the first to the second, and up to as much again at random: a server
/// that comes back is not met by all hosts at once.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(15);
/// The least, where a person has to act first or another daemon to end.
const STOPPED_WAIT: Duration = Duration::from_secs(15);
/// A connection that lasted this long was no failure.
const LASTED: Duration = Duration::from_secs(60);
/// How long the daemon's end waits for what can still be delivered.
const STOP_WAIT: Duration = Duration::from_millis(1500);
/// How long it tries.
const FINISH_WAIT: Duration = Duration::from_millis(1000);
/// Threads for look-ups of names.
const LOOKUP_THREADS_MAX: usize = 4;
/// Bytes of an error that are kept.
const ERROR_BYTES_MAX: usize = 1000;

/// What to mirror where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database.
    pub database: DatabaseUrl,
    /// All arguments of processes, not only the first.
    pub argv: bool,
}

/// A running mirror. Dropping it delivers what is committed, for a moment, and ends presence.
pub struct Mirror {
    status: Shared,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Starts the thread; it waits for nothing.
    pub fn start(options: Options, feed: Feed) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS_MAX)
            .build()
            .context("cannot start the mirror's event loop; raise the limit of open files")?;
        let status = Shared::default();
        let host_id = feed.identity.host_id.to_string();
        status.update(|status| {
            status.state = "connecting".into();
            status.host_id = Some(host_id);
        });
        let (stop, stopping) = watch::channel(false);
        let its_status = status.clone();
        let thread = std::thread::Builder::new()
            .name("mirror".into())
            .spawn(move || {
                runtime.block_on(run(options, feed, its_status, stopping));
                // A look-up that hangs must not keep the process.
                runtime.shutdown_background();
            })
            .context("cannot start the mirror's thread; raise the limit of processes (ulimit -u)")?;
        Ok(Self { status, stop, thread: Some(thread) })
    }

    /// How it stands; from memory.
    pub fn status(&self) -> MirrorStatus {
        self.status.read()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let deadline = std::time::Instant::now() + STOP_WAIT;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

async fn run(options: Options, feed: Feed, status: Shared, mut stop: watch::Receiver<bool>) {
    let shape = Shape { argv: options.argv };
    let mut delivery = Delivery::new(feed, shape, status.clone(), stop.clone());
    let backoff = || {
        ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(RETRY_MIN)
            .with_max_delay(RETRY_MAX)
            .without_max_times()
            .build()
    };
    let mut waits = backoff();
    let mut told = None;
    while !*stop.borrow() {
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = delivery.connection(&options.database) => outcome,
            () = stopped_for(&mut stop, FINISH_WAIT) => return,
        };
        let Err(trouble) = outcome else { return };
        if delivery.delivered() || began.elapsed() > LASTED {
            told = None;
            waits = backoff();
        }
        let mut wait = waits.next().unwrap_or(RETRY_MAX);
        let person = matches!(trouble.verdict, Verdict::Stop(_));
        if person {
            wait = wait.max(STOPPED_WAIT);
        }
        note(&status, &trouble, person, &mut told);
        tokio::select! {
            () = sleep(wait) => {}
            () = stopped_for(&mut stop, Duration::ZERO) => return,
        }
    }
}

/// Resolves when the daemon has been stopping for this long.
async fn stopped_for(stop: &mut watch::Receiver<bool>, wait: Duration) {
    // An error: whoever could stop it is gone without a word.
    let _ = stop.wait_for(|stop| *stop).await;
    sleep(wait).await;
}

/// Into the status, and, if it is news, into the log.
fn note(status: &Shared, trouble: &Trouble, person: bool, told: &mut Option<String>) {
    let message = shown(&trouble.message);
    status.update(|status| {
        status.state = if person { "stopped".into() } else { "retrying".into() };
        status.failures += 1;
        status.last_error = Some(message.clone());
        status.generation = None;
    });
    if told.as_ref() != Some(&message) {
        match person {
            true => eprintln!("observer: error: nothing is mirrored: {message}"),
            false => {
                eprintln!("observer: warning: the mirror lost its database: {message}; it is tried again")
            }
        }
        *told = Some(message);
    }
}

/// On one line, not too long, harmless to a terminal: it comes from a server.
fn shown(message: &str) -> String {
    let mut line = to_line(message.as_bytes()).into_owned();
    if line.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

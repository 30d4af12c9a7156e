//! The thread that writes: what is queued, in one transaction, durable before it counts. It alone changes the file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use super::file::{Reason, Trouble, trouble};
use super::instance::Instance;
use super::queue::{Queue, Work};
use super::{Committed, Entry, Options, bounds, file};
use crate::clock;

/// Entries of one transaction.
const BATCH_MAX: usize = 512;
/// Their bytes, beyond the first.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// After a failure, the first and the longest wait.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Ages are looked at this often.
const AGE_EVERY: Duration = Duration::from_secs(3_600);

/// See the module.
pub struct Writer {
    /// `None` while a new file could not be made.
    conn: Option<Connection>,
    /// Why a new file is to be made.
    anew: Option<Reason>,
    options: Options,
    instance: Instance,
    queue: Arc<Queue>,
    tell: watch::Sender<Committed>,
    unchecked: bool,
    aged_at: Option<Instant>,
    retry: Duration,
}

/// Why a batch was not written.
enum Failed {
    Sqlite(rusqlite::Error),
    Other(&'static str, String),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Writer {
    /// A writer for `opened`.
    pub fn new(
        opened: file::Opened,
        options: Options,
        instance: Instance,
        queue: Arc<Queue>,
        tell: watch::Sender<Committed>,
    ) -> Self {
        let instance = instance.with_opens(opened.opens);
        let (conn, unchecked) = (Some(opened.conn), opened.unchecked);
        Self { conn, anew: None, options, instance, queue, tell, unchecked, aged_at: None, retry: RETRY_MIN }
    }

    /// Writes until the queue says stop. A daemon that stops while writes fail is not kept: one last try.
    pub fn run(mut self) {
        let mut patience = Duration::ZERO;
        loop {
            let stopping = self.queue.is_stopping();
            let result = match self.queue.work(patience, BATCH_MAX) {
                Work::Stop => break,
                Work::BeginAnew => {
                    let message = "the mirror has entries that this file lacks: it was put back from a copy";
                    self.give_up("mirror_ahead", message.into());
                    Ok(())
                }
                Work::Write(batch) => self.step(&batch),
            };
            patience = match result {
                Ok(()) => {
                    self.retry = RETRY_MIN;
                    if self.anew.is_some() || self.age_due() { Duration::ZERO } else { AGE_EVERY }
                }
                Err(_) if stopping => break,
                Err(failed) => self.failed(failed),
            };
        }
        if let Some(conn) = self.conn.take() {
            file::close(conn);
        }
    }

    fn step(&mut self, batch: &[(u64, Arc<Entry>)]) -> Result<(), Failed> {
        if let Some(reason) = self.anew.clone() {
            // What is queued gets other numbers: it is asked for again.
            return self.begin_anew(reason);
        }
        if std::mem::take(&mut self.unchecked)
            && let Some(conn) = &self.conn
            && let Err(error) = file::check(conn)
        {
            self.give_up("corrupt", format!("{error:#}"));
            return Ok(());
        }
        self.write(batch)
    }

    /// One transaction: the oldest go where a bound bites, the batch comes.
    fn write(&mut self, batch: &[(u64, Arc<Entry>)]) -> Result<(), Failed> {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let batch = within_bytes(batch);
        let coming: usize = batch.iter().map(|(_, entry)| entry.detail.len() + 256).sum();
        let mut usage = bounds::usage(conn, &self.options.path)?;
        let reserve = bounds::wal_reserve(self.options.max_bytes);
        if usage.wal > reserve {
            let mut checkpoint = conn.prepare("PRAGMA wal_checkpoint(TRUNCATE)")?;
            let mut rows = checkpoint.query(())?;
            while rows.next()?.is_some() {}
            drop(rows);
            drop(checkpoint);
            usage = bounds::usage(conn, &self.options.path)?;
            if usage.wal > reserve {
                let why = "a reader keeps the journal's write-ahead log from being emptied; end it (fuser shows it)";
                return Err(Failed::Other("write_failed", why.into()));
            }
        }
        let age_due = self.aged_at.is_none_or(|at| at.elapsed() >= AGE_EVERY);
        let oldest_at = age_due.then(|| bounds::oldest_at_ns(clock::realtime_ns(), self.options.max_age));
        let tx = conn.transaction()?;
        let bound = self.options.max_bytes;
        let expired = bounds::expire(&tx, &usage, coming as u64, bound, oldest_at, &self.options.boot_id)?;
        for (seq, entry) in batch {
            bounds::insert(&tx, *seq, entry)?;
        }
        tx.commit()?;
        if age_due && expired == 0 {
            self.aged_at = Some(Instant::now());
        }
        // From here on it is committed: what fails below is no reason to write it again.
        self.queue.written(batch.last().map_or(0, |(last, _)| *last));
        self.tell(expired)
    }

    fn age_due(&self) -> bool {
        self.aged_at.is_none_or(|at| at.elapsed() >= AGE_EVERY)
    }

    fn tell(&mut self, expired: u64) -> Result<(), Failed> {
        let Some(conn) = &self.conn else { return Ok(()) };
        let mut usage = bounds::usage(conn, &self.options.path)?;
        bounds::vacuum(conn, &usage)?;
        usage.expired = expired;
        let (oldest_seq, last_seq, _) = file::extent(conn)?;
        let undelivered =
            if self.options.delivers { undelivered(conn, self.queue.delivered())? } else { None };
        self.queue.note(&usage, oldest_seq, last_seq, undelivered);
        self.tell.send_if_modified(|committed| {
            let changed = committed.last_seq != last_seq;
            (committed.oldest_seq, committed.last_seq) = (oldest_seq, last_seq);
            changed
        });
        Ok(())
    }

    /// What to do about a failure; how long to wait first.
    fn failed(&mut self, failed: Failed) -> Duration {
        let (reason, message) = match failed {
            Failed::Sqlite(error) => match trouble(&error) {
                Trouble::Corrupt => {
                    self.give_up("corrupt", error.to_string());
                    return Duration::ZERO;
                }
                Trouble::Full => ("disk_full", error.to_string()),
                Trouble::Other => ("write_failed", error.to_string()),
            },
            Failed::Other(reason, message) => (reason, message),
        };
        if self.queue.failed(reason, message.clone()) == 1 {
            eprintln!(
                "observer: warning: the journal {} cannot be written ({message}); entries are kept in memory as far as \
                 they fit, and it is tried again. Look at its disk",
                file::shown(&self.options.path)
            );
        }
        let wait = self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
        wait
    }

    /// This file is done with.
    fn give_up(&mut self, word: &'static str, message: String) {
        let previous = Some(self.tell.borrow().stream_id.to_string());
        self.conn = None;
        self.anew = Some(Reason { word, message, previous });
    }

    fn begin_anew(&mut self, reason: Reason) -> Result<(), Failed> {
        // A try that failed half-way has set the old file aside already: what is there now is its own.
        let opened = file::begin_anew(&self.options, &self.instance, reason)
            .map_err(|error| Failed::Other("write_failed", format!("{error:#}")))?;
        self.anew = None;
        self.instance = self.instance.with_opens(opened.opens);
        if let Some(dir) = self.options.path.parent()
            && let Err(error) = self.instance.store(dir)
        {
            eprintln!("observer: warning: {error:#}");
        }
        self.queue.restart(&opened);
        self.tell.send_replace(opened.committed());
        self.conn = Some(opened.conn);
        Ok(())
    }
}

/// The first of `batch`, up to a transaction's bytes.
fn within_bytes(batch: &[(u64, Arc<Entry>)]) -> &[(u64, Arc<Entry>)] {
    let mut bytes = 0;
    let fits = batch.iter().take_while(|(_, entry)| {
        let first = bytes == 0;
        bytes += entry.detail.len();
        first || bytes <= BATCH_BYTES_MAX
    });
    batch.get(..fits.count()).unwrap_or(batch)
}

/// When the oldest entry after `delivered` was.
fn undelivered(conn: &Connection, delivered: u64) -> rusqlite::Result<Option<i64>> {
    let mut query = conn.prepare_cached("SELECT at_unix_ns FROM entry WHERE seq > ? ORDER BY seq LIMIT 1")?;
    let mut rows = query.query([delivered.cast_signed()])?;
    rows.next()?.map(|row| row.get(0)).transpose()
}

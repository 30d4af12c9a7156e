//! The thread that writes: what is queued, in one transaction, durable before it counts. It alone changes the file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use super::bounds::AgeClock;
use super::file::{Reason, Trouble, trouble};
use super::instance::{Instance, Lock, Note};
use super::queue::{Queue, Work};
use super::{Committed, Entry, Options, Unusable, bounds, file};
use crate::text::time::unix_ns;
use crate::{clock, heap};

/// Entries of one transaction.
const BATCH_MAX: usize = 512;
/// Their bytes, beyond the first.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// After a failure, the first and the longest wait.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Ages are looked at this often.
const AGE_EVERY: Duration = Duration::from_secs(3_600);
/// Memory is given back no more often; the loop may wait for it.
const TRIM_EVERY: Duration = Duration::from_secs(5);
/// It is noted this often up to when nothing is missing.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub struct Writer {
    /// `None` before the directory could be claimed.
    claim: Option<Claim>,
    /// `None` while no file could be opened or made.
    conn: Option<Connection>,
    /// Why a new file is to be made.
    anew: Option<Reason>,
    options: Options,
    queue: Arc<Queue>,
    tell: watch::Sender<Committed>,
    unchecked: bool,
    /// Nothing was written to this file since it was opened: what it says of its end still holds.
    silent: bool,
    aged_at: Option<Instant>,
    ages: AgeClock,
    trimmed_at: Option<Instant>,
    retry: Duration,
}

/// The state directory is this process's.
struct Claim {
    lock: Lock,
    instance: Instance,
}

/// The oldest entry after a number.
pub const UNDELIVERED: &str = "SELECT at_unix_ns, detail FROM entry WHERE seq > ? ORDER BY seq LIMIT 1";

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
    /// A writer without a file.
    pub fn new(options: Options, queue: Arc<Queue>, tell: watch::Sender<Committed>) -> Self {
        Self {
            claim: None,
            conn: None,
            anew: None,
            options,
            queue,
            tell,
            unchecked: false,
            silent: false,
            aged_at: None,
            ages: AgeClock::new(clock::wall_offset_ns()),
            trimmed_at: None,
            retry: RETRY_MIN,
        }
    }

    /// Opens the file. Where that may succeed later, it is told, and the answer is how long to wait first.
    pub fn open(&mut self) -> anyhow::Result<Duration> {
        match self.try_open() {
            Ok(()) => Ok(Duration::ZERO),
            Err(Unusable::Ever(error)) => Err(error),
            Err(Unusable::Now(error)) => {
                Ok(self.failed(Failed::Other(file::reason(&error), format!("{error:#}"))))
            }
        }
    }

    fn try_open(&mut self) -> Result<(), Unusable> {
        let dir = self.options.dir();
        let claim = match self.claim.take() {
            Some(claim) => self.claim.insert(claim),
            None => self.claim.insert(Claim::new(dir)?),
        };
        if claim.instance.opens.is_none() {
            // Before the first journal, which names it.
            let instance = claim.instance.with_opens(0);
            instance.store(dir).map_err(Unusable::Now)?;
            claim.instance = instance;
        }
        let opened = match self.anew.clone() {
            Some(reason) => file::begin_anew(&self.options, &claim.instance, &claim.lock, reason)
                .map_err(Unusable::Now)?,
            None => file::open(&self.options, &claim.instance, &claim.lock)?,
        };
        let instance = claim.instance.with_opens(opened.opens);
        match instance.store(dir) {
            Ok(()) => claim.instance = instance,
            // The file may be one ahead of it.
            Err(error) => eprintln!("observer: warning: {error:#}"),
        }
        self.take(opened);
        Ok(())
    }

    fn take(&mut self, mut opened: file::Opened) {
        let id = self.claim.as_ref().map(|claim| claim.instance.id.as_str()).unwrap_or_default();
        self.queue.begin(&mut opened, id);
        self.tell.send_replace(Committed {
            stream_id: opened.stream_id,
            oldest_seq: opened.oldest_seq,
            last_seq: opened.last_seq,
        });
        self.anew = None;
        self.unchecked = opened.unchecked;
        self.silent = opened.unchecked;
        self.conn = Some(opened.conn);
    }

    /// Writes until the queue says stop, after a first wait. A daemon that stops while writes fail is not kept: one
    /// last try.
    pub fn run(mut self, wait: Duration) {
        let mut patience = wait;
        loop {
            let stopping = self.queue.is_stopping();
            let result = match self.queue.work(patience.min(NOTE_EVERY), BATCH_MAX) {
                Work::Stop => break,
                // It is about to: the question is asked again until it has.
                Work::BeginAnew if self.conn.is_none() => self.step(&[]),
                Work::BeginAnew => {
                    let message = "the mirror has entries that this file lacks: it was put back from a copy";
                    self.give_up("mirror_ahead", message.into());
                    Ok(())
                }
                Work::Check => {
                    self.unchecked = true;
                    self.step(&[])
                }
                Work::Write(batch) => self.step(&batch),
            };
            self.note(0);
            let rest = self.trim();
            patience = match result {
                // A file that is given up as soon as it is made is not made without end.
                Ok(()) if self.conn.is_none() => self.longer(),
                Ok(()) if self.age_due() => Duration::ZERO,
                Ok(()) => rest,
                Err(_) if stopping => break,
                Err(failed) => self.failed(failed),
            };
        }
        self.note(0);
        if let Some(conn) = self.conn.take().filter(|_| !self.silent) {
            file::close(conn, self.queue.note().complete_ns);
        }
    }

    /// Gives memory back after a storm; how long there is nothing to do.
    fn trim(&mut self) -> Duration {
        if !self.queue.storm_is_over() {
            return NOTE_EVERY;
        }
        if self.trimmed_at.is_none_or(|at| at.elapsed() >= TRIM_EVERY) {
            self.trimmed_at = Some(Instant::now());
            heap::give_back();
            self.queue.forget_storm();
            return NOTE_EVERY;
        }
        TRIM_EVERY
    }

    /// Leaves to the next daemon what is committed: up to `last_seq`, where the queue does not know it yet.
    fn note(&mut self, last_seq: u64) {
        if let Some(claim) = self.claim.as_mut().filter(|_| self.conn.is_some()) {
            let note = self.queue.note();
            claim.lock.note(Note { last_seq: note.last_seq.max(last_seq), ..note });
        }
    }

    fn step(&mut self, batch: &[(u64, Arc<Entry>)]) -> Result<(), Failed> {
        if self.conn.is_none() {
            // What is queued gets other numbers: it is asked for again.
            return self.try_open().map_err(|unusable| {
                let (Unusable::Ever(error) | Unusable::Now(error)) = unusable;
                Failed::Other(file::reason(&error), format!("{error:#}"))
            });
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
        let (ages, max_age) = (&mut self.ages, self.options.max_age);
        let oldest_at =
            age_due.then(|| ages.oldest_at_ns(clock::boottime(), clock::wall_offset_ns(), max_age));
        let tx = conn.transaction()?;
        if self.silent && !batch.is_empty() {
            file::set_meta(&tx, "closed_at_ns", 0)?;
        }
        let bound = self.options.max_bytes;
        let expired = bounds::expire(&tx, &usage, coming as u64, bound, oldest_at, &self.options.boot_id)?;
        for (seq, entry) in batch {
            bounds::add(&tx, *seq, entry)?;
        }
        tx.commit()?;
        if age_due && expired == 0 {
            self.aged_at = Some(Instant::now());
        }
        // From here on it is committed: what fails below is no reason to write it again.
        self.silent &= batch.is_empty();
        if !batch.is_empty() {
            self.retry = RETRY_MIN;
        }
        let last_seq = batch.last().map_or(0, |(last, _)| *last);
        // Before anybody is told.
        self.note(last_seq);
        self.queue.written(last_seq);
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
        self.queue.learn(&usage, oldest_seq, undelivered);
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
                    return self.longer();
                }
                Trouble::Full => ("disk_full", error.to_string()),
                Trouble::Other => ("write_failed", error.to_string()),
            },
            Failed::Other(reason, message) => (reason, message),
        };
        if self.queue.failed(reason, message.clone()) == 1 {
            let kept = match self.conn {
                Some(_) => "entries are kept in memory as far as they fit",
                None => "no history is kept until then",
            };
            let path = file::shown(&self.options.path);
            eprintln!(
                "observer: warning: the journal {path} cannot be written: {message}; look at its disk and its rights. \
                 It is tried again, {kept}"
            );
        }
        self.longer()
    }

    /// How long to wait this time; the next time longer.
    fn longer(&mut self) -> Duration {
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
}

impl Claim {
    fn new(dir: &Path) -> Result<Self, Unusable> {
        let lock = Lock::claim(dir)?;
        let instance = Instance::load(dir).map_err(Unusable::Now)?;
        Ok(Self { lock, instance })
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

/// When the oldest entry after `delivered` came to be known.
fn undelivered(conn: &Connection, delivered: u64) -> rusqlite::Result<Option<i64>> {
    #[derive(serde::Deserialize)]
    struct Found {
        found_at: Option<String>,
    }
    let mut query = conn.prepare_cached(UNDELIVERED)?;
    let mut rows = query.query([delivered.cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (at_ns, detail): (i64, String) = (row.get(0)?, row.get(1)?);
    let found = serde_json::from_str::<Found>(&detail).ok().and_then(|found| unix_ns(&found.found_at?));
    Ok(Some(found.map_or(at_ns, |found_ns| found_ns.max(at_ns))))
}

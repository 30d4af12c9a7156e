//! The thread that writes: it commits what is queued, in one transaction that is synced before it counts. It alone changes
//! the file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::bounds::{self, AgeClock};
use super::error::{OpenError, SqliteFault, WriteError, is_passing};
use super::file::{self, Origin, StreamEnd};
use super::lock::Watermark;
use super::lost::LostEntries;
use super::options::JournalOptions;
use super::queue::{FileFacts, Work, WriteQueue};
use super::shares::Shares;
use super::spool::Committed;
use super::state_dir::{FormerDir, StateDir};
use super::{live, removal, tables};
use crate::api::entry::Entry;
use crate::api::words::GapReason;
use crate::text::bytes::to_line;
use crate::{clock, heap};

/// Entries of one transaction.
const BATCH_MAX: usize = 512;
/// The first and the longest wait after a failure.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Interval at which the age bound is applied.
const AGE_EVERY: Duration = Duration::from_secs(3_600);
/// Interval at which the file is checked: its disk may have damaged what nobody has read since.
const CHECK_EVERY: Duration = Duration::from_secs(86_400);
/// Shortest interval at which memory is returned to the system, because the event loop may have to wait for it.
const TRIM_EVERY: Duration = Duration::from_secs(5);
/// Longest interval at which the watermark is written.
const WATERMARK_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub struct JournalWriter {
    /// `None` until the state directory could be locked.
    dir: Option<StateDir>,
    /// What is known of a state directory that somebody deleted, until there is one again.
    former: Option<FormerDir>,
    /// `None` while no file could be opened or made.
    conn: Option<Connection>,
    /// Why the stream ended, if a new one is to begin.
    ended: Option<StreamEnd>,
    options: JournalOptions,
    queue: Arc<WriteQueue>,
    committed: watch::Sender<Committed>,
    /// The file is to be checked before the next write.
    unchecked: bool,
    /// When it was opened or last checked.
    checked_at: Instant,
    /// Nothing was written since the file was opened, so its record of its end still holds.
    untouched: bool,
    /// Which entries were lost, as the file records it.
    lost: Option<LostEntries>,
    aged_at: Option<Instant>,
    ages: AgeClock,
    shares: Shares,
    trimmed_at: Option<Instant>,
    backoff: ExponentialBackoff,
    /// A failure was reported, and not yet its end.
    fails: bool,
}

impl JournalWriter {
    /// A writer without a file.
    pub fn new(options: JournalOptions, queue: Arc<WriteQueue>, committed: watch::Sender<Committed>) -> Self {
        Self {
            dir: None,
            former: None,
            conn: None,
            ended: None,
            options,
            queue,
            committed,
            unchecked: false,
            checked_at: Instant::now(),
            untouched: false,
            lost: None,
            aged_at: None,
            ages: AgeClock::new(clock::wall_offset_ns()),
            shares: Shares::default(),
            trimmed_at: None,
            backoff: backoff(),
            fails: false,
        }
    }

    /// Opens the file. Where that fails and may succeed later, the failure is reported, and the result is how long to
    /// wait before the next attempt.
    pub fn open(&mut self) -> anyhow::Result<Duration> {
        match self.try_open() {
            Ok(()) => Ok(Duration::ZERO),
            Err(OpenError::Permanent(error)) => Err(error),
            Err(OpenError::Transient(error)) => Ok(self.failed(error.into())),
        }
    }

    fn try_open(&mut self) -> Result<(), OpenError> {
        let path = self.options.dir();
        let dir = match self.dir.take() {
            Some(dir) => self.dir.insert(dir),
            None => {
                let dir = StateDir::claim(path, self.former.as_ref())?;
                self.former = None;
                self.dir.insert(dir)
            }
        };
        if dir.identity.opens.is_none() {
            // The file must exist before the first journal, which names it.
            let identity = dir.identity.with_opens(0);
            identity.store(path).map_err(OpenError::Transient)?;
            dir.identity = identity;
        }
        let mut opened = match self.ended.clone() {
            Some(end) => file::begin_new_stream(&self.options, &dir.identity, &dir.lock, end)
                .map_err(OpenError::Transient)?,
            None => file::open(&self.options, &dir.identity, &dir.lock)?,
        };
        let identity = dir.identity.with_opens(opened.opens);
        match identity.store(path) {
            Ok(()) => dir.identity = identity,
            // The journal may be one ahead of the identity's count.
            Err(error) => {
                warn!(
                    part = "journal",
                    path = file::shown(path),
                    "{}",
                    to_line(format!("{error:#}").as_bytes())
                );
            }
        }
        dir.opened(&self.options);
        self.queue.begin(&mut opened, &dir.identity.id);
        self.committed.send_replace(Committed {
            stream_id: opened.stream_id,
            oldest_seq: opened.oldest_seq,
            last_seq: opened.last_seq,
        });
        self.ended = None;
        self.lost = opened.lost;
        self.shares = Shares::default();
        self.unchecked = opened.origin == Origin::Existing;
        self.checked_at = Instant::now();
        self.untouched = opened.origin == Origin::Existing;
        self.conn = Some(opened.conn);
        Ok(())
    }

    /// Writes until the queue asks to stop, after a first wait. A daemon that stops while writes fail gets one last
    /// attempt, and does not wait for more.
    pub fn run(mut self, wait: Duration) {
        let mut patience = wait;
        loop {
            let stopping = self.queue.is_stopping();
            let result = match self.queue.work(patience.min(WATERMARK_EVERY), BATCH_MAX) {
                Work::Stop => break,
                work => self.perform(work),
            };
            self.report_recovery();
            self.write_watermark(0);
            let idle = self.trim();
            patience = match result {
                // Where each new file is given up at once, the next is not made at once.
                Ok(()) if self.conn.is_none() => self.next_retry(),
                Ok(()) if self.age_is_due() => Duration::ZERO,
                Ok(()) => idle,
                Err(_) if stopping => break,
                Err(error) => self.failed(error),
            };
        }
        self.write_watermark(0);
        if let Some(conn) = self.conn.take() {
            if self.lost != self.still_lost() {
                // If this fails, the next daemon knows as much as after a crash.
                let _ = LostEntries::write(self.still_lost(), &conn);
            }
            let complete_ns = (!self.untouched).then(|| self.queue.watermark().complete_ns);
            // A file that this daemon changed nothing in keeps what the one before left.
            let births = self.queue.take_births().filter(|_| !self.untouched);
            file::close(conn, complete_ns, births);
        }
    }

    fn perform(&mut self, work: Work) -> Result<(), WriteError> {
        match work {
            Work::Stop => Ok(()),
            // A new stream is about to begin already; the mirror asks again until it has.
            Work::BeginNewStream if self.conn.is_none() => self.step(&[]),
            Work::BeginNewStream => {
                let message = "the mirror has entries that this file lacks: it was put back from a copy";
                self.end_stream(GapReason::MirrorAhead, message.into());
                Ok(())
            }
            Work::Check => {
                self.unchecked = true;
                self.step(&[])
            }
            Work::Write(batch) => self.step(&batch),
        }
    }

    /// Returns memory to the system after a storm. The result is how long there is nothing else to do.
    fn trim(&mut self) -> Duration {
        if !self.queue.storm_is_over() {
            return WATERMARK_EVERY;
        }
        if self.trimmed_at.is_none_or(|at| at.elapsed() >= TRIM_EVERY) {
            self.trimmed_at = Some(Instant::now());
            heap::give_back();
            self.queue.forget_storm();
            return WATERMARK_EVERY;
        }
        TRIM_EVERY
    }

    /// Writes the watermark for the next daemon, with `last_seq` as the newest committed number where the queue does
    /// not know it yet.
    fn write_watermark(&mut self, last_seq: u64) {
        if let Some(dir) = self.dir.as_mut().filter(|_| self.conn.is_some()) {
            let watermark = self.queue.watermark();
            dir.lock.write(Watermark { last_seq: watermark.last_seq.max(last_seq), ..watermark });
        }
    }

    fn step(&mut self, batch: &[(u64, Arc<Entry>)]) -> Result<(), WriteError> {
        let options = &self.options;
        let is_gone = |dir: &mut StateDir| dir.is_gone(options) && !dir.lock_again(options);
        if self.conn.is_some() && self.dir.as_mut().is_some_and(is_gone) {
            self.give_up_file();
        }
        if self.conn.is_none() {
            // What is queued gets other numbers in a new file, so the batch is asked for again.
            return self.try_open().map_err(|error| {
                let (OpenError::Permanent(error) | OpenError::Transient(error)) = error;
                error.into()
            });
        }
        self.unchecked |= self.checked_at.elapsed() >= CHECK_EVERY;
        if std::mem::take(&mut self.unchecked)
            && let Some(conn) = &self.conn
        {
            self.checked_at = Instant::now();
            if let Err(error) = file::check(conn) {
                if is_passing(&error) {
                    self.unchecked = true;
                    return Err(error.into());
                }
                self.end_stream(GapReason::Corrupt, format!("{error:#}"));
                return Ok(());
            }
        }
        self.write(batch)
    }

    /// Closes a file that is not at its path any more. The next attempt opens what is there, or makes a new one.
    fn give_up_file(&mut self) {
        let path = file::shown(&self.options.path);
        warn!(
            part = "journal",
            path,
            "somebody deleted or replaced the journal {path}, its lock or its directory: it is opened again, and what a deleted file had is lost"
        );
        if let Some(conn) = self.conn.take() {
            // What is at the path of the log may belong to another file.
            let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        self.queue.file_is_gone();
        self.former = self.dir.as_mut().and_then(|dir| dir.give_up(&self.options));
        if self.former.is_some() {
            self.dir = None;
        }
    }

    /// Which entries were lost since the sessions were last compared with the kernel.
    fn still_lost(&self) -> Option<LostEntries> {
        let proven_from = self.queue.proven_from();
        self.lost.filter(|lost| !lost.is_before(proven_from))
    }

    /// Writes `batch` in one transaction, in which entries also expire.
    fn write(&mut self, batch: &[(u64, Arc<Entry>)]) -> Result<(), WriteError> {
        let lost =
            batch.iter().fold(self.still_lost(), |lost, (seq, entry)| LostEntries::after(lost, *seq, entry));
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let usage = bounds::empty_log(conn, &self.options)?;
        let coming = batch.iter().map(|(_, entry)| tables::bytes(entry)).sum();
        let age_is_due = self.aged_at.is_none_or(|at| at.elapsed() >= AGE_EVERY);
        let (ages, max_age) = (&mut self.ages, self.options.max_age);
        let oldest_at =
            age_is_due.then(|| ages.oldest_at_ns(clock::boottime(), clock::wall_offset_ns(), max_age));
        let tx = conn.transaction()?;
        if self.untouched && !batch.is_empty() {
            tables::set_meta(&tx, "closed_at_ns", 0)?;
            // What this daemon observes contradicts it sooner or later.
            tables::forget_births(&tx)?;
        }
        // Where this transaction fails, they are counted again.
        let mut shares = std::mem::take(&mut self.shares);
        let boot_id = &self.options.boot_id;
        let aged = match oldest_at {
            Some(oldest_at) => removal::by_age(&tx, &mut shares, oldest_at, boot_id)?,
            None => 0,
        };
        let surplus = bounds::surplus(&usage, coming, self.options.max_bytes);
        // What is too old may have made room.
        let expired = match aged {
            0 if surplus > 0 => {
                let small = bounds::small_share(self.options.max_bytes);
                removal::by_size(&tx, &mut shares, surplus, small, boot_id)?
            }
            aged => aged,
        };
        for (seq, entry) in batch {
            live::add(&tx, *seq, entry)?;
            shares.add(*seq, entry);
        }
        if lost != self.lost {
            LostEntries::write(lost, &tx)?;
        }
        tx.commit()?;
        (self.shares, self.lost) = (shares, lost);
        if age_is_due && aged == 0 {
            self.aged_at = Some(Instant::now());
        }
        // The batch is committed from here on: a later failure is no reason to write it again.
        self.untouched &= batch.is_empty();
        if !batch.is_empty() {
            self.backoff = backoff();
        }
        let last_seq = batch.last().map_or(0, |(last, _)| *last);
        // Before anybody learns of the commit: no number is given twice, whenever this process ends.
        self.write_watermark(last_seq);
        if let Some(dir) = &mut self.dir {
            dir.wrote_log(&self.options);
        }
        self.queue.written(last_seq);
        self.announce(expired as u64)
    }

    fn age_is_due(&self) -> bool {
        self.aged_at.is_none_or(|at| at.elapsed() >= AGE_EVERY)
    }

    /// Updates `status`, and notifies the receivers of commits.
    fn announce(&mut self, expired: u64) -> Result<(), WriteError> {
        let Some(conn) = &self.conn else { return Ok(()) };
        let usage = bounds::usage(conn, &self.options.path)?;
        bounds::vacuum(conn, &usage)?;
        let extent = tables::extent(conn)?;
        let undelivered_since_ns = if self.options.delivers {
            tables::undelivered_since(conn, self.queue.acknowledged())?
        } else {
            None
        };
        self.queue.update_facts(&FileFacts {
            bytes: usage.total(),
            expired,
            oldest_seq: extent.oldest_seq,
            undelivered_since_ns,
        });
        self.committed.send_if_modified(|committed| {
            let changed = committed.last_seq != extent.last_seq;
            (committed.oldest_seq, committed.last_seq) = (extent.oldest_seq, extent.last_seq);
            changed
        });
        Ok(())
    }

    /// Reports a failure. The result is how long to wait before the next attempt.
    fn failed(&mut self, error: WriteError) -> Duration {
        let (reason, message) = match error {
            WriteError::Sqlite(error) => match SqliteFault::of(&error) {
                SqliteFault::Corrupt => {
                    self.end_stream(GapReason::Corrupt, error.to_string());
                    return self.next_retry();
                }
                SqliteFault::Full => (GapReason::DiskFull, error.to_string()),
                SqliteFault::Transient => (GapReason::WriteFailed, error.to_string()),
            },
            WriteError::Other(reason, message) => (reason, message),
        };
        if self.queue.failed(reason, message.clone()) == 1 {
            self.fails = true;
            let kept = match self.conn {
                Some(_) => "entries are kept in memory as far as they fit",
                None => "no history is kept until then",
            };
            let path = file::shown(&self.options.path);
            let message = to_line(message.as_bytes());
            error!(
                part = "journal",
                path,
                reason = reason.as_str(),
                "the journal {path} cannot be written: {message}; look at its disk and its rights. It is tried again, {kept}"
            );
        }
        self.next_retry()
    }

    /// Reports the end of a failure that was reported.
    fn report_recovery(&mut self) {
        if self.fails && !self.queue.is_failing() {
            self.fails = false;
            let path = file::shown(&self.options.path);
            info!(
                part = "journal",
                path, "the journal {path} is written again; `observer history` has what is missing as a gap"
            );
        }
    }

    /// The wait before the next attempt; it doubles from attempt to attempt.
    fn next_retry(&mut self) -> Duration {
        self.backoff.next().unwrap_or(RETRY_MAX)
    }

    /// Closes the file; the next step quarantines it and begins a new stream.
    fn end_stream(&mut self, reason: GapReason, message: String) {
        let previous = Some(self.committed.borrow().stream_id.to_string());
        self.conn = None;
        self.ended = Some(StreamEnd { reason, message, previous });
    }
}

/// The waits between attempts. There is one journal on a disk, so they need no jitter.
fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX).without_max_times().build()
}

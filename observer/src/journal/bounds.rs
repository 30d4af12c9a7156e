//! The bounds of the journal: bytes on the disk, and the age of its entries.

use std::path::Path;
use std::time::Duration;

use observer_core::BootTime;
use rusqlite::Connection;

use super::error::WriteError;
use super::options::JournalOptions;
use super::quarantine;
use crate::api::words::GapReason;

/// Pages of the write-ahead log at which SQLite moves them into the file.
pub const CHECKPOINT_PAGES: i64 = 256;
/// Part of the file's bound that is left after a removal, so that entries are removed in groups and not one by one.
const KEEP: f64 = 0.98;
/// Bytes of what a daemon leaves to the next one of births in sessions. What is longer is not read.
pub const BIRTHS_BYTES_MAX: usize = 1 << 20;

/// How many users can have a share that is taken from before those of the others.
const LARGE_SHARES_MAX: u64 = 64;
/// Free pages returned to the file system at a time, and half of those that are kept for the next entries.
const VACUUM_PAGES: i64 = 256;

/// The part of `max_bytes` that the write-ahead log may use; the file may use the rest.
pub fn wal_reserve(max_bytes: u64) -> u64 {
    (max_bytes / 4).clamp(2 << 20, 8 << 20)
}

/// Bytes in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Size of the file, bytes.
    pub file: u64,
    /// Bytes of the file that hold data.
    pub used: u64,
    /// Size of the write-ahead log, bytes.
    pub wal: u64,
}

impl Usage {
    /// Bytes on the disk.
    pub fn total(&self) -> u64 {
        self.file + self.wal
    }
}

/// Reads what is in use.
pub fn usage(conn: &Connection, path: &Path) -> rusqlite::Result<Usage> {
    let integer = |name: &str| {
        conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(|n| u64::try_from(n).unwrap_or(0))
    };
    let (pages, free, page) = (integer("page_count")?, integer("freelist_count")?, integer("page_size")?);
    let wal = std::fs::metadata(quarantine::suffixed(path, "-wal")).map_or(0, |wal| wal.len());
    Ok(Usage { file: pages * page, used: pages.saturating_sub(free) * page, wal })
}

/// Moves the write-ahead log into the file where the log has more than its share. Returns what is in use afterwards.
pub fn empty_log(conn: &Connection, options: &JournalOptions) -> Result<Usage, WriteError> {
    let in_use = usage(conn, &options.path)?;
    let reserve = wal_reserve(options.max_bytes);
    if in_use.wal <= reserve {
        return Ok(in_use);
    }
    let mut checkpoint = conn.prepare("PRAGMA wal_checkpoint(TRUNCATE)")?;
    let mut rows = checkpoint.query(())?;
    while rows.next()?.is_some() {}
    let in_use = usage(conn, &options.path)?;
    if in_use.wal > reserve {
        let message =
            "a reader keeps the journal's write-ahead log from being emptied; end it (fuser shows it)";
        return Err(WriteError::Other(GapReason::WriteFailed, message.into()));
    }
    Ok(in_use)
}

/// Bytes of a share from which on it counts as large. There are at most this many times as large shares.
pub fn small_share(max_bytes: u64) -> u64 {
    max_bytes / LARGE_SHARES_MAX
}

/// Bytes that entries must free before `coming` bytes are added; 0: there is room.
pub fn surplus(usage: &Usage, coming: u64, max_bytes: u64) -> u64 {
    let bound = max_bytes.saturating_sub(wal_reserve(max_bytes));
    let needed = usage.used + coming;
    if needed > bound { needed - (bound as f64 * KEEP) as u64 } else { 0 }
}

/// Returns free pages to the file system, if there are many.
pub fn vacuum(conn: &Connection, usage: &Usage) -> rusqlite::Result<()> {
    if usage.file.saturating_sub(usage.used) > 2 * VACUUM_PAGES.unsigned_abs() * 4_096 {
        let mut vacuum = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = vacuum.query(())?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

/// A wall clock that is ahead for this long is taken to be right, ns.
const AHEAD_NS: u64 = 86_400_000_000_000;

/// The clock that determines ages. It follows the wall clock at once where that is set back. It follows a wall clock that
/// is set ahead, which would make every entry old, only after a day.
#[derive(Clone, Copy, Debug)]
pub struct AgeClock {
    /// Realtime minus boot time, ns.
    offset_ns: i64,
    /// Since when the wall clock is ahead of that, and its smallest offset since: the first difference may be no more
    /// than the error of two readings.
    ahead: Option<(BootTime, i64)>,
}

impl AgeClock {
    /// A clock that agrees with the wall clock.
    pub fn new(wall_offset_ns: i64) -> Self {
        Self { offset_ns: wall_offset_ns, ahead: None }
    }

    /// The time before which entries are too old, ns since 1970.
    pub fn oldest_at_ns(&mut self, now: BootTime, wall_offset_ns: i64, max_age: Duration) -> i64 {
        let (since, least) = self.ahead.unwrap_or((now, wall_offset_ns));
        let least = least.min(wall_offset_ns);
        self.ahead = Some((since, least));
        if wall_offset_ns <= self.offset_ns || now.since(since) >= AHEAD_NS {
            (self.offset_ns, self.ahead) = (least, None);
        }
        let age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
        now.0.cast_signed().saturating_add(self.offset_ns).saturating_sub(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_ahead_counts_after_a_day_and_one_that_is_set_back_at_once() {
        const HOUR: i64 = 3_600_000_000_000;
        let today = 480_000 * HOUR;
        let mut clock = AgeClock::new(today);
        let mut oldest = |up: i64, offset| {
            let now = BootTime((up * HOUR).cast_unsigned());
            clock.oldest_at_ns(now, offset, Duration::from_secs(30 * 3_600))
        };
        assert_eq!(oldest(1, today), today - 29 * HOUR);
        assert_eq!(oldest(2, today + 9_000 * HOUR), today - 28 * HOUR);
        assert_eq!(oldest(25, today + 9_000 * HOUR), today - 5 * HOUR);
        assert_eq!(oldest(26, today - 10 * HOUR), today - 14 * HOUR);
        assert_eq!(oldest(27, today), today - 13 * HOUR);
        assert_eq!(oldest(51, today), today + 21 * HOUR);
        // What was ahead by next to nothing for long makes no more than that right.
        assert_eq!(oldest(52, today + 1), today + 22 * HOUR);
        assert_eq!(oldest(75, today + 9_000 * HOUR), today + 45 * HOUR);
        assert_eq!(oldest(77, today + 9_000 * HOUR), today + 47 * HOUR + 1);
    }
}

//! The bounds of the journal: bytes on the disk, and the age of its entries.

use std::path::Path;
use std::time::Duration;

use observer_core::BootTime;
use rusqlite::Connection;

use super::{live, quarantine, tables};
use crate::api::entry::{Entry, MissingEntries};
use crate::api::words::GapReason;
use crate::text::time::unix_rfc3339;

/// Pages of the write-ahead log at which SQLite moves them into the file.
pub const CHECKPOINT_PAGES: i64 = 256;
/// Entries removed in one transaction: more than one transaction adds.
const EXPIRE_MAX: u64 = 1_024;
/// Part of the file's bound that is left after a removal, so that entries are removed in groups and not one by one.
const KEEP: f64 = 0.98;
/// Free pages returned to the file system at a time, and half of those that are kept for the next entries.
const VACUUM_PAGES: i64 = 256;

/// Times of the oldest entries.
pub const OLDEST: &str = "SELECT at_unix_ns FROM entry WHERE seq >= ? ORDER BY seq LIMIT ?";

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

/// Removes entries that are too old and, before `coming` bytes are added, entries for which the bound leaves no room. The
/// last removed number becomes a gap entry that covers all removed before it. Returns how many entries were removed. To
/// be called in a transaction.
pub fn expire(
    conn: &Connection,
    usage: &Usage,
    coming: u64,
    max_bytes: u64,
    oldest_at_ns: Option<i64>,
    boot_id: &str,
) -> rusqlite::Result<u64> {
    let tables::TableExtent { oldest_seq: oldest, last_seq: last, .. } = tables::extent(conn)?;
    let bound = max_bytes.saturating_sub(wal_reserve(max_bytes));
    let (mut count, mut reason) = (0, GapReason::RetentionSize);
    if usage.used + coming > bound && last > oldest {
        let rows = last - oldest + 1;
        let surplus = (usage.used + coming) as f64 - bound as f64 * KEEP;
        count = (rows as f64 * surplus / usage.used.max(1) as f64).ceil() as u64;
        count = count.clamp(2, EXPIRE_MAX);
    }
    if let Some(oldest_at_ns) = oldest_at_ns {
        let aged = aged(conn, oldest, oldest_at_ns)?;
        if aged > count {
            (count, reason) = (aged, GapReason::RetentionAge);
        }
    }
    // The newest entry stays, so that numbering continues; and a single old entry is not replaced by a gap entry.
    let end = (oldest + count).saturating_sub(1).min(last.saturating_sub(1));
    if count < 2 || end <= oldest {
        return Ok(0);
    }
    let (at_ns, boottime_ns): (i64, i64) = conn.query_row(
        "SELECT at_unix_ns, boottime_ns FROM entry WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
        [end.cast_signed()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    live::keep_details(conn, end)?;
    conn.prepare_cached("DELETE FROM entry WHERE seq <= ?")?.execute([end.cast_signed()])?;
    let missing = MissingEntries {
        from_seq: Some(1),
        to_seq: Some(end),
        count: Some(end),
        reason,
        to: unix_rfc3339(at_ns),
        ..MissingEntries::default()
    };
    let entry = Entry::gap(&missing, at_ns, u64::try_from(boottime_ns).unwrap_or(0), boot_id);
    tables::insert(conn, end, &entry)?;
    // Unless its number is 1, the oldest entry is such a gap entry itself.
    Ok(if oldest == 1 { end } else { end - oldest })
}

/// How many entries from `oldest` on happened before `oldest_at_ns`, at most [`EXPIRE_MAX`].
fn aged(conn: &Connection, oldest: u64, oldest_at_ns: i64) -> rusqlite::Result<u64> {
    let mut query = conn.prepare_cached(OLDEST)?;
    let mut rows = query.query([oldest.cast_signed(), EXPIRE_MAX.cast_signed()])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? >= oldest_at_ns {
            break;
        }
        count += 1;
    }
    Ok(count)
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

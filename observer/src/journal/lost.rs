//! Entries that never reached the file, although their sessions' earlier entries did. The end of a session may be among them,
//! so that the file proves of a session no longer than until then that its primary lived.

use rusqlite::Connection;

use super::tables;
use crate::api::entry::{Entry, MissingEntries};
use crate::api::words::{EntryKind, GapReason};
use crate::text::time::unix_ns;

/// The key in the table `meta`.
const KEY: &str = "lost";

/// The gaps that were written since the sessions were last compared with the kernel, for entries that were lost before they
/// were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostEntries {
    /// Number of the first gap.
    from_seq: u64,
    /// Number of the last gap.
    to_seq: u64,
    /// A time that is not later than any entry of the first gap, ns since 1970.
    from_ns: i64,
}

impl LostEntries {
    /// Reads what the file records.
    pub fn read(conn: &Connection) -> rusqlite::Result<Option<Self>> {
        Ok(Self::parse(&tables::meta_text(conn, KEY)?))
    }

    /// Records `lost` in the file.
    pub fn write(lost: Option<Self>, conn: &Connection) -> rusqlite::Result<()> {
        let text = lost
            .map(|Self { from_seq, to_seq, from_ns }| format!("{from_seq} {to_seq} {from_ns}"))
            .unwrap_or_default();
        tables::set_meta(conn, KEY, text)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (from_seq, to_seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { from_seq, to_seq, from_ns: words.next()?.parse().ok()? })
    }

    /// What is lost once `entry` is written as well, with the number `seq`.
    pub fn after(lost: Option<Self>, seq: u64, entry: &Entry) -> Option<Self> {
        let Some(missing) = missing(entry) else { return lost };
        let from_ns = missing.from.as_deref().and_then(unix_ns).unwrap_or(i64::MIN);
        Some(lost.map_or(Self { from_seq: seq, to_seq: seq, from_ns }, |lost| Self { to_seq: seq, ..lost }))
    }

    /// Whether all of it was lost before the entry with the number `seq`.
    pub fn is_before(&self, seq: u64) -> bool {
        self.to_seq < seq
    }

    /// Up to when the primary of a session is known to live whose last entry has the number `seq` and happened `at_ns` (ns since
    /// 1970). `None`: nothing about it is lost, so up to when the journal is complete.
    pub fn proven_ns(&self, seq: u64, at_ns: i64) -> Option<i64> {
        match seq {
            _ if seq > self.to_seq => None,
            _ if seq < self.from_seq => Some(self.from_ns.max(at_ns)),
            // Nothing tells which of the gaps is the first one after it.
            _ => Some(at_ns),
        }
    }
}

/// What a gap reports as lost before it was written; `None` for any other entry.
fn missing(entry: &Entry) -> Option<MissingEntries> {
    if entry.kind != EntryKind::Gap {
        return None;
    }
    let missing: MissingEntries = serde_json::from_str(&entry.detail).ok()?;
    let was_not_written = matches!(
        missing.reason,
        GapReason::QueueFull | GapReason::DiskFull | GapReason::WriteFailed | GapReason::TooLarge
    );
    was_not_written.then_some(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::time::unix_rfc3339;

    const SECOND: i64 = 1_000_000_000;

    fn gap(reason: GapReason, from_s: i64) -> Entry {
        let missing =
            MissingEntries { reason, from: unix_rfc3339(from_s * SECOND), ..MissingEntries::default() };
        Entry::gap(&missing, (from_s + 5) * SECOND, 0, "boot")
    }

    #[test]
    fn a_session_is_proven_to_live_until_the_first_gap_after_its_last_entry() {
        let first = LostEntries::after(None, 10, &gap(GapReason::QueueFull, 100));
        let lost = LostEntries::after(first, 20, &gap(GapReason::DiskFull, 200)).unwrap();
        assert_eq!(lost.proven_ns(9, 50 * SECOND), Some(100 * SECOND));
        assert_eq!(lost.proven_ns(9, 101 * SECOND), Some(101 * SECOND), "its entry is a proof as well");
        assert_eq!(lost.proven_ns(15, 150 * SECOND), Some(150 * SECOND));
        assert_eq!(lost.proven_ns(21, 250 * SECOND), None);
        assert!(!lost.is_before(20) && lost.is_before(21));
    }

    #[test]
    fn what_was_written_and_removed_later_is_not_lost() {
        let reasons = [GapReason::RetentionSize, GapReason::RetentionAge, GapReason::NotRunning];
        for reason in reasons {
            assert_eq!(LostEntries::after(None, 10, &gap(reason, 100)), None);
        }
    }

    #[test]
    fn the_file_keeps_it() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(tables::SCHEMA).unwrap();
        assert_eq!(LostEntries::read(&conn).unwrap(), None);
        let lost = LostEntries::after(None, 10, &gap(GapReason::TooLarge, 100));
        for lost in [lost, None] {
            LostEntries::write(lost, &conn).unwrap();
            assert_eq!(LostEntries::read(&conn).unwrap(), lost);
        }
    }
}

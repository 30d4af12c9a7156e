//! Reads committed entries, beside the writer and without the daemon. Each batch is a short transaction of its own, so a
//! reader that pauses delays nobody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::file::shown;
use super::live::LiveSessions;
use super::lost::LostEntries;
use super::pending::Resumed;
use super::{live, quarantine, tables};
use crate::api::entry::{Entry, NumberedEntry};
use crate::api::words::EntryKind;

/// Why nothing is read from a file that is open.
const UNREADABLE: &str = "cannot read the journal; look at its disk, or restart the daemon, which puts a damaged journal in quarantine";

/// Which entries are read.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// Those of sessions with exactly this name, and gaps.
    pub name: Option<Vec<u8>>,
    /// Those of sessions with exactly this home, and gaps.
    pub home: Option<Vec<u8>>,
    /// Those that happened at this time or later, ns since 1970.
    pub since_ns: Option<i64>,
    /// Those that happened before this time, ns since 1970.
    pub until_ns: Option<i64>,
    /// Only ends of sessions and primaries, what these left, and gaps.
    pub ends: bool,
}

/// A read-only connection to one stream.
pub struct JournalReader {
    conn: Connection,
    stream_id: Arc<str>,
}

impl JournalReader {
    /// Opens the file at `path`; the error ends with the next step. A reader stays with its stream, also when the file is
    /// quarantined.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || {
            format!(
                "cannot read the journal {}; run it as root or as a member of the group observer, or name another with --journal-path",
                shown(path)
            )
        };
        match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "there is no journal {}; `observer run` makes it, or name another with --journal-path or --state-dir",
                shown(path)
            ),
            opened => drop(opened.with_context(context)?),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(Self::new);
        match opened {
            // The file was closed in order, and this user has no right to make the log's index in its directory. Nothing
            // changes the file then.
            Err(_) if !quarantine::suffixed(path, "-wal").exists() => {
                let flags = flags | OpenFlags::SQLITE_OPEN_URI;
                Connection::open_with_flags(immutable(path), flags).and_then(Self::new).with_context(context)
            }
            opened => opened.with_context(context),
        }
    }

    fn new(conn: Connection) -> rusqlite::Result<Self> {
        conn.busy_timeout(std::time::Duration::from_secs(2))?;
        conn.pragma_update(None, "cache_size", -512)?;
        let stream_id: String = tables::meta(&conn, "stream_id")?;
        Ok(Self { conn, stream_id: stream_id.into() })
    }

    /// The id of the stream.
    pub fn stream_id(&self) -> &Arc<str> {
        &self.stream_id
    }

    /// Entries after `seq` that `filter` selects, by number: at most `entries_max`, and no more once their details have
    /// `bytes_max` bytes. A gap that begins at or before `seq` is cut to what follows.
    pub fn read_after(
        &self,
        seq: u64,
        filter: &EntryFilter,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<NumberedEntry>> {
        self.read(seq, filter, entries_max, bytes_max).context(UNREADABLE)
    }

    fn read(
        &self,
        seq: u64,
        filter: &EntryFilter,
        entries_max: usize,
        bytes_max: usize,
    ) -> rusqlite::Result<Vec<NumberedEntry>> {
        // All columns, whichever they are: a file of version 2 has no uid.
        let mut query = self.conn.prepare_cached(
            "SELECT * FROM entry WHERE seq > ?1
                AND (?2 IS NULL OR name IS NULL OR name = ?2)
                AND (?3 IS NULL OR home IS NULL OR home = ?3)
                AND (?4 IS NULL OR at_unix_ns >= ?4)
                AND (?5 IS NULL OR at_unix_ns < ?5)
                AND (NOT ?6 OR kind IN ('session_ended', 'process_ended', 'session_left', 'gap', 'gap_closed')
                    OR (kind = 'session_started' AND instr(detail, '\"restarts\":') > 0))
             ORDER BY seq LIMIT ?7",
        )?;
        let limit = i64::try_from(entries_max).unwrap_or(i64::MAX);
        let mut rows = query.query(rusqlite::params![
            seq.cast_signed(),
            filter.name,
            filter.home,
            filter.since_ns,
            filter.until_ns,
            filter.ends,
            limit
        ])?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let mut numbered = tables::decode(row)?;
            if numbered.entry.kind == EntryKind::Gap {
                clip(&mut numbered.entry, seq);
            }
            bytes += numbered.entry.detail.len();
            found.push(numbered);
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    }

    /// Homes whose sessions have the name of `filter` in its time.
    pub fn homes(&self, filter: &EntryFilter) -> Result<Vec<Vec<u8>>> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            let mut query = self.conn.prepare(
                "SELECT DISTINCT home FROM entry WHERE home IS NOT NULL AND name = ?1
                    AND (?2 IS NULL OR at_unix_ns >= ?2) AND (?3 IS NULL OR at_unix_ns < ?3) ORDER BY home",
            )?;
            let values = rusqlite::params![filter.name, filter.since_ns, filter.until_ns];
            query.query_map(values, |row| row.get(0))?.collect()
        };
        read().context(UNREADABLE)
    }

    /// What the file knows of sessions, as a daemon reads it when it starts in the boot `boot_id`.
    pub fn resumed(&self, boot_id: &str) -> Result<Resumed> {
        let read = || -> rusqlite::Result<Resumed> {
            let live = live::read(&self.conn)?;
            let proofs = live::read_proofs(&self.conn, LostEntries::read(&self.conn)?)?;
            let ended = live::read_ended(&self.conn, boot_id, &live)?;
            let newest = tables::extent(&self.conn)?;
            let until_ns = (newest.last_seq > 0).then_some(newest.last_at_ns);
            let left = live::read_left(&self.conn, boot_id)?;
            let births = tables::births(&self.conn, boot_id)?;
            Ok(Resumed { live: live.into_values().collect(), proofs, ended, left, births, until_ns })
        };
        read().context(UNREADABLE)
    }

    /// The newest entries of sessions, at most `entries_max` of the last `look_back` numbers, newest first: all those of the
    /// home, or the ends and restarts of all.
    pub fn newest(
        &self,
        home: Option<&[u8]>,
        look_back: u64,
        entries_max: usize,
    ) -> Result<Vec<NumberedEntry>> {
        let read = || -> rusqlite::Result<Vec<NumberedEntry>> {
            let mut query = self.conn.prepare_cached(
                "SELECT * FROM entry WHERE seq > (SELECT ifnull(max(seq), 0) FROM entry) - ?1 AND home IS NOT NULL
                    AND CASE WHEN ?2 IS NOT NULL THEN home = ?2 ELSE kind IN ('session_ended', 'process_ended')
                        OR (kind = 'session_started' AND instr(detail, '\"restarts\":') > 0) END
                 ORDER BY seq DESC LIMIT ?3",
            )?;
            let limit = i64::try_from(entries_max).unwrap_or(i64::MAX);
            let values = rusqlite::params![look_back.cast_signed(), home, limit];
            query.query_map(values, tables::decode)?.collect()
        };
        read().context(UNREADABLE)
    }

    /// Last entries of the sessions that live according to the file, and when the newest entry of all happened, ns since 1970.
    /// None in a file of another version.
    pub fn live(&self) -> Result<(Vec<Entry>, Option<i64>)> {
        let read = || -> rusqlite::Result<(Vec<Entry>, Option<i64>)> {
            let newest = tables::extent(&self.conn)?;
            let newest_ns = (newest.last_seq > 0).then_some(newest.last_at_ns);
            let live =
                if self.of_this_version().is_ok() { live::read(&self.conn)? } else { LiveSessions::new() };
            Ok((live.into_values().collect(), newest_ns))
        };
        read().context(UNREADABLE)
    }

    /// Checks that sessions can be read from the file, and not only its entries.
    pub fn of_this_version(&self) -> Result<()> {
        let read = self.conn.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0));
        match read.context(UNREADABLE)? {
            tables::SCHEMA_VERSION => Ok(()),
            version => bail!(
                "the journal is of version {version}, and this program reads sessions from version {}: start this \
                 program's daemon on it, which migrates it",
                tables::SCHEMA_VERSION
            ),
        }
    }

    /// Whether an entry concerns this home.
    pub fn knows_home(&self, home: &[u8]) -> Result<bool> {
        let read = self
            .conn
            .query_row("SELECT EXISTS (SELECT 1 FROM entry WHERE home = ?)", [home], |row| row.get(0));
        read.context(UNREADABLE)
    }
}

/// The URI that opens a file as one that nobody changes.
fn immutable(path: &Path) -> PathBuf {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
    let path = percent_encode(path.as_os_str().as_encoded_bytes(), ESCAPED);
    format!("file:{path}?immutable=1").into()
}

/// Cuts the numbers that a gap entry covers to those after `seq`.
fn clip(entry: &mut Entry, seq: u64) {
    // Another version may have written it: what this one does not know of the detail is kept.
    let Ok(serde_json::Value::Object(mut detail)) = serde_json::from_str(&entry.detail) else { return };
    let number = |name| detail.get(name).and_then(serde_json::Value::as_u64);
    if let (Some(from), Some(to)) = (number("from_seq"), number("to_seq"))
        && from <= seq
    {
        detail.insert("from_seq".into(), seq.saturating_add(1).into());
        detail.insert("count".into(), to.saturating_sub(seq).into());
        entry.detail = serde_json::Value::Object(detail).to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_uri_keeps_its_slashes_and_escapes_what_uris_give_a_meaning() {
        let uri = |path: &str| immutable(Path::new(path)).into_os_string().into_string().unwrap();
        assert_eq!(uri("/var/lib/x-1_2/journal.db"), "file:/var/lib/x-1_2/journal.db?immutable=1");
        assert_eq!(uri("/a b?c#d%e/é"), "file:/a%20b%3Fc%23d%25e/%C3%A9?immutable=1");
    }
}

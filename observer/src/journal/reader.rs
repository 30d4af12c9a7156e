//! Reading what is committed, beside the writer and without the daemon. Each batch is a short transaction of its
//! own: a reader that pauses holds nothing up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags, Row};

use super::{Entry, Gap, aside, file};

/// An entry with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// From 1; a number that is missing is covered by the gap entry that follows.
    pub seq: u64,
    /// The rest.
    pub entry: Entry,
}

/// What of the journal is wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Exactly this name, beside gaps.
    pub name: Option<Vec<u8>>,
    /// Exactly this home, beside gaps.
    pub home: Option<Vec<u8>>,
    /// No earlier, ns since 1970.
    pub since_ns: Option<i64>,
    /// Earlier.
    pub until_ns: Option<i64>,
    /// Ends and gaps only.
    pub ends: bool,
}

/// A read-only connection to one stream.
pub struct Reader {
    conn: Connection,
    stream_id: Arc<str>,
}

impl Reader {
    /// Opens the file at `path`; the error ends with the next step. A reader stays with its stream, also when the
    /// file is set aside.
    pub fn open(path: &Path) -> Result<Self> {
        let told = || {
            format!(
                "cannot read the journal {}; run it as root or as a member of the group observer, or name another with --journal-path",
                file::shown(path)
            )
        };
        match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "there is no journal {}; `observer run` makes it, or name another with --journal-path or --state-dir",
                file::shown(path)
            ),
            opened => drop(opened.with_context(told)?),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let live = Connection::open_with_flags(path, flags).and_then(Self::of);
        match live {
            // Closed in order, and no right to make the index in that directory: nothing changes the file.
            Err(_) if !aside::suffixed(path, "-wal").exists() => {
                let flags = flags | OpenFlags::SQLITE_OPEN_URI;
                Connection::open_with_flags(immutable(path), flags).and_then(Self::of).with_context(told)
            }
            live => live.with_context(told),
        }
    }

    fn of(conn: Connection) -> rusqlite::Result<Self> {
        conn.busy_timeout(std::time::Duration::from_secs(2))?;
        conn.pragma_update(None, "cache_size", -512)?;
        let stream_id: String = file::meta(&conn, "stream_id")?;
        Ok(Self { conn, stream_id: stream_id.into() })
    }

    /// The stream's id.
    pub fn stream_id(&self) -> &Arc<str> {
        &self.stream_id
    }

    /// Entries after `seq` that `filter` wants, by number: at most `entries_max`, and no more once they have
    /// `bytes_max`. A gap that begins before what was asked for is told from there on.
    pub fn read_after(
        &self,
        seq: u64,
        filter: &Filter,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Stored>> {
        self.read(seq, filter, entries_max, bytes_max).context("cannot read the journal; is its disk well?")
    }

    fn read(
        &self,
        seq: u64,
        filter: &Filter,
        entries_max: usize,
        bytes_max: usize,
    ) -> rusqlite::Result<Vec<Stored>> {
        let mut query = self.conn.prepare_cached(
            "SELECT seq, at_unix_ns, boottime_ns, boot_id, kind, home, name, pid, start_boottime_ns, detail,
                home_mnt_ns
             FROM entry WHERE seq > ?1
                AND (?2 IS NULL OR name IS NULL OR name = ?2)
                AND (?3 IS NULL OR home IS NULL OR home = ?3)
                AND (?4 IS NULL OR at_unix_ns >= ?4)
                AND (?5 IS NULL OR at_unix_ns < ?5)
                AND (NOT ?6 OR kind IN ('session_ended', 'process_ended', 'gap', 'gap_closed'))
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
            let mut stored = stored(row)?;
            if stored.entry.kind == "gap" {
                clip(&mut stored, seq);
            }
            bytes += stored.entry.detail.len();
            found.push(stored);
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    }

    /// Homes with `filter`'s name in its time.
    pub fn homes(&self, filter: &Filter) -> Result<Vec<Vec<u8>>> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            let mut query = self.conn.prepare(
                "SELECT DISTINCT home FROM entry WHERE home IS NOT NULL AND name = ?1
                    AND (?2 IS NULL OR at_unix_ns >= ?2) AND (?3 IS NULL OR at_unix_ns < ?3) ORDER BY home",
            )?;
            let values = rusqlite::params![filter.name, filter.since_ns, filter.until_ns];
            query.query_map(values, |row| row.get(0))?.collect()
        };
        read().context("cannot read the journal; is its disk well?")
    }

    /// Whether an entry has this home.
    pub fn knows_home(&self, home: &[u8]) -> Result<bool> {
        let read = self
            .conn
            .query_row("SELECT EXISTS (SELECT 1 FROM entry WHERE home = ?)", [home], |row| row.get(0));
        read.context("cannot read the journal; is its disk well?")
    }
}

/// A URI for a file that nobody changes.
fn immutable(path: &Path) -> PathBuf {
    let escape = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    let path: String = path.as_os_str().as_encoded_bytes().iter().map(escape).collect();
    format!("file:{path}?immutable=1").into()
}

/// A row of these columns: seq, at_unix_ns, boottime_ns, boot_id, kind, home, name, pid, start_boottime_ns, detail,
/// home_mnt_ns.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let unsigned = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(Stored {
        seq: unsigned(0)?,
        entry: Entry {
            at_unix_ns: row.get(1)?,
            boottime_ns: unsigned(2)?,
            boot_id: row.get(3)?,
            kind: row.get(4)?,
            home: row.get(5)?,
            name: row.get(6)?,
            pid: row.get(7)?,
            start_boottime_ns: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
            detail: row.get(9)?,
            home_mnt_ns: row.get(10)?,
        },
    })
}

/// Of a gap that covers numbers, only those after `seq` are news.
fn clip(stored: &mut Stored, seq: u64) {
    let Ok(mut gap) = serde_json::from_str::<Gap>(&stored.entry.detail) else { return };
    if let (Some(from), Some(to)) = (gap.from_seq, gap.to_seq)
        && from <= seq
    {
        gap.from_seq = Some(seq + 1);
        gap.count = Some(to.saturating_sub(seq));
        let Entry { at_unix_ns, boottime_ns, boot_id, .. } = &stored.entry;
        stored.entry = file::gap_entry(&gap, *at_unix_ns, *boottime_ns, boot_id);
    }
}

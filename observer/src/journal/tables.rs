//! The tables of the file: their schema, and how rows become values and values become rows.

use observer_core::ProcessKey;
use observer_core::session::Home;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, named_params, params};

use super::bounds::BIRTHS_BYTES_MAX;
use crate::api::entry::{Entry, NumberedEntry, Subject};
use crate::api::words::EntryKind;
use crate::text::time::unix_ns;

/// Version of the tables below, in the file's `user_version`.
pub const SCHEMA_VERSION: i32 = 3;

/// Large columns come last, so that a search by the other columns does not read them.
pub const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
    CREATE TABLE entry (
        seq INTEGER PRIMARY KEY,
        at_unix_ns INTEGER NOT NULL,
        boottime_ns INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name BLOB,
        pid INTEGER,
        start_boottime_ns INTEGER,
        boot_id TEXT NOT NULL,
        home_mnt_ns INTEGER,
        uid INTEGER,
        instance INTEGER,
        home BLOB,
        detail TEXT NOT NULL
    ) STRICT;";

/// Each number by a query of its own: where one query asks for both, SQLite reads the whole table.
pub const EXTENT: &str =
    "SELECT ifnull((SELECT min(seq) FROM entry), 0), ifnull((SELECT max(seq) FROM entry), 0),
    ifnull((SELECT at_unix_ns FROM entry ORDER BY seq DESC LIMIT 1), 0)";

/// The oldest entry after a number.
pub const UNDELIVERED: &str = "SELECT at_unix_ns, detail FROM entry WHERE seq > ? ORDER BY seq LIMIT 1";

/// What an entry takes beside its texts, bytes.
const ENTRY_BYTES: usize = 256;

/// In SQL, what an entry takes of the file, as [`bytes`] estimates it.
pub const BYTES: &str = "(octet_length(detail) + ifnull(octet_length(home), 0) + 256)";

/// In SQL, whether an entry is the gap that a bound left in the place of others.
pub const IS_REMOVAL: &str = r#"(kind = 'gap' AND instr(detail, '"reason":"retention_') > 0)"#;

/// Estimates what an entry takes of the file, bytes.
pub fn bytes(entry: &Entry) -> u64 {
    let home = entry.subject.as_ref().map_or(0, |subject| subject.home.len());
    (entry.detail.len() + home + ENTRY_BYTES) as u64
}

/// What the table `entry` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableExtent {
    /// Number of the oldest entry; 0: there is none.
    pub oldest_seq: u64,
    /// Number of the newest entry; 0: there is none.
    pub last_seq: u64,
    /// When the newest entry happened, ns since 1970; 0: there is none.
    pub last_at_ns: i64,
}

/// Reads which entries the file holds.
pub fn extent(conn: &Connection) -> rusqlite::Result<TableExtent> {
    let number = |row: &Row<'_>, at| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
    conn.prepare_cached(EXTENT)?.query_row((), |row| {
        Ok(TableExtent { oldest_seq: number(row, 0)?, last_seq: number(row, 1)?, last_at_ns: row.get(2)? })
    })
}

/// The value of `key` in the table `meta`.
pub fn meta<T: FromSql>(conn: &Connection, key: &str) -> rusqlite::Result<T> {
    conn.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
}

/// The text of `key` in the table `meta`; empty where there is none.
pub fn meta_text(conn: &Connection, key: &str) -> rusqlite::Result<String> {
    conn.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}

/// What the last daemon left of births.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedBirths {
    /// As it was written; empty where there is nothing.
    pub text: String,
    /// Bytes of what is there and was not read, because it is longer than [`BIRTHS_BYTES_MAX`]; else 0.
    pub unread_bytes: u64,
    /// A daemon ran in this boot and left nothing, because it was killed, or its file is not this one.
    pub is_missing: bool,
}

/// What the last daemon left of births. It ran in the boot `boot_id` if the newest entry is of that.
pub fn births(conn: &Connection, boot_id: &str) -> rusqlite::Result<RecordedBirths> {
    let read = "SELECT iif(octet_length(value) <= ?2, value, ''), iif(octet_length(value) <= ?2, 0, octet_length(value))
        FROM meta WHERE key = ?1";
    let bytes_max = i64::try_from(BIRTHS_BYTES_MAX).unwrap_or(i64::MAX);
    let births = |row: &Row<'_>| {
        let (text, unread_bytes) = (row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs());
        Ok(RecordedBirths { text, unread_bytes, is_missing: false })
    };
    if let Some(births) = conn.query_row(read, params![BIRTHS, bytes_max], births).optional()? {
        return Ok(births);
    }
    let newest = "SELECT boot_id FROM entry ORDER BY seq DESC LIMIT 1";
    let newest: Option<String> = conn.query_row(newest, (), |row| row.get(0)).optional()?;
    Ok(RecordedBirths { is_missing: newest.as_deref() == Some(boot_id), ..RecordedBirths::default() })
}

/// Removes what the last daemon left of births.
pub fn forget_births(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM meta WHERE key = ?", [BIRTHS]).map(|_| ())
}

/// Sets the value of `key` in the table `meta`.
pub fn set_meta(conn: &Connection, key: &str, value: impl ToSql) -> rusqlite::Result<()> {
    conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", params![key, value]).map(|_| ())
}

/// The key in the table `meta` of what a daemon that ended knew of births in sessions, for the next one.
pub const BIRTHS: &str = "births";

/// Writes `entry` under the number `seq`.
pub fn insert(conn: &Connection, seq: u64, entry: &Entry) -> rusqlite::Result<()> {
    let subject = entry.subject.as_ref();
    let mut insert = conn.prepare_cached(
        "INSERT INTO entry (seq, at_unix_ns, boottime_ns, kind, name, pid, start_boottime_ns, boot_id, home_mnt_ns,
            uid, instance, home, detail)
         VALUES (:seq, :at_unix_ns, :boottime_ns, :kind, :name, :pid, :start_boottime_ns, :boot_id, :home_mnt_ns,
            :uid, :instance, :home, :detail)",
    )?;
    insert
        .execute(named_params! {
            ":seq": seq.cast_signed(),
            ":at_unix_ns": entry.at_unix_ns,
            ":boottime_ns": entry.boottime_ns.cast_signed(),
            ":kind": entry.kind.as_str(),
            ":name": subject.map(|it| &it.name),
            ":pid": subject.map(|it| it.process.tgid.0),
            ":start_boottime_ns": subject.map(|it| it.process.start_boottime.0.cast_signed()),
            ":boot_id": entry.boot_id,
            ":home_mnt_ns": subject.and_then(|it| it.home_mnt_ns),
            ":uid": subject.and_then(|it| it.uid),
            ":instance": subject.map(|it| it.instance),
            ":home": subject.map(|it| &it.home),
            ":detail": entry.detail,
        })
        .map(|_| ())
}

/// The entry in a row that has the columns of the table `entry`, by their names. A row that names its session in part
/// only is an entry without a session. The columns `uid` and `instance` may be missing: readers open files of version 2 as
/// well.
pub fn decode(row: &Row<'_>) -> rusqlite::Result<NumberedEntry> {
    let unsigned = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(NumberedEntry {
        seq: unsigned("seq")?,
        entry: Entry {
            at_unix_ns: row.get("at_unix_ns")?,
            boottime_ns: unsigned("boottime_ns")?,
            boot_id: row.get("boot_id")?,
            kind: EntryKind::from(row.get_ref("kind")?.as_str()?),
            subject: decode_subject(row)?,
            detail: row.get("detail")?,
        },
    })
}

fn decode_subject(row: &Row<'_>) -> rusqlite::Result<Option<Subject>> {
    let (home, name) = (row.get("home")?, row.get("name")?);
    let (pid, start) = (row.get("pid")?, row.get::<_, Option<i64>>("start_boottime_ns")?);
    let (Some(home), Some(name), Some(pid), Some(start)) = (home, name, pid, start) else { return Ok(None) };
    let process = ProcessKey::new(pid, start.cast_unsigned());
    let number = |column| match row.as_ref().column_index(column) {
        Ok(column) => row.get(column),
        Err(_) => Ok(None),
    };
    let (uid, instance) = (number("uid")?, number("instance")?.unwrap_or(Home::FIRST));
    Ok(Some(Subject { home, home_mnt_ns: row.get("home_mnt_ns")?, uid, instance, name, process }))
}

/// When the oldest entry after `acknowledged` became known, ns since 1970; `None`: there is none.
pub fn undelivered_since(conn: &Connection, acknowledged: u64) -> rusqlite::Result<Option<i64>> {
    #[derive(serde::Deserialize)]
    struct Found {
        found_at: Option<String>,
    }
    let mut query = conn.prepare_cached(UNDELIVERED)?;
    let mut rows = query.query([acknowledged.cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (at_ns, detail): (i64, String) = (row.get(0)?, row.get(1)?);
    let found = serde_json::from_str::<Found>(&detail).ok().and_then(|found| unix_ns(&found.found_at?));
    Ok(Some(found.map_or(at_ns, |found_ns| found_ns.max(at_ns))))
}

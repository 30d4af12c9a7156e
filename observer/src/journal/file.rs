//! The SQLite file: opened, made, judged.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::instance::{Instance, Lock, Note};
use super::live::Live;
use super::{Entry, Gap, Options, Unusable, aside, bounds, live};
use crate::clock;
use crate::text::time::unix_rfc3339;

/// Says in the file's header whose it is: "obsv".
const APPLICATION_ID: i32 = 0x6f62_7376;
/// Of the tables below.
const SCHEMA_VERSION: i32 = 2;
/// Who may read history beside the daemon's user.
const GROUP: &str = "observer";
/// For a lock that another connection holds for moments.
const BUSY_WAIT: Duration = Duration::from_secs(2);
/// Large columns come last: a search by the others does not read them.
const SCHEMA: &str = "
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
        home BLOB,
        detail TEXT NOT NULL
    ) STRICT;";

/// An open journal.
pub struct Opened {
    pub conn: Connection,
    pub stream_id: Arc<str>,
    /// 0: none.
    pub oldest_seq: u64,
    /// 0: none.
    pub last_seq: u64,
    /// Number of the newest entry that the mirror was known to have; 0: none.
    pub delivered: u64,
    /// How often it was opened, this time included.
    pub opens: u64,
    /// The time without a daemon, whose end is to be filled in; and its beginning, ns since 1970.
    pub absence: Option<(Gap, i64)>,
    /// It ends before the number that was committed last.
    pub lost_to_seq: Option<u64>,
    /// Sessions that it says live.
    pub live: Live,
    /// It was not made just now: whether it is whole is not known.
    pub unchecked: bool,
}

/// Why a stream ended and another begins.
#[derive(Clone, Debug, Default)]
pub struct Reason {
    /// A word of [`Gap::reason`].
    pub word: &'static str,
    pub message: String,
    /// The stream that ended, as far as it is known.
    pub previous: Option<String>,
}

/// Why a file is not used.
enum Unfit {
    /// It goes aside.
    Aside(Reason),
    /// It stays as it is.
    No(Unusable),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        match trouble(&error) {
            Trouble::Corrupt => {
                Self::Aside(Reason { word: "corrupt", message: error.to_string(), previous: None })
            }
            Trouble::Full | Trouble::Other => Self::No(Unusable::Now(error.into())),
        }
    }
}

/// What an error of SQLite asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The file is no good any more.
    Corrupt,
    /// No room: it may come back.
    Full,
    /// Anything else that may pass.
    Other,
}

/// Judges an error.
pub fn trouble(error: &rusqlite::Error) -> Trouble {
    /// SQLITE_IOERR_SHORT_READ: the file ends before it should.
    const SHORT_READ: i32 = 522;
    /// SQLITE_IOERR_SHMSIZE: there is no room for the write-ahead log's index.
    const SHM_SIZE: i32 = 4_874;
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            _ if failure.extended_code == SHORT_READ => Trouble::Corrupt,
            _ if failure.extended_code == SHM_SIZE => Trouble::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation => {
                Trouble::Corrupt
            }
            ErrorCode::DiskFull => Trouble::Full,
            // A missing table.
            ErrorCode::Unknown => Trouble::Corrupt,
            _ => Trouble::Other,
        },
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::FromSqlConversionFailure(..) => Trouble::Corrupt,
        _ => Trouble::Other,
    }
}

/// The word for an error that kept the journal from being opened or written.
pub fn reason(error: &anyhow::Error) -> &'static str {
    let full = error.chain().any(|cause| {
        let sqlite = cause.downcast_ref::<rusqlite::Error>().map(trouble);
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        sqlite == Some(Trouble::Full)
            || matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    });
    if full { "disk_full" } else { "write_failed" }
}

/// Opens the file, or makes it; one that cannot be used goes aside.
pub fn open(options: &Options, instance: &Instance, lock: &Lock) -> Result<Opened, Unusable> {
    let path = &options.path;
    let known = instance.opens.is_some_and(|opens| opens > 0);
    let made = match path.try_exists() {
        Err(error) => Err(error.into()),
        Ok(false) => {
            let reason = known.then(|| Reason {
                word: "lost",
                message: "the journal that was here is gone".into(),
                previous: None,
            });
            create(options, instance, lock, reason)
        }
        Ok(true) => match load(options, instance, lock) {
            Ok(opened) => Ok(opened),
            Err(Unfit::No(unusable)) => return Err(unusable),
            Err(Unfit::Aside(reason)) => begin_anew(options, instance, lock, reason),
        },
    };
    made.map_err(Unusable::Now)
}

/// Sets the file aside and makes a new one. No connection to it may be open.
pub fn begin_anew(options: &Options, instance: &Instance, lock: &Lock, reason: Reason) -> Result<Opened> {
    if options.path.try_exists()? {
        let to = aside::set_aside(&options.path, options.dir(), clock::realtime_ns())
            .context("cannot set the journal aside")?;
        eprintln!(
            "observer: warning: the journal cannot go on ({}: {}); it is kept as {}, and a new one begins",
            reason.word,
            reason.message,
            to.display()
        );
    }
    create(options, instance, lock, Some(reason))
}

/// A connection that writes.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_WAIT)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -512)?;
    Ok(conn)
}

/// WAL, and every commit on the disk before it counts: what the mirror has, this file has too, after a power loss
/// as well.
fn configure(conn: &Connection, options: &Options) -> rusqlite::Result<()> {
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", bounds::CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", bounds::wal_reserve(options.max_bytes).cast_signed())
}

/// The file as it is.
fn load(options: &Options, instance: &Instance, lock: &Lock) -> Result<Opened, Unfit> {
    let conn = connect(&options.path)?;
    let integer = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (integer("application_id")?, integer("user_version")?);
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if tables == 0 && application == 0 {
        let message = "it is empty".into();
        return Err(Unfit::Aside(Reason { word: "corrupt", message, previous: None }));
    }
    if application != APPLICATION_ID {
        let path = options.path.display();
        return Err(Unfit::No(Unusable::Ever(anyhow::anyhow!(
            "{path} is a database, and not observer's; name another file with --journal-path"
        ))));
    }
    let previous = meta::<String>(&conn, "stream_id").ok();
    if version != SCHEMA_VERSION {
        let word = if version > SCHEMA_VERSION { "newer_schema" } else { "older_schema" };
        let message = format!("its schema is version {version}, this observer's is {SCHEMA_VERSION}");
        return Err(Unfit::Aside(Reason { word, message, previous }));
    }
    let (of, opens) = (meta::<String>(&conn, "instance_id")?, meta::<i64>(&conn, "opens")?);
    let opens = u64::try_from(opens).unwrap_or(0);
    // It is counted in the journal first: an end in between, however often, leaves it one ahead.
    let known = instance.opens.unwrap_or(0);
    if of != instance.id || (opens != known && opens != known + 1) {
        let message =
            "it is a copy, or its log is gone: this directory's own journal was another, or a later one";
        return Err(Unfit::Aside(Reason { word: "restored", message: message.into(), previous }));
    }
    configure(&conn, options)?;
    let (oldest_seq, last_seq, last_at_ns) = extent(&conn)?;
    let closed_at_ns: i64 = meta(&conn, "closed_at_ns")?;
    set_meta(&conn, "opens", known.cast_signed() + 1)?;
    let stream_id: Arc<str> = meta::<String>(&conn, "stream_id")?.into();
    let note = &lock.before;
    let lost_to_seq = Some(note.last_seq).filter(|&seq| note.stream_id == *stream_id && seq > last_seq);
    let (from_ns, message) = match closed_at_ns {
        _ if lost_to_seq.is_some() || note.complete_ns == 0 => {
            (last_at_ns, "observer ended without being stopped")
        }
        0 => (note.complete_ns, "observer ended without being stopped"),
        closed_at_ns => (closed_at_ns, "observer was stopped"),
    };
    let absence = Gap {
        reason: "not_running".into(),
        from: unix_rfc3339(from_ns),
        message: Some(message.into()),
        ..Gap::default()
    };
    let live = live::read(&conn)?;
    let delivered = if note.stream_id == *stream_id { note.delivered.min(last_seq) } else { 0 };
    Ok(Opened {
        conn,
        stream_id,
        oldest_seq,
        last_seq,
        delivered,
        opens: known + 1,
        absence: Some((absence, from_ns)),
        lost_to_seq,
        live,
        unchecked: true,
    })
}

/// A new file; if there is a `reason`, a gap is its first entry. It is there whole or not at all.
fn create(options: &Options, instance: &Instance, lock: &Lock, reason: Option<Reason>) -> Result<Opened> {
    let new = aside::suffixed(&options.path, ".new");
    for part in ["", "-journal", "-wal", "-shm"] {
        match std::fs::remove_file(aside::suffixed(&new, part)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let file = File::options().create_new(true).write(true).mode(0o640).open(&new)?;
    // The group exists where the service was installed. SQLite gives log and index the owner and mode of the file.
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        let _ = std::os::unix::fs::fchown(&file, None, Some(group.gid.as_raw()));
    }
    drop(file);
    let stream_id = uuid::Uuid::new_v4().to_string();
    let opens = instance.opens.unwrap_or(0) + 1;
    let last_seq = u64::from(reason.is_some());
    let mut conn = connect(&new)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let tx = conn.transaction()?;
    tx.execute_batch(SCHEMA)?;
    tx.execute_batch(live::SCHEMA)?;
    set_meta(&tx, "stream_id", &stream_id)?;
    set_meta(&tx, "instance_id", &instance.id)?;
    set_meta(&tx, "opens", opens.cast_signed())?;
    set_meta(&tx, "closed_at_ns", 0)?;
    if let Some(reason) = reason {
        bounds::add(&tx, last_seq, &began(reason, lock.last(), options))?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()?;
    conn.close().map_err(|(_, error)| error)?;
    std::fs::rename(&new, &options.path)?;
    File::open(options.dir()).and_then(|dir| dir.sync_all())?;
    let conn = connect(&options.path)?;
    configure(&conn, options)?;
    let (stream_id, live) = (stream_id.into(), Live::new());
    Ok(Opened {
        conn,
        stream_id,
        oldest_seq: last_seq,
        last_seq,
        delivered: 0,
        opens,
        absence: None,
        lost_to_seq: None,
        live,
        unchecked: false,
    })
}

/// The first entry of a stream that follows another, of which `last` is known.
fn began(reason: Reason, last: &Note, options: &Options) -> Entry {
    let now_ns = i64::try_from(clock::realtime_ns()).unwrap_or(0);
    let previous = reason.previous.or_else(|| Some(last.stream_id.clone()).filter(|id| !id.is_empty()));
    // Of one that the mirror is ahead of, what is known is as old as the copy.
    let known = previous.as_ref() == Some(&last.stream_id) && reason.word != "mirror_ahead";
    let gap = Gap {
        reason: reason.word.into(),
        to: unix_rfc3339(now_ns),
        count: known.then(|| last.last_seq.saturating_sub(last.delivered)),
        previous_stream_id: previous,
        message: Some(reason.message),
        ..Gap::default()
    };
    gap_entry(&gap, now_ns, clock::boottime().0, &options.boot_id)
}

/// Whether every page can be read and makes sense; the error says what does not.
pub fn check(conn: &Connection) -> Result<()> {
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if verdict != "ok" {
        bail!("{verdict}");
    }
    Ok(())
}

/// Notes that nothing is missing up to this moment.
pub fn close(conn: Connection, complete_ns: i64) {
    // If it fails, the next start tells of an end without a stop: that is so.
    let _ = set_meta(&conn, "closed_at_ns", complete_ns);
}

/// Each by itself: asked for both at once, SQLite reads the whole table.
pub const EXTENT: &str =
    "SELECT ifnull((SELECT min(seq) FROM entry), 0), ifnull((SELECT max(seq) FROM entry), 0),
    ifnull((SELECT at_unix_ns FROM entry ORDER BY seq DESC LIMIT 1), 0)";

/// Oldest and newest number, and when the newest was; 0 where there is none.
pub fn extent(conn: &Connection) -> rusqlite::Result<(u64, u64, i64)> {
    let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
    let mut query = conn.prepare_cached(EXTENT)?;
    query.query_row((), |row| Ok((number(row, 0)?, number(row, 1)?, row.get(2)?)))
}

/// A fact of the file.
pub fn meta<T: rusqlite::types::FromSql>(conn: &Connection, key: &str) -> rusqlite::Result<T> {
    conn.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
}

pub fn set_meta(conn: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", params![key, value]).map(|_| ())
}

/// An entry of kind `gap`.
pub fn gap_entry(gap: &Gap, at_unix_ns: i64, boottime_ns: u64, boot_id: &str) -> Entry {
    #[derive(serde::Serialize)]
    struct Detail<'a> {
        at: Option<String>,
        kind: &'a str,
        boot_id: &'a str,
        #[serde(flatten)]
        gap: &'a Gap,
    }
    let detail = Detail { at: unix_rfc3339(at_unix_ns), kind: "gap", boot_id, gap };
    Entry {
        at_unix_ns,
        boottime_ns,
        boot_id: boot_id.into(),
        kind: "gap".into(),
        // Strings and numbers: serialising them cannot fail.
        detail: serde_json::to_string(&detail).unwrap_or_default(),
        ..Entry::default()
    }
}

/// For errors that name the file.
pub fn shown(path: &Path) -> String {
    crate::text::bytes::to_line(path.as_os_str().as_encoded_bytes()).into_owned()
}

//! The SQLite file: opened, made, judged.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::instance::Instance;
use super::{Committed, Entry, Gap, Options, aside, bounds};
use crate::clock;
use crate::show::time::unix_rfc3339;

/// Says in the file's header whose it is: "obsv".
const APPLICATION_ID: i32 = 0x6f62_7376;
/// Of the tables below.
const SCHEMA_VERSION: i32 = 1;
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
    /// How often it was opened, this time included.
    pub opens: u64,
    /// What is to be said first.
    pub first: Option<Entry>,
    /// It was not made just now: whether it is whole is not known.
    pub unchecked: bool,
}

impl Opened {
    pub fn committed(&self) -> Committed {
        Committed {
            stream_id: Arc::clone(&self.stream_id),
            oldest_seq: self.oldest_seq,
            last_seq: self.last_seq,
        }
    }
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
    /// The operator decides.
    Refuse(anyhow::Error),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        match trouble(&error) {
            Trouble::Corrupt => {
                Self::Aside(Reason { word: "corrupt", message: error.to_string(), previous: None })
            }
            Trouble::Full | Trouble::Other => Self::Refuse(error.into()),
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
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            _ if failure.extended_code == SHORT_READ => Trouble::Corrupt,
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

/// Opens the file, or makes it; one that cannot be used goes aside. Errors end with the next step.
pub fn open(options: &Options, instance: &Instance) -> Result<Opened> {
    let path = &options.path;
    let told = || {
        format!(
            "cannot use the journal {}; look at its rights and the space on its disk, or name another with --journal-path",
            path.display()
        )
    };
    if !path.try_exists().with_context(told)? {
        let reason = instance.opens.is_some_and(|opens| opens > 0).then(|| Reason {
            word: "lost",
            message: "the journal that was here is gone".into(),
            previous: None,
        });
        return create(options, instance, reason).with_context(told);
    }
    match load(options, instance) {
        Ok(Some(opened)) => Ok(opened),
        Ok(None) => create(options, instance, None).with_context(told),
        Err(Unfit::Refuse(error)) => Err(error).with_context(told),
        Err(Unfit::Aside(reason)) => begin_anew(options, instance, reason).with_context(told),
    }
}

/// Sets the file aside and makes a new one. No connection to it may be open.
pub fn begin_anew(options: &Options, instance: &Instance, reason: Reason) -> Result<Opened> {
    let to = aside::set_aside(&options.path, clock::realtime_ns()).context("cannot set the journal aside")?;
    eprintln!(
        "observer: warning: the journal cannot go on ({}: {}); it is kept as {}, and a new one begins",
        reason.word,
        reason.message,
        to.display()
    );
    create(options, instance, Some(reason))
}

/// A connection that writes.
fn connect(options: &Options) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&options.path, flags)?;
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

/// The file as it is; `None`: it holds nothing yet.
fn load(options: &Options, instance: &Instance) -> Result<Option<Opened>, Unfit> {
    let conn = connect(options)?;
    let integer = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (integer("application_id")?, integer("user_version")?);
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if tables == 0 && application == 0 {
        return Ok(None);
    }
    if application != APPLICATION_ID {
        return Err(Unfit::Refuse(anyhow::anyhow!("it is a database, and not observer's")));
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
        let message = "it is a copy: this directory's own journal was another, or a later one";
        return Err(Unfit::Aside(Reason { word: "restored", message: message.into(), previous }));
    }
    configure(&conn, options)?;
    let (oldest_seq, last_seq, last_at) = extent(&conn)?;
    let closed_at: i64 = meta(&conn, "closed_at_ns")?;
    set_meta(&conn, "opens", known.cast_signed() + 1)?;
    set_meta(&conn, "closed_at_ns", 0)?;
    let stream_id: Arc<str> = meta::<String>(&conn, "stream_id")?.into();
    let now_ns = i64::try_from(clock::realtime_ns()).unwrap_or(0);
    let clean = closed_at != 0;
    let gap = Gap {
        reason: "not_running".into(),
        from: unix_rfc3339(if clean { closed_at } else { last_at }),
        to: unix_rfc3339(now_ns),
        message: Some(
            if clean { "observer was stopped" } else { "observer ended without being stopped" }.into(),
        ),
        ..Gap::default()
    };
    let first = Some(gap_entry(&gap, now_ns, clock::boottime().0, &options.boot_id));
    Ok(Some(Opened { conn, stream_id, oldest_seq, last_seq, opens: known + 1, first, unchecked: true }))
}

/// A new file, with a gap for its first entry if there is a `reason`.
fn create(options: &Options, instance: &Instance, reason: Option<Reason>) -> Result<Opened> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o640).open(&options.path)?;
    // The group exists where the service was installed. SQLite gives log and index the owner and mode of the file.
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        let _ = std::os::unix::fs::fchown(&file, None, Some(group.gid.as_raw()));
    }
    drop(file);
    let mut conn = connect(options)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    configure(&conn, options)?;
    let stream_id = uuid::Uuid::new_v4().to_string();
    let now_ns = i64::try_from(clock::realtime_ns()).unwrap_or(0);
    let opens = instance.opens.unwrap_or(0) + 1;
    let tx = conn.transaction()?;
    tx.execute_batch(SCHEMA)?;
    set_meta(&tx, "stream_id", &stream_id)?;
    set_meta(&tx, "instance_id", &instance.id)?;
    set_meta(&tx, "opens", opens.cast_signed())?;
    set_meta(&tx, "closed_at_ns", 0)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()?;
    if let Some(dir) = options.path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all())?;
    }
    let first = reason.map(|reason| {
        let gap = Gap {
            reason: reason.word.into(),
            to: unix_rfc3339(now_ns),
            previous_stream_id: reason.previous,
            message: Some(reason.message),
            ..Gap::default()
        };
        gap_entry(&gap, now_ns, clock::boottime().0, &options.boot_id)
    });
    let stream_id = stream_id.into();
    Ok(Opened { conn, stream_id, oldest_seq: 0, last_seq: 0, opens, first, unchecked: false })
}

/// Whether every page can be read and makes sense; the error says what does not.
pub fn check(conn: &Connection) -> Result<()> {
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if verdict != "ok" {
        bail!("{verdict}");
    }
    Ok(())
}

/// Notes that nothing is missing up to now.
pub fn close(conn: Connection) {
    let now_ns = i64::try_from(clock::realtime_ns()).unwrap_or(0);
    // If it fails, the next start tells of an end without a stop: that is so.
    let _ = set_meta(&conn, "closed_at_ns", now_ns);
}

/// Oldest and newest number, and when the newest was; 0 where there is none.
pub fn extent(conn: &Connection) -> rusqlite::Result<(u64, u64, i64)> {
    let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
    conn.query_row(
        "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0),
            ifnull((SELECT at_unix_ns FROM entry ORDER BY seq DESC LIMIT 1), 0) FROM entry",
        (),
        |row| Ok((number(row, 0)?, number(row, 1)?, row.get(2)?)),
    )
}

/// A fact of the file.
pub fn meta<T: rusqlite::types::FromSql>(conn: &Connection, key: &str) -> rusqlite::Result<T> {
    conn.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
}

fn set_meta(conn: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
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

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("stream_id", &self.stream_id)
            .field("last_seq", &self.last_seq)
            .finish()
    }
}

/// For errors that name the file.
pub fn shown(path: &Path) -> String {
    crate::show::bytes::to_line(path.as_os_str().as_encoded_bytes()).into_owned()
}

//! The SQLite file: opens it or makes it, and decides whether one that exists can be used.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};
use tracing::warn;

use super::error::{OpenError, SqliteFault};
use super::identity::DirectoryIdentity;
use super::live::{LifeProofs, LiveSessions};
use super::lock::{DirectoryLock, Watermark};
use super::lost::LostEntries;
use super::options::JournalOptions;
use super::tables::{self, SCHEMA_VERSION, TableExtent, meta, set_meta};
use super::{bounds, live, migration, quarantine};
use crate::api::entry::{Entry, MissingEntries};
use crate::api::words::GapReason;
use crate::clock;
use crate::text::bytes::to_line;
use crate::text::time::unix_rfc3339;

/// Marks the file as observer's in its header: "obsv".
const APPLICATION_ID: i32 = 0x6f62_7376;
/// The group whose members may read history, beside the daemon's user.
const GROUP: &str = "observer";
/// How long a statement waits for a lock that another connection holds.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// An open journal.
pub struct OpenedFile {
    /// The connection that writes.
    pub conn: Connection,
    /// The stream.
    pub stream_id: Arc<str>,
    /// Number of the oldest entry; 0: there is none.
    pub oldest_seq: u64,
    /// Number of the newest entry; 0: there is none.
    pub last_seq: u64,
    /// Number of the newest entry that the mirror was known to have; 0: there is none.
    pub delivered: u64,
    /// How often the file was opened, this time included.
    pub opens: u64,
    /// The time without a daemon: the gap, whose end is yet to be filled in, and its beginning, ns since 1970.
    pub absence: Option<(MissingEntries, i64)>,
    /// Number of the newest entry that was committed and that the file lacks.
    pub lost_to_seq: Option<u64>,
    /// The sessions that live according to the file.
    pub live: LiveSessions,
    /// Which entries were lost, of those that came after others of the file.
    pub lost: Option<LostEntries>,
    /// What that means for the sessions that live.
    pub proofs: LifeProofs,
    /// Ends of the last sessions of this boot that ended and were not started again.
    pub ended: Vec<Entry>,
    /// Ends of sessions of this boot that name what they left, the newest first.
    pub left: Vec<Entry>,
    /// What the last daemon knew of births in sessions, if it was stopped; empty: nothing.
    pub births: tables::RecordedBirths,
    /// How the file came to be.
    pub origin: Origin,
}

/// How an open file came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was just made.
    New,
    /// It existed, and its pages are not checked yet.
    Existing,
}

/// Why a stream ended and another begins.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// The reason that the first entry of the new stream states.
    pub reason: GapReason,
    /// An explanation for people.
    pub message: String,
    /// The stream that ended, where it is known.
    pub previous: Option<String>,
}

/// Why a file is not used.
enum Unfit {
    /// It is to be quarantined, and a new stream begins.
    Quarantine(StreamEnd),
    /// It stays as it is, and the journal is not opened.
    Refuse(OpenError),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        match SqliteFault::of(&error) {
            SqliteFault::Corrupt => Self::Quarantine(StreamEnd {
                reason: GapReason::Corrupt,
                message: error.to_string(),
                previous: None,
            }),
            SqliteFault::Full | SqliteFault::Transient => Self::Refuse(OpenError::Transient(error.into())),
        }
    }
}

/// Opens the file, or makes it. A file that cannot be used is quarantined.
pub fn open(
    options: &JournalOptions,
    identity: &DirectoryIdentity,
    lock: &DirectoryLock,
) -> Result<OpenedFile, OpenError> {
    let was_opened = identity.opens.is_some_and(|opens| opens > 0);
    let opened = match options.path.try_exists() {
        Err(error) => Err(error.into()),
        Ok(false) => {
            let end = was_opened.then(|| StreamEnd {
                reason: GapReason::Lost,
                message: "the journal that was here is gone".into(),
                previous: None,
            });
            create(options, identity, lock, end)
        }
        Ok(true) => match load(options, identity, lock) {
            Ok(opened) => Ok(opened),
            Err(Unfit::Refuse(error)) => return Err(error),
            Err(Unfit::Quarantine(end)) => begin_new_stream(options, identity, lock, end),
        },
    };
    opened.map_err(OpenError::Transient)
}

/// Quarantines the file and makes a new one. No connection to the file may be open.
pub fn begin_new_stream(
    options: &JournalOptions,
    identity: &DirectoryIdentity,
    lock: &DirectoryLock,
    end: StreamEnd,
) -> Result<OpenedFile> {
    if options.path.try_exists()? {
        let to = quarantine::quarantine(&options.path, options.dir(), clock::realtime_ns())
            .context("cannot quarantine the journal")?;
        let kept_as = shown(&to);
        warn!(
            part = "journal",
            reason = end.reason.as_str(),
            kept_as,
            "the journal cannot be continued ({}: {}); it is kept as {kept_as}, and a new one begins",
            end.reason,
            to_line(end.message.as_bytes())
        );
    }
    create(options, identity, lock, Some(end))
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

/// Write-ahead log, and every commit is synced before it counts: the mirror has nothing that this file lacks, after a
/// power loss either.
fn configure(conn: &Connection, options: &JournalOptions) -> rusqlite::Result<()> {
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", bounds::CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", bounds::wal_reserve(options.max_bytes).cast_signed())
}

/// Opens a file that exists.
fn load(
    options: &JournalOptions,
    identity: &DirectoryIdentity,
    lock: &DirectoryLock,
) -> Result<OpenedFile, Unfit> {
    let mut conn = connect(&options.path)?;
    let version = check_format(&conn, &options.path)?;
    let known_opens = check_opens(&conn, identity)?;
    configure(&conn, options)?;
    migration::migrate(&mut conn, version)?;
    let extent = tables::extent(&conn)?;
    let closed_at_ns: i64 = meta(&conn, "closed_at_ns")?;
    set_meta(&conn, "opens", known_opens.cast_signed() + 1)?;
    let stream_id: Arc<str> = meta::<String>(&conn, "stream_id")?.into();
    let watermark = Some(&lock.previous).filter(|watermark| watermark.stream_id == *stream_id);
    let lost_to_seq = watermark.map(|watermark| watermark.last_seq).filter(|&seq| seq > extent.last_seq);
    let absence = absence(lock.previous.complete_ns, lost_to_seq.is_some(), closed_at_ns, &extent);
    let live = live::read(&conn)?;
    let lost = LostEntries::read(&conn)?;
    let proofs = live::read_proofs(&conn, lost)?;
    let ended = live::read_ended(&conn, &options.boot_id, &live)?;
    let left = live::read_left(&conn, &options.boot_id)?;
    let births = tables::births(&conn, &options.boot_id)?;
    Ok(OpenedFile {
        conn,
        stream_id,
        oldest_seq: extent.oldest_seq,
        last_seq: extent.last_seq,
        delivered: watermark.map_or(0, |watermark| watermark.delivered.min(extent.last_seq)),
        opens: known_opens + 1,
        absence: Some(absence),
        lost_to_seq,
        live,
        lost,
        proofs,
        ended,
        left,
        births,
        origin: Origin::Existing,
    })
}

/// Checks that the file is observer's, and of a version that can be brought to this one; returns the version.
fn check_format(conn: &Connection, path: &Path) -> Result<i32, Unfit> {
    let integer = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (integer("application_id")?, integer("user_version")?);
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if tables == 0 && application == 0 {
        let message = "it is empty".into();
        return Err(Unfit::Quarantine(StreamEnd { reason: GapReason::Corrupt, message, previous: None }));
    }
    if application != APPLICATION_ID {
        return Err(Unfit::Refuse(OpenError::Permanent(anyhow::anyhow!(
            "{} is a database, and not observer's; name another file with --journal-path",
            path.display()
        ))));
    }
    if !(migration::OLDEST_VERSION..=SCHEMA_VERSION).contains(&version) {
        let newer = version > SCHEMA_VERSION;
        return Err(Unfit::Quarantine(StreamEnd {
            reason: if newer { GapReason::NewerSchema } else { GapReason::OlderSchema },
            message: format!("its schema is version {version}, this observer's is {SCHEMA_VERSION}"),
            previous: meta(conn, "stream_id").ok(),
        }));
    }
    Ok(version)
}

/// Whether the file is the one that this directory opened last. Returns how often the directory knows it was opened.
fn check_opens(conn: &Connection, identity: &DirectoryIdentity) -> Result<u64, Unfit> {
    let (file_identity, opens) = (meta::<String>(conn, "instance_id")?, meta::<i64>(conn, "opens")?);
    let opens = u64::try_from(opens).unwrap_or(0);
    let known = identity.opens.unwrap_or(0);
    // The file's count is raised first: an end between the two writes leaves it one ahead.
    if file_identity == identity.id && (opens == known || opens == known + 1) {
        return Ok(known);
    }
    let message =
        "it is a copy, or its log is gone: this directory's own journal was another, or a later one";
    Err(Unfit::Quarantine(StreamEnd {
        reason: GapReason::Restored,
        message: message.into(),
        previous: meta(conn, "stream_id").ok(),
    }))
}

/// The gap for the time since the previous daemon, and when that time began, ns since 1970.
fn absence(
    complete_ns: i64,
    lost_entries: bool,
    closed_at_ns: i64,
    extent: &TableExtent,
) -> (MissingEntries, i64) {
    let (from_ns, message) = match closed_at_ns {
        _ if lost_entries || complete_ns == 0 => (extent.last_at_ns, "observer ended without being stopped"),
        0 => (complete_ns, "observer ended without being stopped"),
        closed_at_ns => (closed_at_ns, "observer was stopped"),
    };
    let missing = MissingEntries {
        reason: GapReason::NotRunning,
        // Nothing is in a file of a daemon that ended right after it had made it.
        from: (from_ns > 0).then(|| unix_rfc3339(from_ns)).flatten(),
        message: Some(message.into()),
        ..MissingEntries::default()
    };
    (missing, from_ns)
}

/// Makes a new file. Where another stream ended, a gap is its first entry. The file appears whole or not at all.
fn create(
    options: &JournalOptions,
    identity: &DirectoryIdentity,
    lock: &DirectoryLock,
    end: Option<StreamEnd>,
) -> Result<OpenedFile> {
    let new = quarantine::suffixed(&options.path, ".new");
    make_empty(&new)?;
    let stream_id = uuid::Uuid::new_v4().to_string();
    let opens = identity.opens.unwrap_or(0) + 1;
    let last_seq = u64::from(end.is_some());
    // What the file before had of births is not here.
    let births = tables::RecordedBirths { is_missing: end.is_some(), ..tables::RecordedBirths::default() };
    let mut conn = connect(&new)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let tx = conn.transaction()?;
    tx.execute_batch(tables::SCHEMA)?;
    tx.execute_batch(live::SCHEMA)?;
    set_meta(&tx, "stream_id", &stream_id)?;
    set_meta(&tx, "instance_id", &identity.id)?;
    set_meta(&tx, "opens", opens.cast_signed())?;
    set_meta(&tx, "closed_at_ns", 0)?;
    if let Some(end) = end {
        tables::insert(&tx, last_seq, &first_entry(end, lock.newest(), options))?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()?;
    conn.close().map_err(|(_, error)| error)?;
    // The log of a file that was deleted without it: SQLite would take it for the new file's.
    for part in ["-wal", "-shm"] {
        remove(&quarantine::suffixed(&options.path, part))?;
    }
    std::fs::rename(&new, &options.path)?;
    File::open(options.dir()).and_then(|dir| dir.sync_all())?;
    let conn = connect(&options.path)?;
    configure(&conn, options)?;
    Ok(OpenedFile {
        conn,
        stream_id: stream_id.into(),
        oldest_seq: last_seq,
        last_seq,
        delivered: 0,
        opens,
        absence: None,
        lost_to_seq: None,
        live: LiveSessions::new(),
        lost: None,
        proofs: LifeProofs::default(),
        ended: Vec::new(),
        left: Vec::new(),
        births,
        origin: Origin::New,
    })
}

/// Makes an empty file that the group may read. SQLite gives the log and its index the owner and mode of the file.
fn make_empty(path: &Path) -> Result<()> {
    for part in ["", "-journal", "-wal", "-shm"] {
        remove(&quarantine::suffixed(path, part))?;
    }
    let file = File::options().create_new(true).write(true).mode(0o640).open(path)?;
    // The group exists where the service was installed.
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        let _ = std::os::unix::fs::fchown(&file, None, Some(group.gid.as_raw()));
    }
    Ok(())
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The first entry of a stream that follows another, of which `newest` is known.
fn first_entry(end: StreamEnd, newest: &Watermark, options: &JournalOptions) -> Entry {
    let now_ns = i64::try_from(clock::realtime_ns()).unwrap_or(0);
    let previous = end.previous.or_else(|| Some(newest.stream_id.clone()).filter(|id| !id.is_empty()));
    // Where the mirror is ahead, the file was an older copy, and the watermark is as old as the copy.
    let is_known = previous.as_ref() == Some(&newest.stream_id) && end.reason != GapReason::MirrorAhead;
    let missing = MissingEntries {
        reason: end.reason,
        to: unix_rfc3339(now_ns),
        count: is_known.then(|| newest.last_seq.saturating_sub(newest.delivered)),
        previous_stream_id: previous,
        message: Some(end.message),
        ..MissingEntries::default()
    };
    Entry::gap(&missing, now_ns, clock::boottime().0, &options.boot_id)
}

/// Checks that every page can be read and is consistent, and that every entry can be read as `history` reads it; the error
/// describes the first fault.
pub fn check(conn: &Connection) -> Result<()> {
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if verdict != "ok" {
        bail!("{verdict}");
    }
    // A damaged value may leave its page consistent.
    let mut query = conn.prepare("SELECT * FROM entry")?;
    let mut rows = query.query(())?;
    while let Some(row) = rows.next()? {
        tables::decode(row).context("an entry cannot be read")?;
    }
    live::read(conn).context("a session that lives cannot be read")?;
    Ok(())
}

/// Records the time up to which the journal is complete, ns since 1970, and what is left to the next daemon of births, and
/// closes the file. `None`: what is recorded still holds.
pub fn close(conn: Connection, complete_ns: Option<i64>, births: Option<String>) {
    if let Some(births) = births {
        // If this fails, the next daemon knows as much as after a crash.
        let _ = set_meta(&conn, tables::BIRTHS, births);
    }
    if let Some(complete_ns) = complete_ns {
        // If this fails, the next start reports an end without a stop, which is true.
        let _ = set_meta(&conn, "closed_at_ns", complete_ns);
    }
}

/// The path, for errors that name the file.
pub fn shown(path: &Path) -> String {
    to_line(path.as_os_str().as_encoded_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_ended_before_it_wrote_anything_has_no_time_at_which_the_gap_begins() {
        let began = |complete_ns, last_at_ns| {
            let extent = TableExtent { last_at_ns, ..TableExtent::default() };
            absence(complete_ns, false, 0, &extent).0.from
        };
        assert_eq!(began(0, 0), None);
        assert_eq!(began(0, 1_000_000_000).as_deref(), Some("1970-01-01T00:00:01.000Z"), "its last entry");
        assert_eq!(
            began(2_000_000_000, 0).as_deref(),
            Some("1970-01-01T00:00:02.000Z"),
            "what it was complete to"
        );
    }
}

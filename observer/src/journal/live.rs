//! The sessions that live according to the entries: one row for each home and user, written in the transaction of the entry
//! that changes it. A daemon that restarts compares them with the kernel.

use std::collections::{BTreeMap, BTreeSet};

use observer_core::limits::ENDED_SESSIONS_MAX;
use rusqlite::{Connection, params};

use super::lost::LostEntries;
use super::tables::{decode, insert};
use crate::api::entry::{Entry, Subject};
use crate::api::words::EntryKind;

/// `seq` is the number of the session's last entry. `detail` is that entry's, once a bound has removed the entry.
pub const SCHEMA: &str = "
    CREATE TABLE live (
        home BLOB NOT NULL,
        home_mnt_ns INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        instance INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        at_unix_ns INTEGER NOT NULL,
        boottime_ns INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name BLOB,
        pid INTEGER,
        start_boottime_ns INTEGER,
        boot_id TEXT NOT NULL,
        detail TEXT,
        PRIMARY KEY (home, home_mnt_ns, uid, instance)
    ) STRICT, WITHOUT ROWID;";

/// The newest entries among which ended sessions are looked for when a file is opened.
const ENDED_SEARCH_MAX: i64 = 16_384;
/// The size of the entries of ended sessions that a start takes, as JSON.
const ENDED_BYTES_MAX: usize = 4 << 20;
/// Entries of what sessions left that a start takes.
const LEFT_ENTRIES_MAX: usize = 1024;

/// Home, mount namespace (`None`: the host's own), user and number of a session.
type SessionKey = (Vec<u8>, Option<u32>, u32, u32);

/// Last entries of the sessions that live.
pub type LiveSessions = BTreeMap<SessionKey, Entry>;

/// Up to when primaries are known to live, ns since 1970: those of the sessions of which later entries were lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifeProofs(BTreeMap<SessionKey, i64>);

impl LifeProofs {
    /// Returns up to when the primary of the session is known to live, ns since 1970. `None`: no entry about it was lost.
    pub fn of(&self, subject: &Subject) -> Option<i64> {
        self.0.get(&key(subject)).copied()
    }
}

/// What an entry means for its home and user.
enum SessionChange<'a> {
    /// A session lives there.
    Lives(&'a Subject),
    /// No session lives there any more.
    Ended(&'a Subject),
}

impl<'a> SessionChange<'a> {
    /// `None`: the entry does not change which sessions live.
    fn of(entry: &'a Entry) -> Option<Self> {
        let subject = entry.subject.as_ref()?;
        match entry.kind {
            EntryKind::SessionStarted | EntryKind::SessionChanged => Some(Self::Lives(subject)),
            EntryKind::SessionEnded => Some(Self::Ended(subject)),
            EntryKind::ProcessEnded
            | EntryKind::SessionLeft
            | EntryKind::GapOpened
            | EntryKind::GapClosed
            | EntryKind::Gap
            | EntryKind::Other(_) => None,
        }
    }
}

/// Applies `entry` to `live`.
pub fn apply_to_map(live: &mut LiveSessions, entry: &Entry) {
    match SessionChange::of(entry) {
        Some(SessionChange::Lives(subject)) => drop(live.insert(key(subject), entry.clone())),
        Some(SessionChange::Ended(subject)) => drop(live.remove(&key(subject))),
        None => {}
    }
}

/// Whether `entry` is the change of a session that does not live according to `live`.
pub fn is_change_of_unknown(live: &LiveSessions, entry: &Entry) -> bool {
    let is_unknown = |subject| !live.contains_key(&key(subject));
    entry.kind == EntryKind::SessionChanged && entry.subject.as_ref().is_some_and(is_unknown)
}

fn key(subject: &Subject) -> SessionKey {
    (subject.home.clone(), subject.home_mnt_ns, subject.uid.unwrap_or(0), subject.instance)
}

/// Applies `entry` to the table, after it was written to the table `entry` under `seq` in the same transaction.
fn apply_to_table(conn: &Connection, seq: u64, entry: &Entry) -> rusqlite::Result<()> {
    match SessionChange::of(entry) {
        Some(SessionChange::Lives(_)) => conn
            .prepare_cached(
                "INSERT OR REPLACE INTO live
                    (home, home_mnt_ns, uid, instance, seq, at_unix_ns, boottime_ns, kind, name, pid,
                    start_boottime_ns, boot_id)
                 SELECT home, ifnull(home_mnt_ns, 0), ifnull(uid, 0), ifnull(instance, 1), seq, at_unix_ns, boottime_ns, kind, name, pid,
                    start_boottime_ns, boot_id
                 FROM entry WHERE seq = ?",
            )?
            .execute([seq.cast_signed()])
            .map(|_| ()),
        Some(SessionChange::Ended(subject)) => conn
            .prepare_cached("DELETE FROM live WHERE home = ? AND home_mnt_ns = ? AND uid = ? AND instance = ?")?
            .execute(params![
                subject.home,
                subject.home_mnt_ns.unwrap_or(0),
                subject.uid.unwrap_or(0),
                subject.instance
            ])
            .map(|_| ()),
        None => Ok(()),
    }
}

/// Copies the details of the entries with these numbers, which are in order and about to be removed, as far as the
/// sessions live.
pub fn keep_details(conn: &Connection, removed: &[u64]) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (removed.first(), removed.last()) else { return Ok(()) };
    let mut query = conn.prepare_cached(
        "SELECT seq, home, home_mnt_ns, uid, instance FROM live WHERE seq BETWEEN ? AND ? AND detail IS NULL",
    )?;
    let live = query.query_map([first.cast_signed(), last.cast_signed()], |row| {
        let number = |column| row.get::<_, i64>(column);
        Ok((number(0)?, row.get::<_, Vec<u8>>(1)?, number(2)?, number(3)?, number(4)?))
    })?;
    let live = live.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut update = conn.prepare_cached(
        "UPDATE live SET detail = (SELECT detail FROM entry WHERE entry.seq = live.seq)
         WHERE home = ? AND home_mnt_ns = ? AND uid = ? AND instance = ?",
    )?;
    for (seq, home, mnt_ns, uid, instance) in live {
        if removed.binary_search(&seq.cast_unsigned()).is_ok() {
            update.execute(params![home, mnt_ns, uid, instance])?;
        }
    }
    Ok(())
}

/// Reads the table.
pub fn read(conn: &Connection) -> rusqlite::Result<LiveSessions> {
    let mut query = conn.prepare(
        "SELECT live.seq, live.at_unix_ns, live.boottime_ns, live.boot_id, live.kind, live.home, live.name, live.pid,
            live.start_boottime_ns, coalesce(live.detail, entry.detail, '{}') AS detail,
            nullif(live.home_mnt_ns, 0) AS home_mnt_ns, live.uid, live.instance
         FROM live LEFT JOIN entry ON entry.seq = live.seq",
    )?;
    let mut rows = query.query(())?;
    let mut live = LiveSessions::new();
    while let Some(row) = rows.next()? {
        let entry = decode(row)?.entry;
        if let Some(subject) = &entry.subject {
            live.insert(key(subject), entry.clone());
        }
    }
    Ok(live)
}

/// Reads what `lost` means for the sessions that live according to the table.
pub fn read_proofs(conn: &Connection, lost: Option<LostEntries>) -> rusqlite::Result<LifeProofs> {
    let mut proofs = LifeProofs::default();
    let Some(lost) = lost else { return Ok(proofs) };
    let mut query =
        conn.prepare("SELECT seq, at_unix_ns, home, nullif(home_mnt_ns, 0), uid, instance FROM live")?;
    let mut rows = query.query(())?;
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        if let Some(proven_ns) = lost.proven_ns(seq, row.get(1)?) {
            proofs.0.insert((row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?), proven_ns);
        }
    }
    Ok(proofs)
}

/// Reads the last entry of each session that ended in the boot `boot_id` and is not in `live`, the newest first. It looks
/// at the newest [`ENDED_SEARCH_MAX`] entries. Where there are too many, it leaves out the oldest of the user who has most.
pub fn read_ended(conn: &Connection, boot_id: &str, live: &LiveSessions) -> rusqlite::Result<Vec<Entry>> {
    let mut query = conn.prepare(
        "SELECT * FROM entry WHERE seq > (SELECT ifnull(max(seq), 0) FROM entry) - ?1
            AND kind = 'session_ended' AND boot_id = ?2 ORDER BY seq DESC",
    )?;
    let mut rows = query.query(params![ENDED_SEARCH_MAX, boot_id])?;
    let (mut seen, mut ended) = (BTreeSet::new(), SharedEntries::new(ENDED_SESSIONS_MAX));
    while let Some(row) = rows.next()? {
        let entry = decode(row)?.entry;
        let key = entry.subject.as_ref().map(key);
        if key.is_some_and(|key| !live.contains_key(&key) && seen.insert(key)) {
            ended.add(entry);
        }
    }
    Ok(ended.newest_first())
}

/// Returns as many of the entries of sessions that ended, of which the newest come first, as a start takes. Where there are too
/// many, the oldest of the user who has most are left out.
pub fn shared_by_users(newest_first: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut shared = SharedEntries::new(ENDED_SESSIONS_MAX);
    newest_first.into_iter().for_each(|entry| shared.add(entry));
    shared.newest_first()
}

/// Entries of sessions that ended: so many at most, of [`ENDED_BYTES_MAX`] at most, shared by users.
struct SharedEntries {
    max: usize,
    /// Those of each user with their numbers, which begin with the newest, and the size of their details.
    of_user: BTreeMap<u32, (usize, Vec<(usize, Entry)>)>,
    added: usize,
    len: usize,
    bytes: usize,
}

impl SharedEntries {
    /// Room for `max` entries.
    fn new(max: usize) -> Self {
        Self { max, of_user: BTreeMap::new(), added: 0, len: 0, bytes: 0 }
    }

    /// Adds an entry that is older than the others. Where there are too many, the oldest goes of the user who has most.
    fn add(&mut self, entry: Entry) {
        let (size, uid) = (entry.detail.len(), entry.subject.as_ref().and_then(|subject| subject.uid));
        let (bytes, entries) = self.of_user.entry(uid.unwrap_or(0)).or_default();
        *bytes += size;
        entries.push((self.added, entry));
        self.added += 1;
        self.len += 1;
        self.bytes += size;
        while self.len > self.max || self.bytes > ENDED_BYTES_MAX {
            let Some((bytes, entries)) = self.of_user.values_mut().max_by_key(|(bytes, _)| *bytes) else {
                break;
            };
            let Some((_, oldest)) = entries.pop() else { break };
            *bytes -= oldest.detail.len();
            self.len -= 1;
            self.bytes -= oldest.detail.len();
        }
    }

    fn newest_first(self) -> Vec<Entry> {
        let mut all: Vec<_> = self.of_user.into_values().flat_map(|(_, entries)| entries).collect();
        all.sort_by_key(|&(number, _)| number);
        all.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// Reads the entries of the boot `boot_id` that name what a session left, the newest first. It looks at the newest
/// [`ENDED_SEARCH_MAX`] entries. Where there are too many, it leaves out the oldest of the user who has most.
pub fn read_left(conn: &Connection, boot_id: &str) -> rusqlite::Result<Vec<Entry>> {
    let mut query = conn.prepare(
        "SELECT * FROM entry WHERE seq > (SELECT ifnull(max(seq), 0) FROM entry) - ?1
            AND kind IN ('session_left', 'session_ended', 'process_ended') AND boot_id = ?2
            AND instr(detail, '\"keys\":[\"') > 0 ORDER BY seq DESC",
    )?;
    let mut rows = query.query(params![ENDED_SEARCH_MAX, boot_id])?;
    let mut left = SharedEntries::new(LEFT_ENTRIES_MAX);
    while let Some(row) = rows.next()? {
        left.add(decode(row)?.entry);
    }
    Ok(left.newest_first())
}

/// Writes `entry` under `seq`, and applies it to the table `live`. To be called in a transaction.
pub fn add(conn: &Connection, seq: u64, entry: &Entry) -> rusqlite::Result<()> {
    insert(conn, seq, entry)?;
    apply_to_table(conn, seq, entry)
}

//! Which sessions live, as far as the entries say: a row a home, written with the entry that says it. What a daemon
//! that is started again holds against the kernel.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::Entry;
use super::reader::stored;

/// `seq` is the number of the session's last entry; `detail` that entry's, once a bound has taken it.
pub const SCHEMA: &str = "
    CREATE TABLE live (
        home BLOB NOT NULL,
        home_mnt_ns INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        at_unix_ns INTEGER NOT NULL,
        boottime_ns INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name BLOB,
        pid INTEGER,
        start_boottime_ns INTEGER,
        boot_id TEXT NOT NULL,
        detail TEXT,
        PRIMARY KEY (home, home_mnt_ns)
    ) STRICT, WITHOUT ROWID;";

/// Last entries of the sessions that live, by home and mount namespace (0: the host's own).
pub type Live = BTreeMap<(Vec<u8>, u32), Entry>;

/// What an entry says of its home: somebody is there, nobody is any more, or nothing.
fn says(entry: &Entry) -> Option<(bool, &[u8], u32)> {
    let lives = match entry.kind.as_str() {
        "session_started" | "session_changed" => true,
        "session_ended" => false,
        _ => return None,
    };
    Some((lives, entry.home.as_deref()?, entry.home_mnt_ns.unwrap_or(0)))
}

/// What `live` is after `entry`.
pub fn fold(live: &mut Live, entry: &Entry) {
    match says(entry) {
        Some((true, home, mnt_ns)) => drop(live.insert((home.to_vec(), mnt_ns), entry.clone())),
        Some((false, home, mnt_ns)) => drop(live.remove(&(home.to_vec(), mnt_ns))),
        None => {}
    }
}

/// The same in the file, where `entry` was added under `seq` in this transaction.
pub fn apply(conn: &Connection, seq: u64, entry: &Entry) -> rusqlite::Result<()> {
    let Some((lives, home, mnt_ns)) = says(entry) else { return Ok(()) };
    if !lives {
        let mut delete = conn.prepare_cached("DELETE FROM live WHERE home = ? AND home_mnt_ns = ?")?;
        return delete.execute(params![home, mnt_ns]).map(|_| ());
    }
    let mut insert = conn.prepare_cached(
        "INSERT OR REPLACE INTO live
            (home, home_mnt_ns, seq, at_unix_ns, boottime_ns, kind, name, pid, start_boottime_ns, boot_id)
         SELECT home, ifnull(home_mnt_ns, 0), seq, at_unix_ns, boottime_ns, kind, name, pid, start_boottime_ns, boot_id
         FROM entry WHERE seq = ?",
    )?;
    insert.execute([seq.cast_signed()]).map(|_| ())
}

/// Entries up to `seq` are about to go: what they say of sessions that live is kept.
pub fn keep(conn: &Connection, seq: u64) -> rusqlite::Result<()> {
    let mut update = conn.prepare_cached(
        "UPDATE live SET detail = (SELECT detail FROM entry WHERE entry.seq = live.seq)
         WHERE seq <= ? AND detail IS NULL",
    )?;
    update.execute([seq.cast_signed()]).map(|_| ())
}

/// The table.
pub fn read(conn: &Connection) -> rusqlite::Result<Live> {
    let mut query = conn.prepare(
        "SELECT live.seq, live.at_unix_ns, live.boottime_ns, live.boot_id, live.kind, live.home,
            live.name, live.pid, live.start_boottime_ns, coalesce(live.detail, entry.detail, '{}'),
            nullif(live.home_mnt_ns, 0)
         FROM live LEFT JOIN entry ON entry.seq = live.seq",
    )?;
    let mut rows = query.query(())?;
    let mut live = Live::new();
    while let Some(row) = rows.next()? {
        let entry = stored(row)?.entry;
        let home = entry.home.clone().unwrap_or_default();
        live.insert((home, entry.home_mnt_ns.unwrap_or(0)), entry);
    }
    Ok(live)
}

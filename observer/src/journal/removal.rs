//! Removes entries for which the bounds leave no room. A gap entry takes the place of each run of removed ones.

use rusqlite::{Connection, Row, params};

use super::shares::{Shares, User};
use super::{live, tables};
use crate::api::entry::{Entry, MissingEntries};
use crate::api::words::GapReason;
use crate::text::time::unix_rfc3339;

/// Entries removed in one transaction: more than one transaction adds.
const EXPIRE_MAX: usize = 1_024;
/// Bytes that are taken of one share before the next.
const TURN_BYTES: u64 = 64 << 10;

/// An entry that is to be removed.
struct Removed {
    seq: u64,
    user: User,
    bytes: u64,
}

/// Removes the oldest entries of the users with the largest shares, until the entries of all take `surplus` bytes less.
/// So nobody's entries push out those of somebody who has fewer. Where no share exceeds `small` bytes, the oldest entries
/// go, whoever's they are. Returns how many were removed. To be called in a transaction; where that fails, `shares` are to
/// be counted again.
pub fn by_size(
    conn: &Connection,
    shares: &mut Shares,
    surplus: u64,
    small: u64,
    boot_id: &str,
) -> rusqlite::Result<usize> {
    shares.count(conn)?;
    // The newest entry stays, so that numbering continues.
    let end = tables::extent(conn)?.last_seq;
    let (mut removed, mut freed) = (Vec::new(), 0);
    while freed < surplus && removed.len() < EXPIRE_MAX {
        let Some(largest) = shares.largest(end) else { break };
        if largest.bytes <= small {
            break;
        }
        // What puts the next share first is enough for now, but not so little that all shares are gone through often.
        let enough = largest.lead.max(TURN_BYTES).min(surplus - freed);
        let of = Some(Oldest { user: largest.user, from: largest.from_seq });
        let found = oldest(conn, of, end, EXPIRE_MAX - removed.len(), |_, bytes| bytes < enough)?;
        shares.begins_at(largest.user, found.last().map_or(end, |last| last.seq + 1));
        freed += found.iter().map(|entry| entry.bytes).sum::<u64>();
        take(shares, &mut removed, found);
    }
    if removed.is_empty() {
        take(shares, &mut removed, oldest(conn, None, end, EXPIRE_MAX, |_, bytes| bytes < surplus)?);
    }
    removed.sort_unstable();
    cover(conn, &removed, GapReason::RetentionSize, boot_id)?;
    Ok(removed.len())
}

/// Removes entries that happened before `oldest_at_ns` (ns since 1970), the oldest first, up to the first that is young
/// enough. Returns how many were removed. To be called in a transaction; where that fails, `shares` are to be counted
/// again.
pub fn by_age(
    conn: &Connection,
    shares: &mut Shares,
    oldest_at_ns: i64,
    boot_id: &str,
) -> rusqlite::Result<usize> {
    let end = tables::extent(conn)?.last_seq;
    let mut removed = Vec::new();
    let aged = oldest(conn, None, end, EXPIRE_MAX, |at_unix_ns, _| at_unix_ns < oldest_at_ns)?;
    take(shares, &mut removed, aged);
    cover(conn, &removed, GapReason::RetentionAge, boot_id)?;
    Ok(removed.len())
}

fn take(shares: &mut Shares, removed: &mut Vec<u64>, entries: Vec<Removed>) {
    for entry in entries {
        shares.remove(entry.user, entry.bytes);
        removed.push(entry.seq);
    }
}

/// Whose oldest entries are looked for, and the number from which on that user has any.
struct Oldest {
    user: User,
    from: u64,
}

/// The oldest entries before `end`, of one user or of all: at most `max`, and as long as `go_on` holds for the time of the
/// next one and the bytes of those before it.
fn oldest(
    conn: &Connection,
    of: Option<Oldest>,
    end: u64,
    max: usize,
    go_on: impl Fn(i64, u64) -> bool,
) -> rusqlite::Result<Vec<Removed>> {
    let by_user = if of.is_some() { "uid IS ?3 AND" } else { "" };
    let mut query = conn.prepare_cached(&format!(
        "SELECT seq, uid, {}, at_unix_ns FROM entry WHERE seq >= ?1 AND seq < ?2 AND {by_user} NOT {} ORDER BY seq",
        tables::BYTES,
        tables::IS_REMOVAL
    ))?;
    let (from, end) = (of.as_ref().map_or(0, |of| of.from).cast_signed(), end.cast_signed());
    let mut rows = match of {
        Some(of) => query.query(params![from, end, of.user])?,
        None => query.query(params![from, end])?,
    };
    let (mut found, mut bytes) = (Vec::new(), 0);
    while found.len() < max
        && let Some(row) = rows.next()?
        && go_on(row.get(3)?, bytes)
    {
        let entry = Removed::of(row)?;
        bytes += entry.bytes;
        found.push(entry);
    }
    Ok(found)
}

impl Removed {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(Self { seq: number(0)?, user: row.get(1)?, bytes: number(2)? })
    }
}

/// Deletes the entries with these numbers, which are in order. What a run of them and of earlier gaps covered is covered
/// by one gap: a run ends where another entry is in between.
fn cover(conn: &Connection, removed: &[u64], reason: GapReason, boot_id: &str) -> rusqlite::Result<()> {
    live::keep_details(conn, removed)?;
    let mut rest = removed;
    while let Some((&begin, after)) = rest.split_first() {
        rest = after;
        // An entry may cover numbers before its own.
        let from = match entry_at(conn, "max(seq) FROM entry WHERE seq < ?", begin)? {
            None => 1,
            Some(Place { seq, removal_from }) => removal_from.unwrap_or(seq + 1),
        };
        let mut to = begin;
        loop {
            let next = match rest.first() {
                Some(&next) if next == to + 1 => Some(Place { seq: next, removal_from: None }),
                _ => entry_at(conn, "min(seq) FROM entry WHERE seq > ?", to)?,
            };
            match next {
                Some(next) if rest.first() == Some(&next.seq) => {
                    to = next.seq;
                    rest = rest.get(1..).unwrap_or_default();
                }
                Some(Place { seq, removal_from: Some(_) }) => to = seq,
                _ => break,
            }
        }
        put_gap(conn, from, to, reason, boot_id)?;
    }
    Ok(())
}

/// An entry of the file.
struct Place {
    seq: u64,
    /// The first number that it covers, if it is a gap that a bound left.
    removal_from: Option<u64>,
}

/// The entry whose number `which` selects.
fn entry_at(conn: &Connection, which: &str, number: u64) -> rusqlite::Result<Option<Place>> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT seq, iif({}, detail, NULL) FROM entry WHERE seq = (SELECT {which})",
        tables::IS_REMOVAL
    ))?;
    let mut rows = query.query([number.cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (seq, detail): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
    let missing = detail.and_then(|detail| serde_json::from_str::<MissingEntries>(&detail).ok());
    Ok(Some(Place { seq: seq.cast_unsigned(), removal_from: missing.and_then(|missing| missing.from_seq) }))
}

/// Puts a gap that covers `from` to `to` in the place of what is there.
fn put_gap(conn: &Connection, from: u64, to: u64, reason: GapReason, boot_id: &str) -> rusqlite::Result<()> {
    let range = params![from.cast_signed(), to.cast_signed()];
    let (at_ns, boottime_ns): (i64, i64) = conn
        .prepare_cached(
            "SELECT at_unix_ns, boottime_ns FROM entry WHERE seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
    conn.prepare_cached("DELETE FROM entry WHERE seq BETWEEN ? AND ?")?.execute(range)?;
    let missing = MissingEntries {
        from_seq: Some(from),
        to_seq: Some(to),
        count: Some(to - from + 1),
        reason,
        to: unix_rfc3339(at_ns),
        ..MissingEntries::default()
    };
    let entry = Entry::gap(&missing, at_ns, u64::try_from(boottime_ns).unwrap_or(0), boot_id);
    tables::insert(conn, to, &entry)
}

//! What the entries of each user take of the file, so that the bound takes from the largest share first. Counted when the
//! bound first bites, and kept up to date from then on.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::tables;
use crate::api::entry::Entry;

/// The user whose session an entry concerns; `None`: it concerns none, or an earlier version wrote it.
pub type User = Option<u32>;

/// What the entries of one user take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    bytes: u64,
    /// No entry of the user has a lower number.
    from_seq: u64,
}

/// From whom the bound takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    /// The user with the largest share.
    pub user: User,
    /// No entry of the user has a lower number.
    pub from_seq: u64,
    /// What the entries of the user take.
    pub bytes: u64,
    /// By how many bytes that exceeds the next share.
    pub lead: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Shares {
    /// `None`: not counted.
    by_user: Option<BTreeMap<User, Share>>,
}

impl Shares {
    /// Counts the entries of the file, unless that was done.
    pub fn count(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if self.by_user.is_some() {
            return Ok(());
        }
        let mut query = conn.prepare(&format!(
            "SELECT uid, sum({}), min(seq) FROM entry WHERE NOT {} GROUP BY uid",
            tables::BYTES,
            tables::IS_REMOVAL
        ))?;
        let share = |row: &rusqlite::Row<'_>| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok((row.get(0)?, Share { bytes: number(1)?, from_seq: number(2)? }))
        };
        self.by_user = Some(query.query_map((), share)?.collect::<rusqlite::Result<_>>()?);
        Ok(())
    }

    /// `entry` was written under `seq`, the highest number so far.
    pub fn add(&mut self, seq: u64, entry: &Entry) {
        if let Some(by_user) = &mut self.by_user {
            let user = entry.subject.as_ref().and_then(|subject| subject.uid);
            let share = by_user.entry(user).or_insert(Share { bytes: 0, from_seq: seq });
            share.bytes += tables::bytes(entry);
        }
    }

    /// An entry of `user` that takes `bytes` was removed.
    pub fn remove(&mut self, user: User, bytes: u64) {
        let Some(by_user) = &mut self.by_user else { return };
        if let Some(share) = by_user.get_mut(&user) {
            share.bytes = share.bytes.saturating_sub(bytes);
            if share.bytes == 0 {
                by_user.remove(&user);
            }
        }
    }

    /// `user` has no entry with a number lower than `from_seq`.
    pub fn begins_at(&mut self, user: User, from_seq: u64) {
        if let Some(share) = self.by_user.as_mut().and_then(|by_user| by_user.get_mut(&user)) {
            share.from_seq = share.from_seq.max(from_seq);
        }
    }

    /// The largest share among those with an entry before `end_seq`.
    pub fn largest(&self, end_seq: u64) -> Option<Largest> {
        let by_user = self.by_user.iter().flatten();
        let shares = by_user.filter(|(_, share)| share.from_seq < end_seq);
        // Of equal ones, that with the oldest entry.
        let (&user, share) =
            shares.clone().max_by_key(|(_, share)| (share.bytes, u64::MAX - share.from_seq))?;
        let next = shares.filter(|(other, _)| **other != user).map(|(_, next)| next.bytes).max().unwrap_or(0);
        Some(Largest { user, from_seq: share.from_seq, bytes: share.bytes, lead: share.bytes - next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest(user: User, from_seq: u64, bytes: u64, lead: u64) -> Option<Largest> {
        Some(Largest { user, from_seq, bytes, lead })
    }

    #[test]
    fn the_largest_share_leads_until_as_much_was_removed_of_it() {
        let share = |bytes, from_seq| Share { bytes, from_seq };
        let by_user = [(Some(1), share(500, 3)), (Some(2), share(900, 10)), (None, share(10, 1))];
        let mut shares = Shares { by_user: Some(by_user.into()) };
        assert_eq!(shares.largest(100), largest(Some(2), 10, 900, 400));
        shares.remove(Some(2), 400);
        assert_eq!(shares.largest(100), largest(Some(1), 3, 500, 0), "the older of equals");
        shares.begins_at(Some(1), 100);
        assert_eq!(
            shares.largest(100),
            largest(Some(2), 10, 500, 490),
            "the first has none of that age left"
        );
        assert_eq!(shares.largest(5), largest(None, 1, 10, 10));
        assert_eq!(shares.largest(1), None);
        shares.remove(None, 10);
        assert_eq!(shares.largest(5), None, "nothing is left of it");
    }
}

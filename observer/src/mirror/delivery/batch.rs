//! One batch on its way to the database. What the database refuses is found by halving: the refused entry becomes a gap of
//! its number, or its row of the state is left out, and everything else is written.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::messages::{Refusals, ReplicationCursor};
use super::statement::BatchStatement;
use crate::mirror::error::DatabaseError;
use crate::mirror::items::BatchItem;

/// What is left of a refused entry. The variants are tried in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remainder {
    /// The row of the state; a gap stands for the entry.
    Row,
    /// The entry; its home's row stays as it was and is marked as not certain.
    Entry,
    /// Neither; a gap stands for the entry.
    Gap,
}

/// An entry that the database refused.
#[derive(Clone, Debug)]
struct RefusedEntry {
    remainder: Remainder,
    /// Why it was refused as a whole.
    why: String,
}

/// A batch of which a part may have been written.
#[derive(Debug)]
pub struct Batch {
    items: Arc<[BatchItem]>,
    /// Parts that are not written, the next one last.
    parts: Vec<Range<usize>>,
    /// The next part is one entry, which the database refused.
    refused: Option<RefusedEntry>,
    /// When it was first sent.
    pub began_at: Instant,
    /// Readers know that the state is not caught up.
    pub is_marked_behind: bool,
    /// What was refused since the last attempt began.
    pub refusals: Refusals,
}

impl Batch {
    /// A batch of `items`, of which there is at least one.
    pub fn new(items: Vec<BatchItem>, now: Instant) -> Self {
        let whole = 0..items.len();
        Self {
            items: items.into(),
            parts: vec![whole],
            refused: None,
            began_at: now,
            is_marked_behind: false,
            refusals: Refusals::default(),
        }
    }

    /// Whether everything is written.
    pub fn is_written(&self) -> bool {
        self.parts.is_empty()
    }

    /// The statement to be sent where the database is at `cursor` and `last_seq` is the newest number in the journal; `None`
    /// when everything is written.
    pub fn statement(&self, cursor: &ReplicationCursor, last_seq: u64) -> Option<BatchStatement> {
        let part = self.parts.last()?.clone();
        let mut statement = BatchStatement {
            stream_id: cursor.stream_id?,
            after: cursor.seq,
            caught_up: false,
            doubtful: None,
            batch: Arc::clone(&self.items),
            part,
        };
        statement.caught_up = statement.last_seq() >= last_seq;
        if let Some(refused) = &self.refused {
            let mut items: Vec<BatchItem> = statement.items().to_vec();
            for item in &mut items {
                statement.doubtful = refused.reduce(item);
            }
            statement.part = 0..items.len();
            statement.batch = items.into();
        }
        Some(statement)
    }

    /// How many entries the statement has.
    pub fn entries_sent(&self) -> usize {
        self.parts.last().map_or(0, ExactSizeIterator::len)
    }

    /// The database applied the statement; the number of its last entry.
    pub fn applied(&mut self) -> Option<u64> {
        let part = self.parts.pop()?;
        if let Some(refused) = self.refused.take() {
            self.refusals.add(&refused.why);
        }
        self.items.get(part).and_then(<[BatchItem]>::last).map(|item| item.seq)
    }

    /// The database refused something in the statement. The error is permanent: it refuses even a gap.
    pub fn refused(&mut self, why: String) -> Result<(), DatabaseError> {
        let Some(part) = self.parts.last().cloned() else { return Ok(()) };
        match &mut self.refused {
            None if part.len() > 1 => {
                let middle = part.start + part.len() / 2;
                self.parts.pop();
                self.parts.extend([middle..part.end, part.start..middle]);
            }
            None => self.refused = Some(RefusedEntry { remainder: Remainder::Row, why }),
            Some(refused) => match refused.remainder {
                Remainder::Row => refused.remainder = Remainder::Entry,
                Remainder::Entry => refused.remainder = Remainder::Gap,
                Remainder::Gap => {
                    let next_step =
                        "look for constraints and triggers that were added to the schema observer";
                    return Err(DatabaseError::permanent(why, next_step));
                }
            },
        }
        Ok(())
    }

    /// Begins another attempt with everything after `cursor`.
    pub fn restart(&mut self, cursor: &ReplicationCursor) {
        let written = self.items.partition_point(|item| item.seq <= cursor.seq);
        let rest = written..self.items.len();
        self.parts = vec![rest];
        self.refused = None;
    }

    /// Whether the journal lost changes that no entry of the batch has.
    pub fn has_lost_state(&self) -> bool {
        self.items.iter().any(|item| item.state_lost)
    }
}

impl RefusedEntry {
    /// Leaves of `item` what is tried next; the home whose row of the state is left out.
    fn reduce(&self, item: &mut BatchItem) -> Option<Vec<u8>> {
        if self.remainder != Remainder::Entry {
            *item = item.as_refused(&self.why);
        }
        if self.remainder == Remainder::Row {
            return None;
        }
        item.row.take().filter(|row| row.body.is_some()).map(|row| row.home_id)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::api::words::EntryKind;

    fn batch(count: u64) -> (Batch, ReplicationCursor) {
        let items = (1..=count).map(|seq| BatchItem { seq, ..BatchItem::default() }).collect();
        let cursor = ReplicationCursor { stream_id: Some(Uuid::nil()), seq: 0 };
        (Batch::new(items, Instant::now()), cursor)
    }

    /// The numbers of each statement, where the database refuses what `refuses` says; the kinds that it has in the end.
    fn write(
        batch: &mut Batch,
        cursor: &mut ReplicationCursor,
        refuses: impl Fn(&BatchItem) -> bool,
    ) -> Vec<EntryKind> {
        let mut kinds = Vec::new();
        while let Some(statement) = batch.statement(cursor, 8) {
            if statement.items().iter().any(&refuses) {
                batch.refused("refused".into()).unwrap();
                continue;
            }
            kinds.extend(statement.items().iter().map(|item| item.kind.clone()));
            assert_eq!(statement.caught_up, statement.last_seq() == 8);
            cursor.seq = batch.applied().unwrap();
            assert_eq!(cursor.seq, statement.last_seq());
        }
        kinds
    }

    #[test]
    fn a_refused_entry_becomes_a_gap_and_the_others_are_written() {
        let (mut batch, mut cursor) = batch(8);
        let kinds = write(&mut batch, &mut cursor, |item| item.seq == 6 && item.kind != EntryKind::Gap);
        let places: Vec<_> = kinds.iter().map(|kind| *kind == EntryKind::Gap).collect();
        assert_eq!(places, [false, false, false, false, false, true, false, false]);
        assert_eq!((cursor.seq, batch.refusals.count), (8, 1));
    }

    #[test]
    fn a_database_that_refuses_even_a_gap_is_a_permanent_error() {
        let (mut batch, _) = batch(1);
        for _ in 0..3 {
            batch.refused("refused".into()).unwrap();
        }
        // The last refusal is of the gap.
        assert_eq!(
            batch.refused("no gap".into()).map_err(|error| error.class),
            Err(crate::mirror::error::ErrorClass::Permanent)
        );
    }

    #[test]
    fn another_attempt_begins_after_the_cursor() {
        let (mut batch, mut cursor) = batch(8);
        cursor.seq = 5;
        batch.restart(&cursor);
        let statement = batch.statement(&cursor, 8).unwrap();
        assert_eq!(statement.items().iter().map(|item| item.seq).collect::<Vec<_>>(), [6, 7, 8]);
    }
}

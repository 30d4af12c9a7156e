//! A model of the database: as much of Postgres as the mirror relies on, and what must hold in it at each moment.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::super::{
    BatchStatement, Comparison, DeliveryAnswer, DeliveryRequest, FencingToken, HostRow, LiveMap, LockAttempt,
    LockHolder, Reconciled, Refusals, WriterIdentity,
};
use super::daemon::session_of;
use crate::api::words::EntryKind;
use crate::mirror::error::{DatabaseError, ErrorClass};

/// Homes on the host.
pub const HOMES: usize = 4;
/// The number of the only host.
const HOST_NO: i32 = 1;
/// `idle_session_timeout` of the daemon's connections.
const IDLE_MAX_MS: u64 = 15_000;

/// An event in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The change with this number.
    Change(u64),
    /// A gap that stands for the change with this number, which was refused.
    Refused(u64),
    /// Another gap.
    Gap,
}

/// A connection, as the server sees it.
#[derive(Clone, Debug)]
pub struct Backend {
    pub daemon: usize,
    /// The daemon's process: one that was started again remembers nothing.
    pub process: u64,
    pub is_alive: bool,
    /// The client is gone, and the server does not know.
    pub is_cut_off: bool,
    last_heard_ms: u64,
    /// Generation of the host when the lock was last tried.
    seen_generation: i64,
}

/// What survives a restart of the server.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub row: Option<Row>,
    /// Cursors.
    pub streams: HashMap<Uuid, u64>,
    pub events: HashMap<(Uuid, u64), Stored>,
    /// The last change of each home, and whether the row is certain.
    pub state: [Option<(u64, bool)>; HOMES],
}

/// The host's row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub generation: i64,
    pub instance_id: Option<Uuid>,
    pub backend_pid: Option<i32>,
    pub caught_up: bool,
}

/// What the database refuses or fails to do at the moment.
#[derive(Clone, Debug, Default)]
pub struct Disorder {
    pub is_disk_full: bool,
    pub lacks_partition: bool,
    pub refuses_hints: bool,
    /// Changes whose entries are refused: those divisible by this.
    pub refused_entries: Option<u64>,
    /// The home whose row is refused.
    pub refused_home: Option<usize>,
}

/// The server with its one database.
#[derive(Debug, Default)]
pub struct Database {
    pub data: Data,
    pub disorder: Disorder,
    /// By process number, beginning at 1.
    pub backends: Vec<Backend>,
    pub lock: Option<i32>,
    /// Which process of a daemon knows that it was the writer in each generation.
    pub owners: HashMap<i64, u64>,
    /// The newest number of each stream that was ever committed.
    pub high_water: HashMap<Uuid, u64>,
    /// Rows of the state were refused: a home that is new has none then.
    pub refused_rows: bool,
    /// Numbers of the changes whose entries were refused when they came alone.
    refused_changes: HashSet<u64>,
    /// A copy of the data, to which it may be restored.
    pub copy: Option<Data>,
}

impl Database {
    pub fn connect(&mut self, daemon: usize, process: u64, now_ms: u64) -> i32 {
        let (is_alive, is_cut_off) = (true, false);
        self.backends.push(Backend {
            daemon,
            process,
            is_alive,
            is_cut_off,
            last_heard_ms: now_ms,
            seen_generation: 0,
        });
        i32::try_from(self.backends.len()).unwrap()
    }

    pub fn backend(&mut self, pid: i32) -> &mut Backend {
        &mut self.backends[usize::try_from(pid).unwrap() - 1]
    }

    /// Ends a server process: its lock is free.
    pub fn end_backend(&mut self, pid: i32) {
        self.backend(pid).is_alive = false;
        if self.lock == Some(pid) {
            self.lock = None;
        }
    }

    /// Ends what has been silent for too long.
    pub fn end_idle(&mut self, now_ms: u64) {
        if let Some(pid) = self.lock
            && now_ms > self.backend(pid).last_heard_ms + IDLE_MAX_MS
        {
            self.end_backend(pid);
        }
    }

    /// The daemon that is present.
    pub fn present(&self) -> Option<usize> {
        let pid = self.lock?;
        let is_writer = self.data.row.as_ref().is_some_and(|row| row.backend_pid == Some(pid));
        is_writer.then(|| self.backends[usize::try_from(pid).unwrap() - 1].daemon)
    }

    /// Replaces the data by a copy, or by nothing. What generations stood for is forgotten.
    pub fn replace_data(&mut self, data: Data) {
        self.data = data;
        self.owners.clear();
    }

    /// Performs a request that arrived on the connection `pid`.
    pub fn perform(
        &mut self,
        pid: i32,
        now_ms: u64,
        request: &DeliveryRequest,
    ) -> Result<DeliveryAnswer, DatabaseError> {
        self.backend(pid).last_heard_ms = now_ms;
        match request {
            DeliveryRequest::TryLock => return Ok(DeliveryAnswer::Lock(self.try_lock(pid))),
            DeliveryRequest::EndBackend(other) => self.end_ghost(pid, *other),
            DeliveryRequest::Maintain => self.disorder.lacks_partition = false,
            DeliveryRequest::Reconcile { writer, map, last_seq } => {
                return self.reconcile(pid, *writer, map, *last_seq).map(DeliveryAnswer::Reconciled);
            }
            DeliveryRequest::Write { token, statement } => self.write(pid, *token, statement)?,
            DeliveryRequest::MarkBehind(token) => {
                if self.is_writer(pid, *token)
                    && let Some(row) = &mut self.data.row
                {
                    row.caught_up = false;
                }
            }
            DeliveryRequest::Notify(_) if self.disorder.refuses_hints => {
                return Err(DatabaseError::permanent("no right to notify", "grant it"));
            }
            DeliveryRequest::Ping | DeliveryRequest::Notify(_) => {}
            other => panic!("no request to the database: {other:?}"),
        }
        Ok(DeliveryAnswer::Done)
    }

    /// Compares the event of a number with the change that the journal has there.
    pub fn compare(&self, stream_id: Uuid, seq: u64, change: u64) -> Comparison {
        match self.data.events.get(&(stream_id, seq)) {
            Some(Stored::Change(event) | Stored::Refused(event)) if *event == change => Comparison::Same,
            Some(_) => Comparison::Different,
            None => Comparison::Same,
        }
    }

    fn try_lock(&mut self, pid: i32) -> LockAttempt {
        let row = self.data.row.get_or_insert_default();
        if row.backend_pid == Some(pid) {
            row.backend_pid = None;
        }
        self.backends[usize::try_from(pid).unwrap() - 1].seen_generation = row.generation;
        match self.lock {
            None => {
                self.lock = Some(pid);
                LockAttempt::Taken(HOST_NO)
            }
            Some(holder) if holder == pid => LockAttempt::Taken(HOST_NO),
            Some(holder) => LockAttempt::Held {
                row: HostRow {
                    host_no: HOST_NO,
                    generation: row.generation,
                    instance_id: row.instance_id,
                    backend_pid: row.backend_pid,
                },
                holder: LockHolder { backend_pid: holder, same_role: true, role: "observer".into() },
            },
        }
    }

    /// A daemon that was superseded, and has seen that, must not end the connection of its successor.
    fn end_ghost(&mut self, pid: i32, other: i32) {
        let Backend { process, seen_generation, .. } = *self.backend(pid);
        let own = self
            .owners
            .iter()
            .filter(|(_, owner)| **owner == process)
            .map(|(generation, _)| *generation)
            .max();
        let successor = self.owners.get(&seen_generation).filter(|owner| **owner != process);
        assert!(
            successor.is_none() || own.is_none_or(|own| own > seen_generation),
            "process {process} ended the connection of its successor {successor:?}"
        );
        self.end_backend(other);
    }

    fn is_writer(&self, pid: i32, token: FencingToken) -> bool {
        self.data
            .row
            .as_ref()
            .is_some_and(|row| row.generation == token.generation && row.backend_pid == Some(pid))
    }

    fn reconcile(
        &mut self,
        pid: i32,
        writer: WriterIdentity,
        map: &LiveMap,
        last_seq: u64,
    ) -> Result<Reconciled, DatabaseError> {
        if self.disorder.is_disk_full {
            return Err(DatabaseError::new(ErrorClass::Transient, "disk full"));
        }
        let Some(row) = &mut self.data.row else { return Err(DatabaseError::forgotten()) };
        let token = match writer {
            WriterIdentity::New { host_no, instance_id } => {
                assert_eq!(self.lock, Some(pid), "only the holder of the lock becomes the writer");
                row.generation += 1;
                row.backend_pid = Some(pid);
                row.instance_id = Some(instance_id);
                FencingToken { host_no, generation: row.generation }
            }
            WriterIdentity::Current(token) => token,
        };
        if !self.is_writer(pid, token) {
            return Err(DatabaseError::superseded());
        }
        let cursor = map.stream_id.map_or(0, |id| *self.data.streams.entry(id).or_default());
        let mut refused = Refusals::default();
        for (home, change) in map.sessions.iter().map(|session| session_of(session)) {
            if self.disorder.refused_home == Some(home) {
                refused.add("refused");
                self.refused_rows = true;
                if let Some((_, is_certain)) = &mut self.data.state[home] {
                    *is_certain = false;
                }
            } else {
                self.data.state[home] = Some((change, true));
            }
        }
        if let Some(row) = &mut self.data.row {
            row.caught_up = cursor == last_seq.max(map.after_seq);
        }
        Ok(Reconciled { token, cursor, refused })
    }

    fn write(
        &mut self,
        pid: i32,
        token: FencingToken,
        statement: &BatchStatement,
    ) -> Result<(), DatabaseError> {
        if self.disorder.is_disk_full {
            return Err(DatabaseError::new(ErrorClass::Transient, "disk full"));
        }
        match &self.data.row {
            None => return Err(DatabaseError::forgotten()),
            Some(_) if !self.is_writer(pid, token) => return Err(DatabaseError::superseded()),
            Some(_) => {}
        }
        let stream_id = statement.stream_id;
        if self.data.streams.get(&stream_id) != Some(&statement.after) {
            return Err(DatabaseError::cursor_moved());
        }
        if self.disorder.lacks_partition {
            return Err(DatabaseError::new(ErrorClass::MissingPartition, "no partition"));
        }
        self.check_data(statement)?;
        let mut last = statement.after;
        for item in statement.items() {
            assert!(item.seq > last, "entries come in order: {} after {last}", item.seq);
            let is_gap = item.kind == EntryKind::Gap;
            assert!(is_gap || item.seq == last + 1, "entry {} is lost", last + 1);
            last = item.seq;
            let event = match item.at.as_second().cast_unsigned() {
                0 => Stored::Gap,
                change if is_gap => {
                    let is_refused = self.refused_changes.contains(&change);
                    assert!(is_refused, "a gap stands for change {change}, which was not refused");
                    Stored::Refused(change)
                }
                change => Stored::Change(change),
            };
            let earlier = self.data.events.insert((stream_id, item.seq), event);
            assert_eq!(earlier, None, "entry {} is applied twice", item.seq);
            let Some(row) = item.row.as_ref().filter(|row| row.body.is_some()) else { continue };
            let home = usize::from(row.home_id[0]);
            let change = item.at.as_second().cast_unsigned();
            if let Some((earlier, _)) = self.data.state[home] {
                assert!(change >= earlier, "the state of home {home} went back from {earlier} to {change}");
            }
            self.data.state[home] = Some((change, true));
        }
        if let Some(home) = statement.doubtful.as_deref().map(|home| usize::from(home[0]))
            && let Some((_, is_certain)) = &mut self.data.state[home]
        {
            *is_certain = false;
        }
        self.data.streams.insert(stream_id, last);
        let high_water = self.high_water.entry(stream_id).or_default();
        *high_water = last.max(*high_water);
        if let Some(row) = &mut self.data.row {
            row.caught_up = statement.caught_up;
        }
        Ok(())
    }

    fn check_data(&mut self, statement: &BatchStatement) -> Result<(), DatabaseError> {
        let is_refused = |item: &crate::mirror::items::BatchItem| {
            let entry = self.disorder.refused_entries.is_some_and(|divisor| {
                item.kind != EntryKind::Gap && item.at.as_second().cast_unsigned().is_multiple_of(divisor)
            });
            let row = item.row.as_ref().filter(|row| row.body.is_some());
            entry || row.is_some_and(|row| Some(usize::from(row.home_id[0])) == self.disorder.refused_home)
        };
        if statement.items().iter().any(is_refused) {
            self.refused_rows |= self.disorder.refused_home.is_some();
            if let [item] = statement.items()
                && item.kind != EntryKind::Gap
            {
                self.refused_changes.insert(item.at.as_second().cast_unsigned());
            }
            return Err(DatabaseError::new(ErrorClass::RefusedData, "refused"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::mirror::items::BatchItem;

    /// Writes a gap for change 1 to a database that has refused these changes in one statement.
    fn write_gap_after_refusal_of(changes: &[u64]) {
        let mut database = Database::default();
        let (pid, stream_id) = (database.connect(0, 1, 0), Uuid::from_u128(1));
        database.try_lock(pid);
        let writer = WriterIdentity::New { host_no: HOST_NO, instance_id: Uuid::nil() };
        let map = LiveMap { stream_id: Some(stream_id), after_seq: 0, certain: true, sessions: Vec::new() };
        let token = database.reconcile(pid, writer, &map, 2).unwrap().token;
        database.disorder.refused_entries = Some(1);
        let item = |&seq: &u64, kind| {
            let at = Timestamp::from_second(seq.cast_signed()).unwrap();
            BatchItem { seq, kind, at, ..BatchItem::default() }
        };
        let mut write = |batch: Vec<BatchItem>| {
            let (after, caught_up, doubtful, part) = (0, false, None, 0..batch.len());
            let statement =
                BatchStatement { stream_id, after, caught_up, doubtful, batch: batch.into(), part };
            database.write(pid, token, &statement)
        };
        let refused = write(changes.iter().map(|seq| item(seq, EntryKind::SessionChanged)).collect());
        assert_eq!(refused.map_err(|error| error.class), Err(ErrorClass::RefusedData));
        write(vec![item(&1, EntryKind::Gap)]).unwrap();
    }

    #[test]
    fn a_gap_may_stand_for_a_change_that_was_refused() {
        write_gap_after_refusal_of(&[1]);
    }

    #[test]
    #[should_panic(expected = "a gap stands for change 1, which was not refused")]
    fn a_gap_for_a_change_that_may_have_been_accepted_alone_is_noticed() {
        write_gap_after_refusal_of(&[1, 2]);
    }
}

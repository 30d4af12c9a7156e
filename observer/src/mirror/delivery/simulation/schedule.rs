//! One schedule: changes, faults and time, chosen by a seed, around real deliveries and a model of the database.

mod faults;
mod server;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use uuid::Uuid;

use super::super::{DeliveryAction, DeliveryAnswer, DeliveryInput, DeliveryRequest, LoopHeartbeat};
use super::daemon::{Asked, Daemon, Journal, at};
use super::database::{Database, HOMES, Stored};
use super::fault::{CutPoint, Fault};
use super::random::Random;
use crate::api::words::MirrorState;
use crate::mirror::error::DatabaseError;

/// Between two heartbeats of a loop.
const HEARTBEAT_EVERY_MS: u64 = 5_000;
/// How long the driver waits for the answer to a request of several statements.
const DRIVER_WAIT_MS: u64 = 25_000;
/// Changes and faults begin within this time.
const FAULTS_MS: u64 = 20_000;
/// Everything is delivered within this time after the last fault: the longest wait between connections (20 s), what a ghost
/// takes (15 s), a batch and an answer that are waited for (33 s), and some more.
const PROGRESS_MS: u64 = 120_000;
/// A schedule with more events makes no progress.
const EVENTS_MAX: u32 = 20_000;

/// Something that happens at a time.
#[derive(Debug)]
enum Event {
    /// A delivery wanted to be woken.
    Wake(usize),
    Heartbeat(usize),
    Change(usize),
    Fault(Fault),
    Mend(Fault),
    /// A request arrives at the server, which performs it after a while.
    Arrive(usize, u64, i32, DeliveryRequest),
    Perform(usize, u64, i32, DeliveryRequest),
    Answer(usize, u64, Result<DeliveryAnswer, DatabaseError>),
    /// The client finds out that its connection is gone.
    Lost(usize, i32),
}

/// An event with its time. The order of events at one time is that in which they were scheduled.
struct Scheduled {
    at_ms: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.order).cmp(&(other.at_ms, other.order))
    }
}

/// A running schedule.
pub struct Schedule {
    base: Instant,
    random: Random,
    now_ms: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    orders: u64,
    requests: u64,
    changes: u64,
    streams: u64,
    processes: u64,
    database: Database,
    daemons: Vec<Daemon>,
    /// When the next wake-up of each daemon is scheduled.
    wakes: Vec<Option<u64>>,
    is_server_down: bool,
    is_login_refused: bool,
    statement_ms: u64,
    cut: Option<(CutPoint, bool)>,
    /// Each with its begin and its end.
    faults: Vec<(u64, u64, Fault)>,
    faults_end_ms: u64,
}

impl Schedule {
    /// The schedule of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut schedule = Self {
            base: Instant::now(),
            random: random.clone(),
            now_ms: 0,
            events: BinaryHeap::new(),
            orders: 0,
            requests: 0,
            changes: 0,
            streams: 0,
            processes: 0,
            database: Database::default(),
            daemons: Vec::new(),
            wakes: Vec::new(),
            is_server_down: false,
            is_login_refused: false,
            statement_ms: 0,
            cut: None,
            faults: Vec::new(),
            faults_end_ms: 0,
        };
        schedule.add_daemon(Uuid::from_u128(7));
        for _ in 0..random.between(4, 16) {
            schedule.at(random.below(FAULTS_MS), Event::Change(0));
        }
        for _ in 0..random.between(1, 3) {
            let begin_ms = random.below(FAULTS_MS);
            let fault = Fault::choose(&mut random);
            let end_ms = begin_ms + random.between(1, FAULTS_MS);
            schedule.at(begin_ms, Event::Fault(fault));
            schedule.at(end_ms, Event::Mend(fault));
            schedule.faults.push((begin_ms, end_ms, fault));
            schedule.faults_end_ms = schedule.faults_end_ms.max(end_ms);
        }
        schedule.random = random;
        schedule
    }

    /// Plays the schedule to its end. Panics where something is wrong.
    pub fn play(&mut self) {
        let mut events = 0;
        while !self.is_settled() {
            let Some(Reverse(Scheduled { at_ms, event, .. })) = self.events.pop() else { break };
            self.now_ms = at_ms;
            assert!(
                at_ms < self.faults_end_ms + PROGRESS_MS,
                "not everything is delivered in time: {}",
                self.describe()
            );
            events += 1;
            assert!(events < EVENTS_MAX, "too many events: {}", self.describe());
            self.database.end_idle(at_ms);
            for daemon in &self.daemons {
                daemon.check(at_ms);
            }
            self.happen(event);
        }
        self.check_end();
    }

    /// Whether the faults are over and a daemon has delivered everything.
    fn is_settled(&self) -> bool {
        if self.now_ms <= self.faults_end_ms.max(FAULTS_MS) {
            return false;
        }
        let Some(daemon) = self.database.present().map(|at| &self.daemons[at]) else { return false };
        let cursor = self.database.data.streams.get(&daemon.journal.stream_id);
        let caught_up = self.database.data.row.as_ref().is_some_and(|row| row.caught_up);
        caught_up
            && cursor == Some(&daemon.journal.committed)
            && daemon.delivery.status().state == MirrorState::Ok
            && daemon.asked.is_none()
            && self.is_state_the_map(daemon)
    }

    /// How things stand, for whoever looks for the cause of a failure.
    pub fn describe(&self) -> String {
        let mut text =
            format!("{} ms; faults {:?}; row {:?}", self.now_ms, self.faults, self.database.data.row);
        text += &format!("; state {:?}; lock {:?}", self.database.data.state, self.database.lock);
        for daemon in &self.daemons {
            let Daemon { journal, map, answered_last_seq, .. } = daemon;
            let (status, cursor) =
                (daemon.delivery.status(), self.database.data.streams.get(&journal.stream_id));
            text += &format!(
                "\n{status:?}\nmap {map:?}, cursor {cursor:?}, told {answered_last_seq}, {journal:?}"
            );
        }
        text
    }

    fn is_state_the_map(&self, daemon: &Daemon) -> bool {
        (0..HOMES).all(|home| match (daemon.map[home], self.database.data.state[home]) {
            (None, _) => true,
            (Some(change), Some((found, true))) => found == change,
            // The row was refused, and is written with the next change or reconciliation.
            (Some(_), Some((_, false))) => true,
            (Some(_), None) => self.database.refused_rows,
        })
    }

    /// The database has each entry of the journal that is present, once, and nothing else of its stream.
    fn check_end(&self) {
        let daemon = &self.daemons[self.database.present().unwrap()];
        let Journal { stream_id, committed, expired, .. } = daemon.journal;
        for seq in expired + 1..=committed {
            let found = self.database.data.events.get(&(stream_id, seq));
            let change = daemon.journal.change(seq).unwrap();
            match found {
                None => panic!("entry {seq} of {committed} is lost: {}", self.describe()),
                Some(Stored::Gap) => {
                    assert_eq!(change.home, None, "entry {seq} is lost in a gap: {}", self.describe());
                }
                Some(Stored::Change(found) | Stored::Refused(found)) => {
                    assert_eq!(*found, change.number, "entry {seq} is another one: {}", self.describe());
                }
            }
        }
        assert_eq!(daemon.delivery.status().pending, 0);
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.orders += 1;
        self.events.push(Reverse(Scheduled { at_ms, order: self.orders, event }));
    }

    fn after(&mut self, wait_ms: u64, event: Event) {
        self.at(self.now_ms + wait_ms, event);
    }

    fn add_daemon(&mut self, instance_id: Uuid) -> usize {
        let journal = Journal::new(self.new_stream());
        let mut daemon = Daemon::new(journal, [None; HOMES], instance_id, self.base, self.now_ms);
        self.processes += 1;
        daemon.process = self.processes;
        self.daemons.push(daemon);
        self.wakes.push(None);
        let number = self.daemons.len() - 1;
        self.after(HEARTBEAT_EVERY_MS, Event::Heartbeat(number));
        self.act(number, None);
        number
    }

    fn new_stream(&mut self) -> Uuid {
        self.streams += 1;
        Uuid::from_u128(1_000 + u128::from(self.streams))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(daemon) => {
                if self.wakes[daemon] == Some(self.now_ms) {
                    self.wakes[daemon] = None;
                    self.input(daemon, DeliveryInput::TimePassed);
                }
            }
            Event::Heartbeat(daemon) => self.heartbeat(daemon),
            Event::Change(daemon) => self.change(daemon),
            Event::Fault(fault) => self.begin_fault(fault),
            Event::Mend(fault) => self.end_fault(fault),
            Event::Arrive(daemon, id, pid, request) => self.arrive(daemon, id, pid, request),
            Event::Perform(daemon, id, pid, request) => self.perform(daemon, id, pid, &request),
            Event::Answer(daemon, id, answer) => {
                if self.daemons[daemon].asked.as_ref().is_some_and(|asked| asked.id == id) {
                    self.daemons[daemon].asked = None;
                    if let Ok(DeliveryAnswer::Reconciled(done)) = &answer {
                        self.database.owners.insert(done.token.generation, self.daemons[daemon].process);
                    }
                    self.input(daemon, DeliveryInput::Answer(answer));
                }
            }
            Event::Lost(daemon, pid) => {
                if self.daemons[daemon].connection == Some(pid) {
                    let error = DatabaseError::broken("the connection was closed");
                    self.input(daemon, DeliveryInput::ConnectionLost(error));
                }
            }
        }
    }

    fn heartbeat(&mut self, number: usize) {
        self.after(HEARTBEAT_EVERY_MS, Event::Heartbeat(number));
        let (now_ms, base) = (self.now_ms, self.base);
        let daemon = &mut self.daemons[number];
        if daemon.is_hung {
            return;
        }
        daemon.heartbeat_ms = now_ms;
        let numbered = daemon.journal.last_seq();
        let heartbeat = LoopHeartbeat { at: at(base, now_ms), numbered, dropped: daemon.dropped };
        self.input(number, DeliveryInput::Heartbeat(heartbeat));
    }

    fn change(&mut self, number: usize) {
        self.changes += 1;
        let home = usize::try_from(self.random.below(HOMES as u64)).unwrap();
        self.daemons[number].change(self.changes, home);
        self.committed(number);
    }

    /// Informs the delivery of what the journal has committed.
    fn committed(&mut self, number: usize) {
        let extent = self.daemons[number].extent();
        self.input(number, DeliveryInput::Committed(extent));
    }

    fn input(&mut self, number: usize, input: DeliveryInput) {
        let error = match &input {
            DeliveryInput::Answer(Err(error)) => Some(error.clone()),
            _ => None,
        };
        let now = at(self.base, self.now_ms);
        self.daemons[number].delivery.handle(now, input);
        self.act(number, error.as_ref());
    }

    /// Does what the delivery wants; `error` is what it was informed of.
    fn act(&mut self, number: usize, error: Option<&DatabaseError>) {
        while let Some(action) = self.daemons[number].delivery.next_action() {
            match action {
                DeliveryAction::Request(request) => self.request(number, request),
                DeliveryAction::Disconnect => self.disconnect(number, error),
                DeliveryAction::Acknowledge { stream_id, seq } => {
                    let committed = self.database.high_water.get(&stream_id).copied().unwrap_or_default();
                    assert!(seq <= committed, "entry {seq} is acknowledged, and {committed} was written");
                }
                DeliveryAction::BeginNewStream(stream_id) => {
                    if self.daemons[number].journal.stream_id == stream_id {
                        let stream_id = self.new_stream();
                        self.changes += 1;
                        self.daemons[number].begin_stream(stream_id, self.changes);
                        self.committed(number);
                    }
                }
                DeliveryAction::Log(_) => {}
            }
        }
        self.schedule_wake(number);
    }

    fn schedule_wake(&mut self, number: usize) {
        let Some(wake_at) = self.daemons[number].delivery.wake_at() else { return };
        let wake_ms = wake_at.saturating_duration_since(self.base).as_nanos().div_ceil(1_000_000);
        let wake_ms = u64::try_from(wake_ms).unwrap().max(self.now_ms);
        if self.wakes[number] != Some(wake_ms) {
            self.wakes[number] = Some(wake_ms);
            self.at(wake_ms, Event::Wake(number));
        }
    }

    fn disconnect(&mut self, number: usize, error: Option<&DatabaseError>) {
        let daemon = &mut self.daemons[number];
        if let Some(pid) = daemon.connection
            && !self.database.backend(pid).is_cut_off
        {
            self.database.end_backend(pid);
        }
        daemon.disconnected(self.now_ms, error);
    }

    fn request(&mut self, number: usize, request: DeliveryRequest) {
        self.requests += 1;
        let id = self.requests;
        let daemon = &mut self.daemons[number];
        daemon.check_request(self.now_ms, &request);
        assert!(daemon.asked.is_none(), "two requests are open: {:?} and {request:?}", daemon.asked);
        daemon.asked = Some(Asked { id, at_ms: self.now_ms, answer_max_ms: Daemon::answer_max_ms(&request) });
        match request {
            DeliveryRequest::InstanceId => {
                let instance_id = daemon.instance_id;
                self.after(0, Event::Answer(number, id, Ok(DeliveryAnswer::InstanceId(Some(instance_id)))));
            }
            DeliveryRequest::ReadMap if daemon.is_hung => daemon.map_waits = Some(id),
            DeliveryRequest::ReadMap => {
                let map = daemon.live_map();
                self.after(1, Event::Answer(number, id, Ok(DeliveryAnswer::LiveMap(map))));
            }
            DeliveryRequest::ReadEntries(range) => {
                let is_readable = !daemon.journal.is_unreadable;
                daemon.journal_was_read(self.now_ms, is_readable);
                let answer = match is_readable {
                    true => DeliveryAnswer::Entries(daemon.journal.read(&range)),
                    false => DeliveryAnswer::JournalUnreadable("I/O error".into()),
                };
                self.after(0, Event::Answer(number, id, Ok(answer)));
            }
            DeliveryRequest::Compare { .. } if daemon.journal.is_unreadable => {
                daemon.journal_was_read(self.now_ms, false);
                let answer = DeliveryAnswer::JournalUnreadable("I/O error".into());
                self.after(0, Event::Answer(number, id, Ok(answer)));
            }
            DeliveryRequest::Connect => self.connect(number, id),
            request => {
                if matches!(request, DeliveryRequest::TryLock | DeliveryRequest::Reconcile { .. }) {
                    // The driver limits these.
                    let error = DatabaseError::broken("the database did not answer within 25 s");
                    self.after(DRIVER_WAIT_MS, Event::Answer(number, id, Err(error)));
                }
                if let Some(pid) = self.daemons[number].connection {
                    let latency_ms = self.random.between(0, 2);
                    self.after(latency_ms, Event::Arrive(number, id, pid, request));
                }
            }
        }
    }
}

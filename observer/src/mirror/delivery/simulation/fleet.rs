//! A thousand real deliveries on a model of one server, whose processors they share: how they come back after an outage, and how
//! many transactions they make of their changes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::{
    Comparison, Delivery, DeliveryAction, DeliveryAnswer, DeliveryInput, DeliveryRequest, FencingToken,
    JournalExtent, LiveMap, LockAttempt, LoopHeartbeat, Reconciled, Refusals, ServerPeer,
};
use super::random::Random;
use crate::mirror::error::DatabaseError;
use crate::mirror::items::BatchItem;

const HOSTS: usize = 1_000;
const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
const HEARTBEAT_EVERY: u64 = 5 * SECOND;
/// From a host to the server, and back.
const LATENCY: u64 = 200;
/// How long the driver waits for a connection.
const CONNECT_WAIT: u64 = 10 * SECOND;
/// What a request costs the server, µs of a processor: a connection until it is the host's writer costs 16 ms in all.
const COST_OF_LOGIN: u64 = 5 * MS;
const COST_OF_RECONCILIATION: u64 = 9 * MS;
const COST_OF_STATEMENT: u64 = MS;
const COST_OF_TRANSACTION: u64 = 600;
const COST_OF_ENTRY: u64 = 70;
const COST_OF_PING: u64 = 40;

/// A time, µs.
type Micros = u64;

#[derive(Debug)]
enum Event {
    Wake(usize),
    Heartbeat(usize),
    Change(usize),
    Answer(usize, u64, Result<DeliveryAnswer, DatabaseError>),
    Lost(usize),
    OutageBegins,
    OutageEnds,
}

struct Host {
    delivery: Delivery,
    stream_id: Uuid,
    committed: u64,
    /// What the database has.
    written: u64,
    generation: i64,
    /// The request whose answer is awaited.
    asked: Option<u64>,
    wake_at: Option<Micros>,
    is_connected: bool,
    /// When the host last became the writer.
    present_at: Option<Micros>,
    /// Changes that are not written, with their times.
    waiting: VecDeque<(u64, Micros)>,
    connects: u32,
    first_connect_at: Option<Micros>,
}

/// What a while led to.
#[derive(Debug, Default)]
struct Seen {
    transactions: u64,
    entries: u64,
    /// From a change to the request that writes it, and to its commit.
    held: Vec<Micros>,
    delays: Vec<Micros>,
}

struct Fleet {
    base: Instant,
    random: Random,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, usize)>>,
    /// By the number in `events`.
    contents: Vec<Option<Event>>,
    hosts: Vec<Host>,
    requests: u64,
    is_down: bool,
    /// When each of the server's processors has done what it was given.
    processors: Vec<Micros>,
    seen: Seen,
}

impl Fleet {
    /// All hosts are connected, and nothing happens.
    fn connected(seed: u64, processors: usize) -> Self {
        let mut fleet = Self {
            base: Instant::now(),
            random: Random::new(seed),
            now: 0,
            events: BinaryHeap::new(),
            contents: Vec::new(),
            hosts: Vec::new(),
            requests: 0,
            is_down: false,
            processors: vec![0; processors],
            seen: Seen::default(),
        };
        for number in 0..HOSTS {
            let host = fleet.host(number);
            fleet.hosts.push(host);
            let phase = fleet.random.below(HEARTBEAT_EVERY);
            fleet.at(phase, Event::Heartbeat(number));
            fleet.act(number);
        }
        fleet.run_until(60 * SECOND);
        assert!(fleet.hosts.iter().all(|host| host.present_at.is_some()));
        fleet
    }

    fn host(&mut self, number: usize) -> Host {
        let id = Uuid::from_u64_pair(number as u64, self.random.below(u64::MAX));
        let extent = JournalExtent { stream_id: Some(id), last_seq: 0 };
        let heartbeat = LoopHeartbeat { at: self.base, numbered: 0, dropped: 0 };
        Host {
            delivery: Delivery::new(id, extent, heartbeat, self.base),
            stream_id: id,
            committed: 0,
            written: 0,
            generation: 0,
            asked: None,
            wake_at: None,
            is_connected: false,
            present_at: None,
            waiting: VecDeque::new(),
            connects: 0,
            first_connect_at: None,
        }
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.events.push(Reverse((at, self.contents.len())));
        self.contents.push(Some(event));
    }

    fn run_until(&mut self, end: Micros) {
        while let Some(&Reverse((at, number))) = self.events.peek()
            && at <= end
        {
            self.events.pop();
            self.now = at;
            if let Some(event) = self.contents[number].take() {
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(number) => {
                if self.hosts[number].wake_at == Some(self.now) {
                    self.hosts[number].wake_at = None;
                    self.input(number, DeliveryInput::TimePassed);
                }
            }
            Event::Heartbeat(number) => {
                self.at(self.now + HEARTBEAT_EVERY, Event::Heartbeat(number));
                let numbered = self.hosts[number].committed;
                let heartbeat = LoopHeartbeat { at: self.instant(), numbered, dropped: 0 };
                self.input(number, DeliveryInput::Heartbeat(heartbeat));
            }
            Event::Change(number) => {
                let host = &mut self.hosts[number];
                host.committed += 1;
                host.waiting.push_back((host.committed, self.now));
                let extent = JournalExtent { stream_id: Some(host.stream_id), last_seq: host.committed };
                self.input(number, DeliveryInput::Committed(extent));
            }
            Event::Answer(number, id, answer) => {
                if self.hosts[number].asked == Some(id) {
                    self.hosts[number].asked = None;
                    self.note(number, &answer);
                    self.input(number, DeliveryInput::Answer(answer));
                }
            }
            Event::Lost(number) => {
                if self.hosts[number].is_connected {
                    let error = DatabaseError::broken("the connection was closed");
                    self.input(number, DeliveryInput::ConnectionLost(error));
                }
            }
            Event::OutageBegins => {
                self.is_down = true;
                for number in 0..HOSTS {
                    let after = self.random.below(2 * MS);
                    self.at(self.now + after, Event::Lost(number));
                }
            }
            Event::OutageEnds => self.is_down = false,
        }
    }

    /// Takes note of what an answer means for the host.
    fn note(&mut self, number: usize, answer: &Result<DeliveryAnswer, DatabaseError>) {
        let host = &mut self.hosts[number];
        match answer {
            Ok(DeliveryAnswer::Connected(_)) => host.is_connected = true,
            Ok(DeliveryAnswer::Reconciled(_)) => host.present_at = Some(self.now),
            Ok(DeliveryAnswer::Done) => {
                while let Some((_, since)) = host.waiting.pop_front_if(|(seq, _)| *seq <= host.written) {
                    self.seen.delays.push(self.now - since);
                }
            }
            _ => {}
        }
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    fn input(&mut self, number: usize, input: DeliveryInput) {
        let now = self.instant();
        self.hosts[number].delivery.handle(now, input);
        self.act(number);
    }

    fn act(&mut self, number: usize) {
        while let Some(action) = self.hosts[number].delivery.next_action() {
            match action {
                DeliveryAction::Request(request) => self.request(number, request),
                DeliveryAction::Disconnect => {
                    let host = &mut self.hosts[number];
                    (host.asked, host.is_connected, host.present_at) = (None, false, None);
                }
                _ => {}
            }
        }
        let Some(wake_at) = self.hosts[number].delivery.wake_at() else { return };
        let wake_at = wake_at.saturating_duration_since(self.base).as_nanos().div_ceil(1_000);
        let wake_at = u64::try_from(wake_at).unwrap().max(self.now);
        if self.hosts[number].wake_at != Some(wake_at) {
            self.hosts[number].wake_at = Some(wake_at);
            self.at(wake_at, Event::Wake(number));
        }
    }

    fn request(&mut self, number: usize, request: DeliveryRequest) {
        self.requests += 1;
        let id = self.requests;
        let now = self.now;
        let host = &mut self.hosts[number];
        host.asked = Some(id);
        let done = Ok(DeliveryAnswer::Done);
        let (cost, answer) = match request {
            DeliveryRequest::InstanceId => (0, Ok(DeliveryAnswer::InstanceId(Some(host.stream_id)))),
            DeliveryRequest::ReadMap => {
                let (stream_id, after_seq) = (Some(host.stream_id), host.committed);
                let map = LiveMap { stream_id, after_seq, certain: true, sessions: Vec::new() };
                (0, Ok(DeliveryAnswer::LiveMap(map)))
            }
            DeliveryRequest::ReadEntries(range) => {
                let last = range.through.min(range.after + range.entries_max as u64);
                let items = (range.after + 1..=last).map(|seq| BatchItem { seq, ..BatchItem::default() });
                let held = host.waiting.iter().filter(|(seq, _)| *seq <= last).map(|(_, since)| now - since);
                self.seen.held.extend(held);
                (0, Ok(DeliveryAnswer::Entries(items.collect())))
            }
            DeliveryRequest::Connect => {
                host.connects += 1;
                host.first_connect_at.get_or_insert(now);
                return self.connect(number, id);
            }
            DeliveryRequest::TryLock => (COST_OF_STATEMENT, Ok(DeliveryAnswer::Lock(LockAttempt::Taken(1)))),
            DeliveryRequest::Reconcile { .. } => {
                host.generation += 1;
                let token = FencingToken { host_no: 1, generation: host.generation };
                let done = Reconciled { token, cursor: host.written, refused: Refusals::default() };
                (COST_OF_RECONCILIATION, Ok(DeliveryAnswer::Reconciled(done)))
            }
            DeliveryRequest::Compare { .. } => {
                (COST_OF_STATEMENT, Ok(DeliveryAnswer::Compared(Comparison::Same)))
            }
            DeliveryRequest::Write { statement, .. } => {
                let entries = statement.items().len() as u64;
                host.written = statement.last_seq();
                self.seen.transactions += 1;
                self.seen.entries += entries;
                (COST_OF_TRANSACTION + COST_OF_ENTRY * entries, done)
            }
            DeliveryRequest::Ping | DeliveryRequest::Notify(_) => (COST_OF_PING, done),
            DeliveryRequest::Maintain | DeliveryRequest::MarkBehind(_) | DeliveryRequest::EndBackend(_) => {
                (COST_OF_STATEMENT, done)
            }
        };
        let answered_at = if cost == 0 { now } else { self.serve(cost) + LATENCY };
        self.at(answered_at, Event::Answer(number, id, answer));
    }

    fn connect(&mut self, number: usize, id: u64) {
        if self.is_down {
            let refused = Err(DatabaseError::broken("connection refused"));
            return self.at(self.now + 2 * LATENCY, Event::Answer(number, id, refused));
        }
        let connected_at = self.serve(COST_OF_LOGIN) + LATENCY;
        let (answered_at, answer) = match connected_at < self.now + CONNECT_WAIT {
            true => {
                let peer = ServerPeer { host: "model".into(), backend_pid: i32::try_from(id).unwrap() };
                (connected_at, Ok(DeliveryAnswer::Connected(peer)))
            }
            false => (self.now + CONNECT_WAIT, Err(DatabaseError::broken("no answer within 10 s"))),
        };
        self.at(answered_at, Event::Answer(number, id, answer));
    }

    /// When the server has done what costs so much: the processor that is free first does it.
    fn serve(&mut self, cost: Micros) -> Micros {
        let arrives = self.now + LATENCY;
        let processor = self.processors.iter_mut().min().unwrap();
        *processor = arrives.max(*processor) + cost;
        *processor
    }

    /// The server is down for a while, and the hosts have come back. `None`: a host was not present `limit` after its end.
    fn outage(&mut self, lasts: Micros, limit: Micros) -> Option<Comeback> {
        let back_at = self.now + 1 + lasts;
        self.at(self.now + 1, Event::OutageBegins);
        // The connections are lost in the first 2 ms, also where the server takes new ones at once.
        self.at(back_at, Event::OutageEnds);
        self.run_until(back_at);
        for host in &mut self.hosts {
            (host.connects, host.first_connect_at) = (0, None);
        }
        self.run_until(back_at + limit);
        let mut firsts = Vec::new();
        let mut comeback = Comeback::default();
        for host in &self.hosts {
            firsts.push(host.first_connect_at? - back_at);
            comeback.all_present = comeback.all_present.max(host.present_at? - back_at);
            comeback.connects_most = comeback.connects_most.max(host.connects);
        }
        firsts.sort_unstable();
        comeback.last_first = *firsts.last().unwrap();
        let window = |at: usize| firsts.partition_point(|first| *first < firsts[at] + 100 * MS) - at;
        comeback.most_at_once = (0..HOSTS).map(window).max().unwrap();
        Some(comeback)
    }

    /// Changes on hosts by chance, so many a second.
    fn changes(&mut self, rate: u64, lasts: Micros) -> Seen {
        self.seen = Seen::default();
        let (began, count) = (self.now, rate * lasts / SECOND);
        for _ in 0..count {
            let at = began + self.random.below(lasts);
            let number = usize::try_from(self.random.below(HOSTS as u64)).unwrap();
            self.at(at, Event::Change(number));
        }
        self.run_until(began + lasts + 10 * SECOND);
        assert_eq!(self.seen.delays.len() as u64, count, "every change is delivered, once");
        std::mem::take(&mut self.seen)
    }
}

/// How the hosts came back after an outage.
#[derive(Debug, Default)]
struct Comeback {
    /// From the server's return to the last host's first attempt.
    last_first: Micros,
    /// Hosts whose first attempts fall into the same 100 ms.
    most_at_once: usize,
    all_present: Micros,
    /// Attempts of the host that made most.
    connects_most: u32,
}

fn percentile(mut values: Vec<Micros>, percent: usize) -> Micros {
    values.sort_unstable();
    values[(values.len() - 1) * percent / 100]
}

#[test]
fn after_an_outage_all_hosts_are_present_within_eight_seconds_and_do_not_come_at_once() {
    for (seed, lasts) in [0, 300 * MS, SECOND, 7 * SECOND, 61 * SECOND, 200 * SECOND].into_iter().enumerate()
    {
        let mut fleet = Fleet::connected(seed as u64, 4);
        let comeback = fleet.outage(lasts, 8 * SECOND);
        let comeback = comeback.unwrap_or_else(|| panic!("{lasts} µs: a host is not present after 8 s"));
        let Comeback { last_first, most_at_once, connects_most, .. } = comeback;
        assert!(last_first <= 5 * SECOND + 2 * MS, "{lasts} µs: {comeback:?}");
        // A sixth of the hosts, where two thirds used to come at once.
        assert!(most_at_once <= HOSTS / 6, "{lasts} µs: {comeback:?}");
        assert_eq!(connects_most, 1, "{lasts} µs: {comeback:?}");
    }
}

#[test]
fn a_server_that_is_too_slow_for_all_hosts_gets_them_all_in_the_end() {
    // It needs 17 s of its processor for them. Connections that it accepts too late are made twice.
    let mut fleet = Fleet::connected(7, 1);
    let comeback = fleet.outage(10 * SECOND, 26 * SECOND).expect("all hosts are present after 26 s");
    assert!(comeback.connects_most <= 4, "{comeback:?}");
}

#[test]
fn a_lone_change_leaves_at_once_while_the_server_is_idle() {
    let mut fleet = Fleet::connected(1, 2);
    for rate in [10, 500] {
        let Seen { transactions, entries, held, delays } = fleet.changes(rate, 20 * SECOND);
        assert!(transactions * 100 >= entries * 99, "{transactions} for {entries}");
        let waited = held.iter().filter(|held| **held > 0).count();
        assert!(waited * 100 <= held.len(), "{waited} of {} waited", held.len());
        assert!(percentile(delays, 99) < 10 * MS);
    }
}

#[test]
fn changes_share_transactions_while_the_server_is_busy() {
    // Alone, each of these changes would take 670 µs of the only processor: 2.7 s each second.
    let mut fleet = Fleet::connected(1, 1);
    let Seen { transactions, entries, held, delays } = fleet.changes(4_000, 20 * SECOND);
    assert!(transactions * 3 < entries, "{transactions} for {entries}");
    let (most, late) = (percentile(held, 99), percentile(delays, 99));
    assert!(late < 2 * SECOND, "{late} µs until the commit, {most} µs of them until it was sent");
}

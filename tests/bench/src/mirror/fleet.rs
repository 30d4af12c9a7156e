//! A fleet into one server: a thousand hosts of fifty sessions, each through the real writer, with a login of its own.

mod host;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use observer::mirror::schema;
use observer::mirror::thread::Mirror;
use observer_harness::postgres::Server;
use observer_harness::scene::DATABASE;
use tokio::runtime::Runtime;

use self::host::{Delays, Host, SESSIONS};
use crate::figure::{Figure, Reference};
use crate::mirror::server::{self, Asker, DURABLE};
use crate::mirror::{figure, once, sample};
use crate::setting::Bench;

const NAME: &str = "fleet";
/// Changes a second that a fleet makes at its busiest hour: each session one in less than two minutes.
const BUSY: u64 = 500;
/// Changes of a session in a day.
const A_DAY: u64 = 40;
/// Looks at a fleet in which nothing happens.
const STILL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(1200);
const POLL: Duration = Duration::from_millis(5);
/// Descriptors: each host's mirror has an event loop and a connection, and each connection the server's end.
const DESCRIPTORS: u64 = 16_384;

struct Fleet {
    hosts: Vec<Arc<Host>>,
    /// Before the runtime: their ends are answered for.
    _mirrors: Vec<Mirror>,
    _runtime: Runtime,
    delays: Delays,
    server: Server,
    asker: Asker,
    dice: u64,
}

/// What a while cost.
struct Spent {
    seconds: f64,
    of_server: f64,
    of_hosts: f64,
    wal: f64,
}

/// What the server and the hosts had used.
struct Meter {
    at: Instant,
    of_server: f64,
    of_hosts: f64,
    wal: f64,
}

pub(crate) fn measure(bench: &Bench) -> Vec<Figure> {
    let (fleet, mut figures) = Fleet::connect(bench.scaled(1000, 100));
    let mut fleet = fleet;
    figures.push(fleet.still(bench.scaled(STILL, STILL / 6)));
    figures.extend(fleet.busy(Duration::from_secs(bench.scaled(60, 10))));
    figures.extend(fleet.views(bench.scaled(21, 5)));
    figures.extend(fleet.steps(Duration::from_secs(bench.scaled(15, 5))));
    figures.extend(fleet.day());
    figures
}

impl Fleet {
    /// All daemons at once, as after an outage of the server.
    fn connect(count: usize) -> (Self, Vec<Figure>) {
        raise_descriptors();
        let connections = format!("max_connections={}", count + 50);
        let own = [connections.as_str(), "shared_buffers=1GB", "max_wal_size=8GB"];
        let server = Server::start(&DURABLE.into_iter().chain(own).collect::<Vec<_>>());
        server.psql(DATABASE, &schema::print(schema::SchemaVersion::NONE).expect("the whole script"));
        let hosts: Vec<_> = (0..count).map(Host::new).collect();
        for (number, host) in hosts.iter().enumerate() {
            server.psql(
                DATABASE,
                &format!(
                    "CREATE ROLE host_{number} LOGIN IN ROLE observer_writer;
                     INSERT INTO observer.writers VALUES ('host_{number}', '{}')",
                    host.host_id
                ),
            );
        }
        let asker = Asker::new(&server);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (runtime, delays) = (runtime.expect("a runtime"), Delays::default());
        let meter = Meter::read(&server);
        let mirror = |(number, host): (usize, &Arc<Host>)| {
            host.mirror(server.url_as(DATABASE, &format!("host_{number}")), runtime.handle(), &delays)
        };
        let mirrors = hosts.iter().enumerate().map(mirror).collect();
        let fleet = Self {
            hosts,
            _mirrors: mirrors,
            _runtime: runtime,
            delays,
            server,
            asker,
            dice: 0x2545_F491_4F6C_DD1D,
        };
        fleet.delivered();
        let spent = meter.spent(&fleet.server);
        let all = fleet.rows("SELECT * FROM observer.live");
        assert_eq!(all, count * SESSIONS as usize, "every session is there, and every host is present");
        let what = format!(
            "{count} hosts of {SESSIONS} sessions connect at once: until all are present and delivered"
        );
        let connected = once(NAME, what, "s", spent.seconds).note(format!(
            "Postgres {:.1} s of CPU, the hosts {:.1} s, on the same {} CPUs",
            spent.of_server,
            spent.of_hosts,
            cpus()
        ));
        (fleet, vec![connected])
    }

    /// Nothing happens.
    fn still(&mut self, lasts: Duration) -> Figure {
        let meter = Meter::read(&self.server);
        std::thread::sleep(lasts);
        let spent = meter.spent(&self.server);
        let what = format!("CPU of Postgres while nothing happens on {} hosts", self.hosts.len());
        once(NAME, what, "% of one CPU", 100.0 * spent.of_server / spent.seconds)
            .note(format!("WAL {:.0} bytes a second", spent.wal / spent.seconds))
    }

    /// The busiest hour.
    fn busy(&mut self, lasts: Duration) -> Vec<Figure> {
        // What a checkpoint costs is in: the first change of each page after it carries the page.
        self.asker.ask("CHECKPOINT");
        let meter = Meter::read(&self.server);
        let (made, delays) = self.rate(BUSY, lasts, || ());
        self.delivered();
        let spent = meter.spent(&self.server);
        let changes = made as f64;
        let latency = |name, percentile| {
            let what = format!("{BUSY} changes a second: a change → committed, {name}");
            figure(NAME, what, "ms", &delays, percentile)
        };
        let of_wal = format!("WAL of a change, at {BUSY} a second");
        let of_cpu = format!("CPU of Postgres for a change, at {BUSY} a second");
        vec![
            latency("p50", 50.0),
            latency("p99", 99.0),
            once(NAME, of_wal, "bytes", spent.wal / changes)
                .note("the minute after a checkpoint: first changes of a page carry the page"),
            once(NAME, of_cpu, "µs", spent.of_server * 1e6 / changes).at_most(300.0),
        ]
    }

    /// What readers pay.
    fn views(&mut self, times: usize) -> Vec<Figure> {
        let host = "SELECT * FROM observer.live WHERE host = 'host-7'";
        let one = "SELECT * FROM observer.live WHERE host = 'host-7' AND name = 'checkout-3'";
        let unknown = "SELECT count(*) FROM observer.sessions WHERE state = 'unknown'";
        let (table, _) = self.asker.timed("SELECT * FROM observer.session", times);
        let mut figures = Vec::new();
        for (words, statement) in [
            ("observer.sessions, whole", "SELECT * FROM observer.sessions"),
            ("observer.live, whole", "SELECT * FROM observer.live"),
            ("observer.live of one host", host),
            ("observer.live, one session", one),
            ("observer.sessions: how many are unknown", unknown),
            ("observer.hosts, whole", "SELECT * FROM observer.hosts"),
        ] {
            let (took, rows) = self.asker.timed(statement, times);
            let what = format!("{words}: until its {rows} rows are read");
            let of_view = figure(NAME, what, "ms", &took, 50.0);
            figures.push(if words.ends_with("whole") && rows == self.hosts.len() * SESSIONS as usize {
                of_view.against([Reference::measured(
                    "the table session alone",
                    sample(&table, 50.0).value,
                    "ms",
                )])
            } else {
                of_view
            });
        }
        figures
    }

    /// More and more, until it is too much.
    fn steps(&mut self, lasts: Duration) -> Vec<Figure> {
        let (mut figures, mut rate) = (Vec::new(), 2 * BUSY);
        loop {
            let meter = Meter::read(&self.server);
            let mut waits = BTreeMap::new();
            let asker = Asker::new(&self.server);
            let (made, delays) = self.rate(rate, lasts, || look_at_waits(&asker, &mut waits));
            let spent = meter.spent(&self.server);
            let behind = self.pending();
            let keeps_up = behind <= rate && made as f64 >= 0.95 * rate as f64 * spent.seconds;
            let mut waits: Vec<_> = waits.into_iter().collect();
            waits.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let all: i64 = waits.iter().map(|(_, count)| count).sum();
            let shares =
                waits.iter().take(3).map(|(wait, count)| format!("{wait} {} %", 100 * count / all.max(1)));
            let shares: Vec<String> = shares.collect();
            let what = format!(
                "{rate} changes a second {}: a change → committed, p99",
                if keeps_up { "(kept up with)" } else { "(NOT kept up with)" }
            );
            figures.push(figure(NAME, what, "ms", &delays, 99.0).note(format!(
                "made {:.0}/s, {behind} behind at the end; of {} CPUs Postgres took {:.2}, the hosts {:.2}; its busy backends: {}",
                made as f64 / spent.seconds,
                cpus(),
                spent.of_server / spent.seconds,
                spent.of_hosts / spent.seconds,
                shares.join(", ")
            )));
            self.delivered();
            if !keeps_up {
                return figures;
            }
            rate *= 2;
        }
    }

    /// What a day leaves, delivered as a backlog.
    fn day(&mut self) -> Vec<Figure> {
        let (hosts, of_host) = (self.hosts.len() as u64, A_DAY * SESSIONS);
        let events = hosts * of_host;
        let before = self.sizes();
        let meter = Meter::read(&self.server);
        for host in &self.hosts {
            host.pile_up(of_host);
        }
        self.delivered();
        let spent = meter.spent(&self.server);
        let after = self.sizes();
        let per_event = (after.events - before.events) / events as f64;
        let mebibytes = |bytes: f64| bytes / 1048576.0;
        let day = format!("a day of {A_DAY} changes a session");
        let all = server::number(&self.server, "SELECT count(*) FROM observer.event");
        let numbered = server::number(&self.server, "SELECT sum(last_seq) FROM observer.stream");
        assert_eq!(all, numbered, "each entry is one row");
        vec![
            once(
                NAME,
                format!("{day}, delivered as a backlog by all hosts at once"),
                "rows/s",
                events as f64 / spent.seconds,
            )
            .larger_is_better()
            .note(format!(
                "{events} rows; of {} CPUs Postgres took {:.2}, the hosts {:.2}",
                cpus(),
                spent.of_server / spent.seconds,
                spent.of_hosts / spent.seconds
            )),
            once(NAME, format!("WAL of a change, {day} as a backlog"), "bytes", spent.wal / events as f64),
            once(NAME, format!("history on the disk, {day}"), "MiB", mebibytes(after.events - before.events))
                .note(format!("{per_event:.0} bytes a row, indexes included")),
            once(NAME, "the state on the disk afterwards", "MiB", mebibytes(after.state))
                .note(format!("before that day {:.1} MiB", mebibytes(before.state))),
        ]
    }

    /// Makes `rate` changes a second, on hosts by chance; how many, and how long each took to be committed. `look` is called now
    /// and then.
    fn rate(&mut self, rate: u64, lasts: Duration, mut look: impl FnMut()) -> (u64, Vec<f64>) {
        self.delays.lock().expect("no holder panics").clear();
        let (began, mut made, mut looked) = (Instant::now(), 0, Instant::now());
        while began.elapsed() < lasts {
            let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
            for _ in made..due {
                // xorshift64
                self.dice ^= self.dice << 13;
                self.dice ^= self.dice >> 7;
                self.dice ^= self.dice << 17;
                let at = self.dice % self.hosts.len() as u64;
                self.hosts[at as usize].change(true);
            }
            made = due;
            if looked.elapsed() > Duration::from_millis(300) {
                looked = Instant::now();
                look();
            }
            std::thread::sleep(POLL);
        }
        (made, std::mem::take(&mut *self.delays.lock().expect("no holder panics")))
    }

    fn pending(&self) -> u64 {
        self.hosts.iter().map(|host| host.pending()).sum()
    }

    /// Waits until the database has everything.
    fn delivered(&self) {
        let end = Instant::now() + LIMIT;
        while self.pending() > 0 {
            assert!(
                Instant::now() < end,
                "{} changes are not delivered: {}",
                self.pending(),
                self.server.log()
            );
            std::thread::sleep(POLL);
        }
    }

    fn rows(&self, statement: &str) -> usize {
        self.asker.ask(statement).len()
    }

    fn sizes(&self) -> Sizes {
        let number = |statement| server::number(&self.server, statement);
        Sizes {
            events: number(
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'observer.event'::regclass",
            ),
            state: number(
                "SELECT sum(pg_total_relation_size(c)) FROM unnest('{observer.host,observer.stream,observer.session}'::regclass[]) AS c",
            ),
        }
    }
}

/// Bytes on the disk, indexes and what is stored apart included.
struct Sizes {
    events: f64,
    state: f64,
}

impl Meter {
    fn read(server: &Server) -> Self {
        Self {
            at: Instant::now(),
            of_server: server::cpu_seconds(server),
            of_hosts: own_cpu_seconds(),
            wal: server::wal_bytes(server),
        }
    }

    fn spent(&self, server: &Server) -> Spent {
        let now = Self::read(server);
        Spent {
            seconds: (now.at - self.at).as_secs_f64(),
            of_server: now.of_server - self.of_server,
            of_hosts: now.of_hosts - self.of_hosts,
            wal: now.wal - self.wal,
        }
    }
}

/// What the backends that have something to do wait for.
fn look_at_waits(asker: &Asker, waits: &mut BTreeMap<String, i64>) {
    let rows = asker.ask(
        "SELECT coalesce(wait_event_type || ':' || wait_event, 'on a CPU or waiting for one'), count(*)
         FROM pg_stat_activity WHERE state = 'active' AND usename LIKE 'host\\_%' GROUP BY 1",
    );
    for row in rows {
        *waits.entry(row.get(0)).or_default() += row.get::<_, i64>(1);
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// CPU seconds of this process: the hosts.
fn own_cpu_seconds() -> f64 {
    let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut used) };
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn raise_descriptors() {
    let limit = libc::rlimit { rlim_cur: DESCRIPTORS, rlim_max: DESCRIPTORS };
    // SAFETY: reads one rlimit.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0, "raise the limit of open files: run as root");
}

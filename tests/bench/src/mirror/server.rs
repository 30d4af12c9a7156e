//! The server that is measured, and what it has used.

use std::fs;
use std::time::Instant;

use observer_harness::postgres::Server;
use observer_harness::scene::DATABASE;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Row};

/// As a server is that keeps what it acknowledged.
pub(crate) const DURABLE: [&str; 2] = ["fsync=on", "synchronous_commit=on"];

/// CPU seconds of the server's processes since they began, those that ended included.
pub(crate) fn cpu_seconds(server: &Server) -> f64 {
    let pid_file = fs::read_to_string(server.data().join("postmaster.pid")).expect("it runs");
    let postmaster: u32 = pid_file.lines().next().and_then(|line| line.parse().ok()).expect("a pid");
    // SAFETY: no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let mut sum = 0;
    for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let (own, of_children) = (number(11) + number(12), number(13) + number(14));
        if pid == postmaster {
            sum += own + of_children;
        } else if number(1) == u64::from(postmaster) {
            sum += own;
        }
    }
    sum as f64 / ticks
}

/// Bytes of write-ahead log since the cluster was made.
pub(crate) fn wal_bytes(server: &Server) -> f64 {
    number(server, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
}

/// What a statement gives.
pub(crate) fn number(server: &Server, statement: &str) -> f64 {
    server.psql(DATABASE, statement).parse().expect("a number")
}

/// A client of its own.
pub(crate) struct Asker {
    runtime: Runtime,
    client: Client,
}

impl Asker {
    /// Connects as the owner.
    pub(crate) fn new(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (client, connection) = runtime
            .block_on(tokio_postgres::connect(&server.url(DATABASE), NoTls))
            .expect("the server takes one more connection");
        runtime.spawn(async {
            // It ends with the server.
            let _ = connection.await;
        });
        Self { runtime, client }
    }

    /// Rows.
    pub(crate) fn ask(&self, statement: &str) -> Vec<Row> {
        self.runtime.block_on(self.client.query(statement, &[])).expect("the server answers")
    }

    /// How long the answer takes to be here, ms, `times` over; and how many rows it has.
    pub(crate) fn timed(&self, statement: &str, times: usize) -> (Vec<f64>, usize) {
        let statement = self.runtime.block_on(self.client.prepare(statement)).expect("a statement");
        let mut rows = 0;
        let mut one = || {
            let began = Instant::now();
            rows = self.runtime.block_on(self.client.query(&statement, &[])).expect("it answers").len();
            began.elapsed().as_secs_f64() * 1000.0
        };
        ((0..times).map(|_| one()).collect(), rows)
    }
}

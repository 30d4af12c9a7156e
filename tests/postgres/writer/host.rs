//! A host that the test simulates: the real mirror with a map and a history that the test writes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use observer::api::status::MirrorStatus;
use observer::api::words::{EntryKind, MirrorState};
use observer::mirror::feed::{
    History, HistoryEntry, HostIdentity, JournalExtent, LiveMap, LoopHeartbeat, MirrorFeed, MirrorOptions,
    UserKey,
};
use observer::mirror::items::MirroredArgv;
use observer::mirror::target::DatabaseUrl;
use observer::mirror::thread::Mirror;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use observer_harness::poll::eventually;

/// 2026-11-21T00:00:00Z.
const DAY_NS: i64 = 1_795_219_200_000_000_000;

/// The state of the host: its map and its history.
pub struct World {
    pub stream_id: Uuid,
    /// The entries of the stream, from number 1.
    pub entries: Vec<HistoryEntry>,
    /// The streams before this one.
    pub former: Vec<(Uuid, Vec<HistoryEntry>)>,
    /// The sessions by home.
    pub map: BTreeMap<String, Value>,
    pub boot_id: Uuid,
    pub instance_id: Uuid,
    /// An offset that is added to every `at`.
    pub clock_ns: i64,
    /// The number of entries that have a number but are not committed to the journal's disk.
    pub held_back: u64,
    pub dropped: u64,
    /// The number beyond which the journal's file cannot be read.
    pub readable_to: u64,
    pub acknowledged: u64,
    pub begun_anew: u32,
    next_pid: u32,
}

/// The state that the test, the event loop and the mirror share.
pub struct Shared {
    world: Mutex<World>,
    committed: watch::Sender<u64>,
    /// Whether the event loop hangs.
    stuck: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics under it")
    }
}

/// A simulated daemon with the real mirror.
pub struct Host {
    pub shared: Arc<Shared>,
    mirror: Option<Mirror>,
    turn: Option<JoinHandle<()>>,
    pub host_id: Uuid,
}

/// Returns the parts of a host that outlive its daemon.
pub fn world() -> Arc<Shared> {
    let world = World {
        stream_id: Uuid::new_v4(),
        entries: Vec::new(),
        former: Vec::new(),
        map: BTreeMap::new(),
        boot_id: Uuid::new_v4(),
        instance_id: Uuid::new_v4(),
        clock_ns: 0,
        held_back: 0,
        dropped: 0,
        readable_to: u64::MAX,
        acknowledged: 0,
        begun_anew: 0,
        next_pid: 100,
    };
    let (committed, _) = watch::channel(0);
    Arc::new(Shared { world: Mutex::new(world), committed, stuck: false.into(), over: false.into() })
}

impl Host {
    /// Starts a new host that is mirrored to this database.
    pub fn new(url: &str) -> Self {
        Self::of(world(), Uuid::new_v4(), url)
    }

    /// Starts the daemon of an existing host.
    pub fn of(shared: Arc<Shared>, host_id: Uuid, url: &str) -> Self {
        Self::with(shared, host_id, url, MirroredArgv::First)
    }

    /// Starts the daemon of an existing host, which mirrors these arguments of processes.
    pub fn with(shared: Arc<Shared>, host_id: Uuid, url: &str, argv: MirroredArgv) -> Self {
        Self::run(shared, host_id, MirrorOptions { database: DatabaseUrl::Text(url.into()), argv })
    }

    /// Starts the daemon of an existing host, with the connection string in a file.
    pub fn at(shared: Arc<Shared>, host_id: Uuid, file: &std::path::Path) -> Self {
        let argv = MirroredArgv::First;
        Self::run(shared, host_id, MirrorOptions { database: DatabaseUrl::File(file.into()), argv })
    }

    fn run(shared: Arc<Shared>, host_id: Uuid, options: MirrorOptions) -> Self {
        shared.over.store(false, Ordering::Relaxed);
        let (map, questions) = mpsc::channel(1);
        let (heartbeats, heartbeat) = watch::channel(shared.heartbeat());
        let boot_id = shared.world().boot_id;
        let identity = HostIdentity { host_id, host: "test-host".into(), boot_id, version: "test".into() };
        let history =
            Box::new(FromWorld { committed: shared.committed.subscribe(), shared: Arc::clone(&shared) });
        let its_shared = Arc::clone(&shared);
        let turn = std::thread::spawn(move || its_shared.turn(questions, &heartbeats));
        let feed = MirrorFeed { identity, history, map, heartbeat };
        let mirror = Mirror::start(options, feed).expect("start the mirror");
        Self { shared, mirror: Some(mirror), turn: Some(turn), host_id }
    }

    /// Returns the status of the mirror.
    pub fn status(&self) -> MirrorStatus {
        self.mirror.as_ref().expect("it runs").status()
    }

    /// Starts a process in `home`.
    pub fn start(&self, home: &str) {
        self.shared.world().start(home);
        self.shared.tell();
    }

    /// Ends the process in `home` by SIGKILL.
    pub fn kill(&self, home: &str) {
        self.shared.world().kill(home);
        self.shared.tell();
    }

    /// Makes `count` changes of `homes` sessions: each session starts and dies by turns.
    pub fn churn(&self, homes: usize, count: usize) {
        self.shared.churn(homes, count);
    }

    /// Waits until the database has everything that was committed.
    #[track_caller]
    pub fn delivered(&self, limit: Duration) {
        eventually("everything is delivered", limit, || {
            let (status, world) = (self.status(), self.shared.world());
            let last = world.committed();
            match status.state {
                MirrorState::Ok if world.acknowledged == last => Ok(()),
                _ => Err(format!("{} of {last}; {status:?}", world.acknowledged)),
            }
        });
    }

    /// Waits until the mirror reports this state and an error that contains `error`; returns its status.
    #[track_caller]
    pub fn comes_to(&self, state: MirrorState, error: &str, limit: Duration) -> MirrorStatus {
        eventually(&format!("{state}, {error:?}"), limit, || {
            let status = self.status();
            let answer = status.last_error.as_deref().unwrap_or_default().contains(error);
            if status.state == state && answer { Ok(status) } else { Err(format!("{status:?}")) }
        })
    }

    /// Ends the daemon and returns the parts that outlive it, for the next daemon.
    pub fn ends(self) -> (Arc<Shared>, Uuid) {
        (Arc::clone(&self.shared), self.host_id)
    }

    /// Makes the event loop hang or continue.
    pub fn hang(&self, stuck: bool) {
        self.shared.stuck.store(stuck, Ordering::Relaxed);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.mirror = None;
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(turn) = self.turn.take() {
            let _ = turn.join();
        }
    }
}

impl Shared {
    /// The event loop: answers queries for the map and sends heartbeats.
    fn turn(
        &self,
        mut questions: mpsc::Receiver<oneshot::Sender<LiveMap>>,
        heartbeats: &watch::Sender<LoopHeartbeat>,
    ) {
        let mut at = 0_u32;
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
            if self.stuck.load(Ordering::Relaxed) {
                continue;
            }
            if let Ok(reply) = questions.try_recv() {
                let _ = reply.send(self.world().live_map());
            }
            at += 1;
            // The real daemon's heartbeats are sent every 5 s.
            if at.is_multiple_of(500) {
                heartbeats.send_replace(self.heartbeat());
            }
        }
    }

    fn heartbeat(&self) -> LoopHeartbeat {
        let world = self.world();
        LoopHeartbeat { at: Instant::now(), numbered: world.entries.len() as u64, dropped: world.dropped }
    }

    /// Makes changes as [`Host::churn`] does; there may be no daemon.
    pub fn churn(&self, homes: usize, count: usize) {
        for at in 0..count {
            self.world().turn(&format!("/srv/{}", at % homes));
            self.tell();
        }
    }

    /// Publishes the last committed number, as a commit of the journal does.
    pub fn tell(&self) {
        let committed = self.world().committed();
        self.committed.send_replace(committed);
    }
}

impl World {
    fn committed(&self) -> u64 {
        self.entries.len() as u64 - self.held_back
    }

    fn live_map(&self) -> LiveMap {
        LiveMap {
            stream_id: Some(self.stream_id),
            after_seq: self.entries.len() as u64,
            certain: true,
            sessions: self.map.values().map(Value::to_string).collect(),
        }
    }

    /// Adds an entry of this kind about `home`, as the daemon writes it.
    pub fn entry(&mut self, kind: EntryKind, home: &str, session: &Value) {
        let seq = self.entries.len() as u64 + 1;
        let mut detail = session.clone();
        detail["kind"] = kind.as_str().into();
        detail["at"] = "2026-11-21T00:00:00.000Z".into();
        let start = session["start_boottime_ns"].as_str().and_then(|text| text.parse().ok());
        self.entries.push(HistoryEntry {
            seq,
            at_unix_ns: DAY_NS + self.clock_ns + seq.cast_signed() * 1_000_000,
            boot_id: Some(self.boot_id),
            kind,
            home: Some(home.into()),
            home_mnt_ns: None,
            user: session["uid"]
                .as_u64()
                .map(|uid| UserKey { uid: u32::try_from(uid).expect("a uid"), instance: 1 }),
            name: session["name"].as_str().map(|name| name.as_bytes().into()),
            pid: session["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
            start_boottime_ns: start,
            detail: detail.to_string(),
        });
    }

    pub fn start(&mut self, home: &str) {
        self.next_pid += 1;
        let name = home.rsplit('/').next().unwrap_or(home);
        let at = format!("2026-11-21T00:00:{:02}.000Z", self.next_pid % 60);
        let session = json!({"home": super::as_json(home), "home_mnt_ns": null, "name": name, "state": "live", "since": at, "roots": 1,
            "wrapper_pid": null, "moved_to": null, "end_reason": null, "starts": [at], "pid": self.next_pid,
            "start_boottime_ns": (u64::from(self.next_pid) * 1_000_000_007).to_string(), "started_at": at,
            "exec_at": at, "comm": "sleep", "argv": ["sleep", "--token=hunter2"], "argv_truncated": false,
            "cwd": home, "tty": "pts/3", "pane": "%1", "mux": "tmux", "mux_socket": "/tmp/tmux", "uid": 0,
            "boot_id": self.boot_id.to_string(), "certain": true, "as_of": {"cwd": at}, "death": null});
        self.map.insert(home.into(), session.clone());
        self.entry(EntryKind::SessionStarted, home, &session);
    }

    /// Ends the live session in `home`; if there is none, starts one.
    pub fn turn(&mut self, home: &str) {
        let lives = self.map.get(home).is_some_and(|session| session["state"] == "live");
        if lives { self.kill(home) } else { self.start(home) }
    }

    pub fn kill(&mut self, home: &str) {
        let seq = self.entries.len();
        let session = self.map.get_mut(home).expect("it lives");
        session["state"] = "ended".into();
        session["end_reason"] = "died".into();
        let at = format!("2026-11-21T{:02}:{:02}:{:02}.000Z", seq / 3600 % 24, seq / 60 % 60, seq % 60);
        session["death"] = json!({"kind": "signaled", "code": null, "signal": 9, "signal_name": "SIGKILL",
            "core_dumped": false, "raw_status": 9, "at": at, "lifetime_ms": 5, "sender": null, "polite_signal": null,
            "oom": null, "between": null});
        let session = session.clone();
        self.entry(EntryKind::SessionEnded, home, &session);
    }

    /// Adds the unobserved death of the session in `home`, as a daemon records it that did not run when the
    /// session ended.
    pub fn vanish(&mut self, home: &str) {
        let mut session = self.map.get(home).expect("it lives").clone();
        session["state"] = "ended".into();
        session["end_reason"] = "died".into();
        let at = "2026-11-21T12:00:00.000Z";
        session["death"] = json!({"kind": "unobserved", "code": null, "signal": null, "signal_name": null,
            "core_dumped": null, "raw_status": null, "at": at, "lifetime_ms": null, "sender": null, "polite_signal": null,
            "oom": null, "between": [at, at]});
        self.entry(EntryKind::SessionEnded, home, &session);
    }

    /// Begins a new stream in a new journal file.
    pub fn begin_anew(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.former.push((self.stream_id, entries));
        self.stream_id = Uuid::new_v4();
        self.acknowledged = 0;
        let detail = json!({"from_seq": null, "to_seq": null, "count": null, "reason": "lost"});
        self.entries.push(HistoryEntry {
            seq: 1,
            at_unix_ns: DAY_NS,
            boot_id: Some(self.boot_id),
            kind: EntryKind::Gap,
            detail: detail.to_string(),
            ..HistoryEntry::default()
        });
    }
}

struct FromWorld {
    shared: Arc<Shared>,
    committed: watch::Receiver<u64>,
}

impl History for FromWorld {
    fn instance_id(&self) -> Option<Uuid> {
        Some(self.shared.world().instance_id)
    }

    fn extent(&mut self) -> JournalExtent {
        self.committed.borrow_and_update();
        let world = self.shared.world();
        JournalExtent { stream_id: Some(world.stream_id), last_seq: world.committed() }
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let _ = self.committed.changed().await;
        })
    }

    fn read_after(
        &mut self,
        stream_id: Uuid,
        seq: u64,
        entries_max: usize,
        bytes_max: usize,
    ) -> anyhow::Result<Vec<HistoryEntry>> {
        let world = self.shared.world();
        anyhow::ensure!(seq < world.readable_to, "the journal cannot be read: Input/output error");
        if world.stream_id != stream_id {
            return Ok(Vec::new());
        }
        let mut bytes = 0;
        let after = world
            .entries
            .iter()
            // The result includes entries of a commit that is not published yet.
            .filter(|entry| entry.seq > seq)
            .take(entries_max);
        let fits = after.take_while(|entry| {
            let fits = bytes < bytes_max;
            bytes += entry.detail.len();
            fits
        });
        Ok(fits.cloned().collect())
    }

    fn acknowledged(&mut self, stream_id: Uuid, seq: u64) {
        let mut world = self.shared.world();
        if world.stream_id == stream_id {
            world.acknowledged = seq;
        }
    }

    fn begin_anew(&mut self, stream_id: Uuid) {
        let mut world = self.shared.world();
        if world.stream_id == stream_id {
            world.begin_anew();
            world.begun_anew += 1;
            drop(world);
            self.shared.tell();
        }
    }
}

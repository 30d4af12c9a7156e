//! A host of the fleet: the real mirror, on a history that is computed from its numbers. Nothing of it is kept but what
//! waits for its commit.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use observer::api::words::EntryKind;
use observer::mirror::feed::{
    History, HistoryEntry, HostIdentity, JournalExtent, LiveMap, LoopHeartbeat, MirrorFeed, MirrorOptions,
    UserKey,
};
use observer::mirror::items::MirroredArgv;
use observer::mirror::target::DatabaseUrl;
use observer::mirror::thread::Mirror;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// Sessions of a host.
pub(crate) const SESSIONS: u64 = 50;
/// Changes of a session from one start to the next: the first starts it, the last is its death, the others move it.
const LIFE: u64 = 10;
/// Between two heartbeats, as the daemon's.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// 2026-11-21T00:00:00Z.
const DAY_NS: i64 = 1_795_219_200_000_000_000;

/// What the host has numbered, and what of it the database has.
#[derive(Debug)]
pub(crate) struct Host {
    pub host_id: Uuid,
    name: String,
    boot_id: Uuid,
    instance_id: Uuid,
    stream_id: Uuid,
    numbered: AtomicU64,
    acknowledged: AtomicU64,
    committed: watch::Sender<u64>,
    /// Changes whose commit is timed.
    waiting: Mutex<VecDeque<(u64, Instant)>>,
}

/// From a change to its commit's answer, ms; of all hosts.
pub(crate) type Delays = Arc<Mutex<Vec<f64>>>;

impl Host {
    /// With its sessions, each of which has just started.
    pub(crate) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self {
            host_id: Uuid::new_v4(),
            name: format!("host-{number}"),
            boot_id: Uuid::new_v4(),
            instance_id: Uuid::new_v4(),
            stream_id: Uuid::new_v4(),
            numbered: AtomicU64::new(SESSIONS),
            acknowledged: AtomicU64::new(0),
            committed: watch::channel(SESSIONS).0,
            waiting: Mutex::default(),
        })
    }

    /// Starts its mirror; `runtime` answers for its loop.
    pub(crate) fn mirror(self: &Arc<Self>, url: String, runtime: &Handle, delays: &Delays) -> Mirror {
        let (map, mut questions) = mpsc::channel::<oneshot::Sender<LiveMap>>(1);
        let (heartbeats, heartbeat) = watch::channel(self.heartbeat());
        let host = Arc::clone(self);
        runtime.spawn(async move {
            let mut due = tokio::time::interval(HEARTBEAT_EVERY);
            loop {
                tokio::select! {
                    question = questions.recv() => match question {
                        // Whoever asked may be gone.
                        Some(reply) => drop(reply.send(host.live_map())),
                        None => return,
                    },
                    _ = due.tick() => drop(heartbeats.send_replace(host.heartbeat())),
                }
            }
        });
        let identity = HostIdentity {
            host_id: self.host_id,
            host: self.name.clone(),
            boot_id: self.boot_id,
            version: "bench".into(),
        };
        let committed = self.committed.subscribe();
        let history = Box::new(Computed { host: Arc::clone(self), committed, delays: Arc::clone(delays) });
        let options = MirrorOptions { database: DatabaseUrl::Text(url), argv: MirroredArgv::First };
        Mirror::start(options, MirrorFeed { identity, history, map, heartbeat }).expect("start a mirror")
    }

    /// One more change; `timed`: until it is committed.
    pub(crate) fn change(&self, timed: bool) {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        let seq = self.numbered.fetch_add(1, Ordering::SeqCst) + 1;
        if timed {
            waiting.push_back((seq, Instant::now()));
        }
        drop(waiting);
        self.committed.send_replace(seq);
    }

    /// Many at once.
    pub(crate) fn pile_up(&self, changes: u64) {
        let seq = self.numbered.fetch_add(changes, Ordering::SeqCst) + changes;
        self.committed.send_replace(seq);
    }

    /// Changes that the database does not have.
    pub(crate) fn pending(&self) -> u64 {
        self.numbered.load(Ordering::SeqCst) - self.acknowledged.load(Ordering::SeqCst)
    }

    fn heartbeat(&self) -> LoopHeartbeat {
        let numbered = self.numbered.load(Ordering::SeqCst);
        LoopHeartbeat { at: Instant::now(), numbered, dropped: 0 }
    }

    fn live_map(&self) -> LiveMap {
        let after_seq = self.numbered.load(Ordering::SeqCst);
        // Each session's last change: the numbers go round.
        let last = after_seq - SESSIONS + 1..=after_seq;
        let sessions = last.map(|seq| self.session(seq).to_string()).collect();
        LiveMap { stream_id: Some(self.stream_id), after_seq, certain: true, sessions }
    }

    /// A session after this change.
    fn session(&self, seq: u64) -> Value {
        let (session, step) = ((seq - 1) % SESSIONS, (seq - 1) / SESSIONS);
        let (life, age) = (step / LIFE, step % LIFE);
        let (pid, dead) = (1000 + session + life * SESSIONS, age == LIFE - 1);
        let home = format!("/srv/projects/customer-{}/checkout-{session}", session % 7);
        let at = "2026-11-21T09:30:00.123Z";
        let death = json!({"kind": "signaled", "code": null, "signal": 9, "signal_name": "SIGKILL",
            "core_dumped": false, "raw_status": 9, "at": at, "lifetime_ms": 86_400_000, "sender": null,
            "polite_signal": null, "oom": null, "between": null});
        json!({"home": home, "home_mnt_ns": null, "name": format!("checkout-{session}"),
            "state": if dead { "ended" } else { "live" }, "since": at, "roots": u64::from(!dead), "wrapper_pid": null,
            "moved_to": null, "end_reason": if dead { "died".into() } else { Value::Null }, "starts": [at, at, at],
            "pid": pid, "start_boottime_ns": (pid * 1_000_000_007).to_string(), "started_at": at, "exec_at": at,
            "comm": "agent", "argv": ["agent"], "argv_truncated": false, "cwd": format!("{home}/src/module-{age}"),
            "tty": format!("pts/{session}"), "pane": format!("%{session}"), "mux": "tmux",
            "mux_socket": "/tmp/tmux-1000/default", "uid": 0, "boot_id": self.boot_id.to_string(), "certain": true,
            "as_of": {"cwd": at}, "death": if dead { death } else { Value::Null }})
    }

    fn entry(&self, seq: u64) -> HistoryEntry {
        let mut detail = self.session(seq);
        let kind = match (seq - 1) / SESSIONS % LIFE {
            0 => EntryKind::SessionStarted,
            9 => EntryKind::SessionEnded,
            _ => EntryKind::SessionChanged,
        };
        if let Some(fields) = detail.as_object_mut() {
            fields.insert("kind".into(), kind.as_str().into());
            fields.insert("at".into(), "2026-11-21T09:30:00.123Z".into());
        }
        let text = |name: &str| detail.get(name).and_then(Value::as_str);
        HistoryEntry {
            seq,
            at_unix_ns: DAY_NS + seq.cast_signed() * 1_000_000,
            boot_id: Some(self.boot_id),
            kind,
            home: text("home").map(|home| home.as_bytes().into()),
            home_mnt_ns: None,
            user: Some(UserKey { uid: 0, instance: 1 }),
            name: text("name").map(|name| name.as_bytes().into()),
            pid: detail.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok()),
            start_boottime_ns: text("start_boottime_ns").and_then(|text| text.parse().ok()),
            detail: detail.to_string(),
        }
    }
}

/// Its journal, as the mirror sees it.
struct Computed {
    host: Arc<Host>,
    committed: watch::Receiver<u64>,
    delays: Delays,
}

impl History for Computed {
    fn instance_id(&self) -> Option<Uuid> {
        Some(self.host.instance_id)
    }

    fn extent(&mut self) -> JournalExtent {
        let last_seq = *self.committed.borrow_and_update();
        JournalExtent { stream_id: Some(self.host.stream_id), last_seq }
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            // An error: the host is gone, and its mirror goes with it.
            let _ = self.committed.changed().await;
        })
    }

    fn read_after(
        &mut self,
        _: Uuid,
        seq: u64,
        entries_max: usize,
        bytes_max: usize,
    ) -> anyhow::Result<Vec<HistoryEntry>> {
        let last = (*self.committed.borrow()).min(seq + entries_max as u64);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for seq in seq + 1..=last {
            if bytes >= bytes_max {
                break;
            }
            let entry = self.host.entry(seq);
            bytes += entry.detail.len();
            entries.push(entry);
        }
        Ok(entries)
    }

    fn acknowledged(&mut self, _: Uuid, seq: u64) {
        let now = Instant::now();
        self.host.acknowledged.store(seq, Ordering::SeqCst);
        let mut waiting = self.host.waiting.lock().expect("no holder panics");
        let mut delays = self.delays.lock().expect("no holder panics");
        while let Some((_, since)) = waiting.pop_front_if(|(number, _)| *number <= seq) {
            delays.push((now - since).as_secs_f64() * 1000.0);
        }
    }

    fn begin_anew(&mut self, _: Uuid) {
        unreachable!("nobody puts the database ahead of a journal that is computed");
    }
}

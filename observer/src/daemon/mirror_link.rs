//! The connection between the event loop, the journal and the mirror. The event loop sends heartbeats, and the map when the
//! mirror requests it. The mirror reads history from the journal, on its own thread.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;
use uuid::Uuid;

use crate::api::entry::{NumberedEntry, Subject};
use crate::api::status::{JournalStatus, MirrorStatus};
use crate::api::words::MirrorState;
use crate::boot;
use crate::journal::{Committed, EntryFilter, Journal, JournalReader, Numbering, Spool};
use crate::mirror::feed::{
    History, HistoryEntry, HostIdentity, JournalExtent, LiveMap, LoopHeartbeat, MirrorFeed, MirrorOptions,
    UserKey,
};
use crate::mirror::thread::Mirror;
use crate::text::bytes::to_line;

/// Interval of heartbeats. The server ends presence after three that are missing.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Interval of heartbeats while changes are not on the disk, so that the mirror soon learns whether they get there.
const HEARTBEAT_BEHIND: Duration = Duration::from_secs(1);

/// The event loop's side.
pub enum MirrorLink {
    /// A mirror runs.
    On {
        /// The mirror.
        mirror: Mirror,
        /// Sends heartbeats.
        heartbeats: watch::Sender<LoopHeartbeat>,
        /// When the next is due.
        due: Instant,
    },
    /// No mirror runs; why, if one is configured.
    Off(Option<String>),
}

/// Requests of the mirror for the map.
pub type MapRequests = mpsc::Receiver<oneshot::Sender<LiveMap>>;

impl MirrorLink {
    /// Starts the mirror, if there is to be one, which delivers from `journal`. Does not wait for the database.
    pub fn start(
        options: Option<MirrorOptions>,
        journal: Option<&Journal>,
        boot_id: &str,
    ) -> Result<(Self, MapRequests)> {
        let (map, questions) = mpsc::channel(1);
        let Some(options) = options else { return Ok((Self::Off(None), questions)) };
        let Some(journal) = journal else {
            let why = "nothing is mirrored without a journal; name a directory for it with --state-dir";
            error!(part = "mirror", reason = "no_journal", "{why}");
            return Ok((Self::Off(Some(why.into())), questions));
        };
        let (host_id, host) = match boot::host_id().and_then(|id| Ok((id, boot::hostname()?))) {
            Ok(who) => who,
            Err(error) => {
                let why = format!("nothing is mirrored: {error:#}");
                error!(part = "mirror", reason = "no_identity", "{}", to_line(why.as_bytes()));
                return Ok((Self::Off(Some(why)), questions));
            }
        };
        let identity = HostIdentity {
            host_id,
            host,
            boot_id: Uuid::parse_str(boot_id).context("the kernel's boot_id is no UUID; report this")?,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let (heartbeats, receiver) = watch::channel(current_heartbeat(Some(journal)));
        let history = Box::new(JournalHistory::new(journal.spool()));
        let feed = MirrorFeed { identity, history, map, heartbeat: receiver };
        let mirror = Mirror::start(options, feed)?;
        Ok((Self::On { mirror, heartbeats, due: Instant::now() + HEARTBEAT_EVERY }, questions))
    }

    /// Ends the mirror, which delivers until then what it can. Does not wait longer.
    pub fn stop_by(self, deadline: Instant) {
        if let Self::On { mirror, .. } = self {
            mirror.stop_by(deadline);
        }
    }

    /// When the next heartbeat is due.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Self::On { due, .. } => Some(*due),
            Self::Off(_) => None,
        }
    }

    /// Sends a heartbeat if one is due: the event loop runs.
    pub fn heartbeat(&mut self, journal: Option<&Journal>) {
        let Self::On { heartbeats, due, .. } = self else { return };
        let now = Instant::now();
        let every = if journal.is_some_and(Journal::is_behind) { HEARTBEAT_BEHIND } else { HEARTBEAT_EVERY };
        *due = (*due).min(now + every);
        if *due <= now {
            *due = now + every;
            heartbeats.send_replace(current_heartbeat(journal));
        }
    }

    /// Whether it delivers entries to the database.
    pub fn delivers(&self) -> bool {
        let Self::On { mirror, .. } = self else { return false };
        matches!(mirror.status().state, MirrorState::Ok | MirrorState::CatchingUp)
    }

    /// What `status` reports; `pending` and `lag_ms` come from the journal's status.
    pub fn status(&self, journal: &JournalStatus) -> MirrorStatus {
        match self {
            Self::On { mirror, .. } => MirrorStatus {
                pending: journal.last_seq.saturating_sub(journal.delivered),
                lag_ms: Some(journal.oldest_undelivered_ms.unwrap_or(0)),
                ..mirror.status()
            },
            Self::Off(why) => MirrorStatus::off(why.as_deref()),
        }
    }
}

fn current_heartbeat(journal: Option<&Journal>) -> LoopHeartbeat {
    let Numbering { last_seq, dropped, .. } = journal.map(Journal::numbering).unwrap_or_default();
    LoopHeartbeat { at: Instant::now(), numbered: last_seq, dropped }
}

/// The journal as the mirror reads it.
struct JournalHistory {
    spool: Spool,
    committed: watch::Receiver<Committed>,
    /// A reader of one stream; another one is opened when another stream is requested.
    reader: Option<JournalReader>,
}

impl JournalHistory {
    fn new(spool: Spool) -> Self {
        Self { committed: spool.committed(), spool, reader: None }
    }
}

impl History for JournalHistory {
    fn instance_id(&self) -> Option<Uuid> {
        Uuid::parse_str(&self.spool.instance_id()?).ok()
    }

    fn extent(&mut self) -> JournalExtent {
        let committed = self.committed.borrow_and_update();
        JournalExtent { stream_id: Uuid::parse_str(&committed.stream_id).ok(), last_seq: committed.last_seq }
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if self.committed.changed().await.is_err() {
                // The journal was closed: nothing more comes.
                std::future::pending::<()>().await;
            }
        })
    }

    fn read_after(
        &mut self,
        stream_id: Uuid,
        seq: u64,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<HistoryEntry>> {
        let stream_id = &*stream_id.to_string();
        if self.reader.as_ref().is_none_or(|reader| **reader.stream_id() != *stream_id) {
            self.reader = Some(JournalReader::open(self.spool.path())?);
        }
        let Some(reader) = self.reader.as_ref().filter(|reader| **reader.stream_id() == *stream_id) else {
            self.reader = None;
            return Ok(Vec::new());
        };
        let read = reader.read_after(seq, &EntryFilter::default(), entries_max, bytes_max);
        if let Err(error) = &read {
            self.reader = None;
            self.spool.read_failed(stream_id, error);
        }
        Ok(read?.into_iter().map(event).collect())
    }

    fn acknowledged(&mut self, stream_id: Uuid, seq: u64) {
        self.spool.acknowledge(&stream_id.to_string(), seq);
    }

    fn begin_anew(&mut self, stream_id: Uuid) {
        self.reader = None;
        self.spool.begin_new_stream(&stream_id.to_string());
    }
}

/// The line about the mirror that the daemon prints when it is ready; it contains no secret.
pub fn announced(link: &MirrorLink) -> Option<String> {
    match link {
        MirrorLink::On { mirror, .. } => {
            let status = mirror.status();
            let host_id = status.host_id.unwrap_or_default();
            Some(format!("  mirror     {}, as host_id {host_id}", status.state))
        }
        MirrorLink::Off(_) => None,
    }
}

/// The entry as the mirror takes it.
fn event(NumberedEntry { seq, entry }: NumberedEntry) -> HistoryEntry {
    let of_host = HistoryEntry {
        seq,
        at_unix_ns: entry.at_unix_ns,
        boot_id: Uuid::parse_str(&entry.boot_id).ok(),
        kind: entry.kind,
        detail: entry.detail,
        ..HistoryEntry::default()
    };
    let Some(Subject { home, home_mnt_ns, uid, instance, name, process }) = entry.subject else {
        return of_host;
    };
    HistoryEntry {
        home: Some(home),
        home_mnt_ns,
        user: uid.map(|uid| UserKey { uid, instance }),
        name: Some(name),
        pid: Some(process.tgid.0),
        start_boottime_ns: Some(process.start_boottime.0),
        ..of_host
    }
}

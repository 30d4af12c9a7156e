//! Between the loop, the journal and the mirror: the loop gives its beat and the map when it is asked; history comes from
//! the journal, on the mirror's own thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{Daemon, answers};
use crate::api::status::{JournalStatus, MirrorStatus};
use crate::boot;
use crate::config;
use crate::journal::reader::{Filter, Reader};
use crate::journal::{Committed, Delivery, Journal};
use crate::mirror::feed::{
    History, HistoryEntry, HostIdentity, JournalExtent, LiveMap, LoopHeartbeat, MirrorFeed, MirrorOptions,
};
use crate::mirror::items::MirroredArgv;
use crate::mirror::thread::Mirror;

/// Between two signs of life. The server ends presence after three that it misses.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// While changes are not on the disk: the mirror has to find out soon whether they get there.
const BEAT_BEHIND: Duration = Duration::from_secs(1);

/// The loop's side.
pub enum Link {
    /// A mirror runs.
    On {
        /// It.
        mirror: Mirror,
        /// Signs of life.
        beat: watch::Sender<LoopHeartbeat>,
        /// When the next is due.
        due: Instant,
    },
    /// None does; why, if one was wanted.
    Off(Option<String>),
}

/// Questions of the mirror for the map.
pub type Questions = mpsc::Receiver<oneshot::Sender<LiveMap>>;

impl Link {
    /// Starts the mirror that `config` wants, out of `journal`; waits for no database.
    pub fn start(
        config: config::Mirror,
        journal: Option<&Journal>,
        boot_id: &str,
    ) -> Result<(Self, Questions)> {
        let (map, questions) = mpsc::channel(1);
        let Some(database) = config.database else { return Ok((Self::Off(None), questions)) };
        let Some(journal) = journal else {
            let why = "nothing is mirrored without a journal; name a directory for it with --state-dir";
            eprintln!("observer: warning: {why}");
            return Ok((Self::Off(Some(why.into())), questions));
        };
        let (host_id, host) = match boot::host_id().and_then(|id| Ok((id, boot::hostname()?))) {
            Ok(who) => who,
            Err(error) => {
                let why = format!("nothing is mirrored: {error:#}");
                eprintln!("observer: warning: {why}");
                return Ok((Self::Off(Some(why)), questions));
            }
        };
        let identity = HostIdentity {
            host_id,
            host,
            boot_id: Uuid::parse_str(boot_id).context("the kernel's boot_id is no UUID; report this")?,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let (beat, beats) = watch::channel(beat(Some(journal)));
        let history = Box::new(FromJournal::new(journal.delivery()));
        let feed = MirrorFeed { identity, history, map, heartbeat: beats };
        let argv = if config.argv { MirroredArgv::All } else { MirroredArgv::First };
        let mirror = Mirror::start(MirrorOptions { database, argv }, feed)?;
        Ok((Self::On { mirror, beat, due: Instant::now() + BEAT_EVERY }, questions))
    }

    /// When the next sign of life is due.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Self::On { due, .. } => Some(*due),
            Self::Off(_) => None,
        }
    }

    /// The loop goes round.
    pub fn beat(&mut self, journal: Option<&Journal>) {
        let Self::On { beat: beats, due, .. } = self else { return };
        let now = Instant::now();
        let every = if journal.is_some_and(Journal::is_behind) { BEAT_BEHIND } else { BEAT_EVERY };
        *due = (*due).min(now + every);
        if *due <= now {
            *due = now + every;
            beats.send_replace(beat(journal));
        }
    }

    /// For `status`; `pending` and `lag_ms` are the journal's.
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

fn beat(journal: Option<&Journal>) -> LoopHeartbeat {
    let (_, numbered, dropped) = journal.map(Journal::numbered).unwrap_or_else(|| (Arc::from(""), 0, 0));
    LoopHeartbeat { at: Instant::now(), numbered, dropped }
}

impl Daemon {
    /// The map for the mirror, with everything in it that happened before it asked.
    pub(super) fn map_wanted(&mut self, reply: oneshot::Sender<LiveMap>) {
        self.drain_to(self.kernel.producer_position());
        self.tick(crate::clock::boottime());
        self.perform();
        let (stream_id, after_seq, _) =
            self.edge.journal.as_ref().map(Journal::numbered).unwrap_or_else(|| (Arc::from(""), 0, 0));
        let list = answers::list(&self.core, self.moment(true), true);
        // Strings, numbers and structs only: serialising them into memory cannot fail.
        let json = |session| serde_json::to_string(session).unwrap_or_default();
        let sessions = list.sessions.iter().map(json).collect();
        // Whoever asked may have given up.
        let stream_id = Uuid::parse_str(&stream_id).ok();
        let _ = reply.send(LiveMap { stream_id, after_seq, certain: self.edge.certain, sessions });
    }
}

/// The journal, as the mirror sees it.
struct FromJournal {
    journal: Delivery,
    committed: watch::Receiver<Committed>,
    /// Of one stream; another is opened when it is asked for.
    reader: Option<Reader>,
}

impl FromJournal {
    fn new(journal: Delivery) -> Self {
        Self { committed: journal.committed(), journal, reader: None }
    }
}

impl History for FromJournal {
    fn instance_id(&self) -> Option<Uuid> {
        Uuid::parse_str(&self.journal.instance_id()?).ok()
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
            self.reader = Some(Reader::open(self.journal.path())?);
        }
        let Some(reader) = self.reader.as_ref().filter(|reader| **reader.stream_id() == *stream_id) else {
            self.reader = None;
            return Ok(Vec::new());
        };
        let read = reader.read_after(seq, &Filter::default(), entries_max, bytes_max);
        if let Err(error) = &read {
            self.reader = None;
            self.journal.read_failed(stream_id, error);
        }
        let event = |stored: crate::journal::reader::Stored| HistoryEntry {
            seq: stored.seq,
            at_unix_ns: stored.entry.at_unix_ns,
            boot_id: Uuid::parse_str(&stored.entry.boot_id).ok(),
            kind: stored.entry.kind,
            home: stored.entry.home,
            name: stored.entry.name,
            pid: stored.entry.pid,
            start_boottime_ns: stored.entry.start_boottime_ns,
            detail: stored.entry.detail,
        };
        Ok(read?.into_iter().map(event).collect())
    }

    fn acknowledged(&mut self, stream_id: Uuid, seq: u64) {
        self.journal.acknowledged(&stream_id.to_string(), seq);
    }

    fn begin_anew(&mut self, stream_id: Uuid) {
        self.reader = None;
        self.journal.begin_anew(&stream_id.to_string());
    }
}

/// A line for people at the start; names no secret.
pub fn announced(link: &Link) -> Option<String> {
    match link {
        Link::On { mirror, .. } => {
            let status = mirror.status();
            let host_id = status.host_id.unwrap_or_default();
            Some(format!("  mirror     {}, as host_id {host_id}", status.state))
        }
        Link::Off(_) => None,
    }
}

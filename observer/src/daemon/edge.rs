//! Where the core speaks to: changes go to whoever watches, requests are kept until the loop can perform them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use observer_core::session::Home;
use observer_core::{BootTime, Change, Process, ProcessKey, Request, Session, Sink};

use super::pace::Pace;
use super::resume::Memory;
use crate::api::Context;
use crate::api::change::{change_body, journaled, kind};
use crate::clock;
use crate::journal::{Entry, Journal};
use crate::socket::hub::{Hub, Scope};
use crate::text::bytes::Text;

/// Between two messages about gaps in the log, ns.
const GAP_LOG_NS: u64 = 10_000_000_000;

/// A pass that the core asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingPass {
    /// No sooner.
    pub not_before: BootTime,
    /// Hint bits that it answers.
    pub hints: u64,
}

/// The daemon's side of [`Sink`].
pub struct Edge {
    /// Who watches.
    pub hub: Hub,
    /// Where changes of sessions are kept, if they are.
    pub journal: Option<Journal>,
    /// The pass that is wanted, if one is.
    pub pass: Option<PendingPass>,
    /// Processes whose memory is wanted.
    pub memory: Vec<ProcessKey>,
    /// Homes whose owner is wanted.
    pub owners: Vec<Home>,
    /// Processes that shall wake the reader from now on, or no longer.
    pub watches: Vec<(ProcessKey, bool)>,
    /// This boot.
    pub boot_id: String,
    /// Realtime minus boot time, ns.
    pub wall_offset_ns: i64,
    /// No gap is open.
    pub certain: bool,
    /// Processes that stand for a session. One that ended stays until [`Edge::settle`], so that its last change is
    /// still a session's.
    primaries: HashSet<ProcessKey>,
    /// Who stood for each home last.
    primary_by_home: HashMap<Arc<Home>, ProcessKey>,
    /// The primary that ended last; another may stand for its home.
    last_death: Option<(ProcessKey, String)>,
    /// Changes of sessions get entries: the first look is over.
    pub telling: bool,
    /// What the daemon before this one knew.
    pub memory_of_before: Memory,
    /// How often changes of sessions are written.
    pace: Pace,
    gap_logged_at: Option<BootTime>,
}

impl Edge {
    /// Nothing is wanted and nobody watches.
    pub fn new(boot_id: String) -> Self {
        Self {
            hub: Hub::default(),
            journal: None,
            pass: None,
            memory: Vec::new(),
            owners: Vec::new(),
            watches: Vec::new(),
            boot_id,
            wall_offset_ns: clock::wall_offset_ns(),
            certain: false,
            primaries: HashSet::new(),
            primary_by_home: HashMap::new(),
            last_death: None,
            telling: false,
            memory_of_before: Memory::default(),
            pace: Pace::default(),
            gap_logged_at: None,
        }
    }

    /// The watches wanted since the last call.
    pub fn settle(&mut self) -> Vec<(ProcessKey, bool)> {
        let watches = std::mem::take(&mut self.watches);
        for (key, on) in &watches {
            if !on {
                self.primaries.remove(key);
            }
        }
        watches
    }

    /// Keeps who stands for each home. Where a primary died and another took its place, no session ended: the death
    /// gets an entry of its own, which this gives.
    fn follow(&mut self, at: BootTime, change: &Change<'_>) -> Option<Entry> {
        match *change {
            Change::ProcessEnded(process, _) if self.primaries.contains(&process.key) => {
                let context = Context { boot_id: &self.boot_id, certain: self.certain };
                let body = change_body(at, change, self.wall_offset_ns, context);
                self.last_death = Some((process.key, String::from_utf8_lossy(&body).into_owned()));
                None
            }
            Change::SessionStarted(session, _) | Change::SessionChanged(session, _) => {
                let home = Arc::clone(&session.home);
                let former = self.primary_by_home.insert(home, session.primary)?;
                let (key, body) = self.last_death.as_ref().filter(|(key, _)| *key == former)?;
                (session.primary != former).then(|| Entry {
                    at_unix_ns: at.0.cast_signed().saturating_add(self.wall_offset_ns),
                    boottime_ns: at.0,
                    boot_id: self.boot_id.clone(),
                    detail: of_home(session, body),
                    kind: "process_ended".into(),
                    ..columns(session, *key)
                })
            }
            Change::SessionEnded(session, _) => {
                self.primary_by_home.remove(&session.home);
                None
            }
            _ => None,
        }
    }

    /// Whether a change gets an entry of its own in the journal, and at once.
    fn is_written(&mut self, at: BootTime, change: &Change<'_>) -> bool {
        match *change {
            Change::SessionStarted(session, primary) => {
                self.pace.started(at, session);
                self.tells(session, primary)
            }
            Change::SessionChanged(session, primary) => {
                self.tells(session, primary) && self.pace.changed(at, session)
            }
            Change::SessionEnded(session, primary) => {
                self.pace.ended(&session.home);
                self.tells(session, primary)
            }
            _ => true,
        }
    }

    /// Gives the journal an entry with this detail; returns its number, if the journal has room for it.
    fn write(&self, at: BootTime, body: &[u8], entry: Entry) -> Option<u64> {
        self.journal.as_ref()?.push(Entry {
            at_unix_ns: at.0.cast_signed().saturating_add(self.wall_offset_ns),
            boottime_ns: at.0,
            boot_id: self.boot_id.clone(),
            // JSON is UTF-8.
            detail: String::from_utf8_lossy(body).into_owned(),
            ..entry
        })
    }

    /// When the next change of a session that waits for the journal may be written.
    pub fn next_due(&self) -> Option<BootTime> {
        self.pace.next_due()
    }

    /// The homes of the sessions whose changes may be written by `due`.
    pub fn take_due(&mut self, due: BootTime) -> Vec<Arc<Home>> {
        self.pace.take_due(due)
    }

    /// Writes a change that waited, as the session is now. Who watches has seen its values already, without a number.
    pub fn write_waiting(&mut self, at: BootTime, session: &Session, primary: &Process) {
        self.pace.written(at, session);
        let change = Change::SessionChanged(session, primary);
        let Some(entry) = entry(&change) else { return };
        let context = Context { boot_id: &self.boot_id, certain: self.certain };
        let body = change_body(at, &change, self.wall_offset_ns, context);
        let event_seq = self.write(at, &body, entry);
        let scope = Scope::Session { name: &session.name, home: &session.home.path };
        self.hub.publish(scope, || journaled(&body, event_seq));
    }

    fn process_scope<'a>(&self, process: &'a Process) -> Scope<'a> {
        Scope::Process {
            in_session: self.primaries.contains(&process.key),
            comm: process.comm.as_bytes(),
            cwd: process.cwd.path.as_deref(),
        }
    }

    /// Lost events are told in the log, but not once for each gap of a storm.
    fn log_gap(&mut self, at: BootTime, message: impl FnOnce() -> String) {
        if self.gap_logged_at.is_none_or(|logged| at.since(logged) >= GAP_LOG_NS) {
            self.gap_logged_at = Some(at);
            eprintln!("observer: warning: {}", message());
        }
    }
}

impl Sink for Edge {
    fn change(&mut self, at: BootTime, change: Change<'_>) {
        match change {
            Change::GapOpened { .. } => {
                self.certain = false;
                self.log_gap(at, || {
                    "events were lost; the kernel is read again. If this repeats, raise --ring-bytes".into()
                });
            }
            Change::GapClosed { .. } => self.certain = true,
            _ => {}
        }
        let death = self.follow(at, &change);
        let entry = entry(&change);
        if self.hub.is_empty() && (self.journal.is_none() || entry.is_none()) {
            return;
        }
        let scope = match change {
            Change::ProcessStarted(process)
            | Change::ProcessExeced(process)
            | Change::ProcessMoved(process)
            | Change::ProcessEnded(process, _) => self.process_scope(process),
            // Only those who want every process want to hear of its lesser fields.
            Change::ProcessChanged(process) => Scope::Process {
                in_session: false,
                comm: process.comm.as_bytes(),
                cwd: process.cwd.path.as_deref(),
            },
            Change::SessionStarted(session, _)
            | Change::SessionChanged(session, _)
            | Change::SessionEnded(session, _) => {
                Scope::Session { name: &session.name, home: &session.home.path }
            }
            Change::GapOpened { .. } | Change::GapClosed { .. } => Scope::Always,
        };
        let context = Context { boot_id: &self.boot_id, certain: self.certain };
        let wall = self.wall_offset_ns;
        let Some(entry) = entry else {
            return self.hub.publish(scope, || change_body(at, &change, wall, context));
        };
        if let (Some(death), Some(journal), true) = (death, &self.journal, self.telling) {
            journal.push(death);
        }
        // Numbered here, so that journal and watchers speak of the same change; on the disk a moment later.
        let body = change_body(at, &change, wall, context);
        if self.is_written(at, &change) {
            let event_seq = self.write(at, &body, entry);
            self.hub.publish(scope, || journaled(&body, event_seq));
        } else {
            self.hub.publish(scope, || body);
        }
    }

    fn request(&mut self, request: Request<'_>) {
        match request {
            Request::Pass { not_before, hints } => {
                let pending = self.pass.get_or_insert(PendingPass { not_before, hints });
                pending.not_before = pending.not_before.min(not_before);
                pending.hints |= hints;
            }
            Request::Memory(key) => self.memory.push(key),
            Request::HomeOwner(home) => self.owners.push(home.clone()),
            Request::Watch(key, on) => {
                if on {
                    self.primaries.insert(key);
                }
                self.watches.push((key, on));
            }
        }
    }
}

/// What of a change the journal keeps in columns; `None` if it does not keep it.
fn entry(change: &Change<'_>) -> Option<Entry> {
    let entry = || Entry { kind: kind(change).into(), ..Entry::default() };
    match change {
        Change::SessionStarted(session, _)
        | Change::SessionChanged(session, _)
        | Change::SessionEnded(session, _) => {
            Some(Entry { kind: kind(change).into(), ..columns(session, session.primary) })
        }
        Change::GapOpened { .. } | Change::GapClosed { .. } => Some(entry()),
        _ => None,
    }
}

fn columns(session: &Session, process: ProcessKey) -> Entry {
    Entry {
        home: Some(session.home.path.to_vec()),
        home_mnt_ns: session.home.mnt_ns,
        name: Some(session.name.to_vec()),
        pid: Some(process.tgid.0),
        start_boottime_ns: Some(process.start_boottime.0),
        ..Entry::default()
    }
}

/// `body`, an object, of a process that stood for `session`.
fn of_home(session: &Session, body: &str) -> String {
    #[derive(serde::Serialize)]
    struct Of<'a> {
        name: Text<'a>,
        home: Text<'a>,
        home_mnt_ns: Option<u32>,
    }
    let (name, home) = (Text::from(&*session.name), Text::from(&*session.home.path));
    // Strings and a number: serialising them cannot fail.
    let of = serde_json::to_string(&Of { name, home, home_mnt_ns: session.home.mnt_ns }).unwrap_or_default();
    format!("{},{}", of.strip_suffix('}').unwrap_or_default(), body.get(1..).unwrap_or_default())
}

//! The core's output sink: changes go to the journal and to clients that watch, requests wait until the event loop
//! performs them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use observer_core::death::Death;
use observer_core::session::Home;
use observer_core::{BootTime, Change, Process, ProcessKey, Request, Session, Sink};

use super::columns::{ReplacedPrimary, arguments_of, columns, scope, subject};
use super::gap_log::GapLog;
use super::pace::{Pace, Writes};
use super::previous::PreviousSessions;
use super::reported::ReportedSessions;
use super::resident::ResidentReads;
use super::turns::Turns;
use super::waiting_change::WaitingChange;
use crate::api::Context;
use crate::api::audience::Audience;
use crate::api::change::{change_body, journaled};
use crate::api::entry::{Entry, Subject};
use crate::api::restarts::DeathCountsJson;
use crate::api::words::EntryKind;
use crate::clock;
use crate::journal::{Journal, Pushed};
use crate::socket::hub::{FrameScope, WatchHub};

/// A pass that the core requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingPass {
    /// The earliest time at which it may run.
    pub not_before: BootTime,
    /// The hint bits that it answers.
    pub hints: u64,
}

/// Whether changes of sessions are written to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// The map is not complete yet, or takes over what the journal knows: changes are no news.
    Paused,
    /// Changes are written.
    Active,
}

/// The daemon's implementation of [`Sink`].
pub struct DaemonSink {
    /// The clients that watch.
    pub hub: WatchHub,
    /// The journal, if there is one.
    pub journal: Option<Journal>,
    /// The pass that the core requested, if it did.
    pub pass: Option<PendingPass>,
    /// Processes whose memory the core requested.
    pub memory: Vec<ProcessKey>,
    /// Homes whose owner the core requested.
    pub owners: Vec<Home>,
    /// Processes, and whether their records are to wake the reader from now on.
    pub watches: Vec<(ProcessKey, bool)>,
    /// The id of this boot.
    pub boot_id: String,
    /// Realtime minus boot time, ns.
    pub wall_offset_ns: i64,
    /// Whether no gap is open.
    pub certain: bool,
    /// Events of the kernel do not come through: a canary is missing.
    pub is_blind: bool,
    /// Whether changes of sessions are written to the journal.
    pub recording: Recording,
    /// For whom the journal's entries are made: anyone, or root where all arguments are kept.
    pub entries_for: Audience,
    /// What the journal knew when it was opened.
    pub previous: PreviousSessions,
    /// What clients and the journal know of the sessions.
    pub reported: ReportedSessions,
    /// Primaries of sessions. One that ended stays until [`DaemonSink::take_watches`], so that its last change still
    /// counts as a change of a session.
    pub(super) primaries: HashSet<ProcessKey>,
    /// The last primary of each home.
    primary_by_home: HashMap<Arc<Home>, ProcessKey>,
    /// When the primary died that died last, and its death. Another process may become primary of its home.
    last_death: Option<(BootTime, Process, Death)>,
    /// Deaths of primaries.
    pub deaths: DeathCountsJson,
    /// How often changes of sessions are written.
    pub(super) pace: Pace,
    /// Sessions whose end waits for the journal, because they start again and again.
    pub(super) ended_waiting: HashMap<Arc<Home>, (Session, Process)>,
    /// The memory of processes.
    pub resident: ResidentReads,
    /// Changes that wait until it is their user's turn.
    pub(super) turns: Turns<WaitingChange>,
    /// Processes of which changes wait: the user whose turn they wait for, and how many.
    pub(super) waiting_processes: HashMap<ProcessKey, (u32, usize)>,
    /// Entries that got their numbers since the turn began, each with its user.
    pub(super) numbered: RefCell<Vec<(u32, u64)>>,
    /// Since when there are starts or ends without an entry among what waits because of its pace and its turn.
    pub(super) paced_since: Option<BootTime>,
    gaps: GapLog,
}

impl DaemonSink {
    /// A sink without a journal and without clients, in which nothing is requested, and the memory of processes is not known.
    pub fn new(boot_id: String) -> Self {
        Self {
            hub: WatchHub::default(),
            journal: None,
            pass: None,
            memory: Vec::new(),
            owners: Vec::new(),
            watches: Vec::new(),
            boot_id,
            wall_offset_ns: clock::wall_offset_ns(),
            certain: false,
            is_blind: false,
            recording: Recording::Paused,
            entries_for: Audience::Anyone,
            previous: PreviousSessions::default(),
            reported: ReportedSessions::default(),
            primaries: HashSet::new(),
            primary_by_home: HashMap::new(),
            last_death: None,
            deaths: DeathCountsJson::default(),
            pace: Pace::default(),
            ended_waiting: HashMap::new(),
            resident: ResidentReads::new(Box::new(|| None)),
            turns: Turns::default(),
            waiting_processes: HashMap::new(),
            numbered: RefCell::default(),
            paced_since: None,
            gaps: GapLog::default(),
        }
    }

    /// Takes the watches requested since the last call.
    pub fn take_watches(&mut self) -> Vec<(ProcessKey, bool)> {
        let watches = std::mem::take(&mut self.watches);
        for (key, on) in &watches {
            if *on {
                self.primaries.insert(*key);
            } else {
                self.primaries.remove(key);
            }
        }
        watches
    }

    /// When the next change of a session that waits for the journal may be written.
    pub fn next_due(&self) -> Option<BootTime> {
        self.pace.next_due()
    }

    /// How often changes of sessions are written.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Since when there are changes that wait, or starts or ends of sessions that are counted and not written yet.
    pub fn withheld_since(&self) -> Option<BootTime> {
        self.pace.withheld_since().into_iter().chain(self.waiting_since()).min()
    }

    /// Takes the homes of the sessions whose changes may be written by `due`.
    pub fn take_due(&mut self, due: BootTime) -> Vec<Arc<Home>> {
        self.pace.take_due(due)
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context { boot_id: &self.boot_id, certain: self.certain, audience: self.entries_for }
    }

    /// Tracks the primary of each home. Where a primary died and another process took its place, no session ended, and
    /// the death gets an entry of its own: its kind, its session and its JSON.
    fn track_primary(&mut self, at: BootTime, change: &Change<'_>) -> Option<ReplacedPrimary> {
        match *change {
            Change::ProcessEnded(process, death) if self.primaries.contains(&process.key) => {
                self.last_death = Some((at, process.clone(), death.clone()));
                self.deaths.add(&death.kind);
                None
            }
            Change::SessionStarted(session, _) | Change::SessionChanged(session, _) => {
                let home = Arc::clone(&session.home);
                let former = self.primary_by_home.insert(home, session.primary)?;
                let (at, process, death) =
                    self.last_death.as_ref().filter(|(_, process, _)| process.key == former)?;
                (session.primary != former).then(|| ReplacedPrimary {
                    at: *at,
                    process: Box::new(process.clone()),
                    death: death.clone(),
                    subject: subject(session, former),
                })
            }
            Change::SessionEnded(session, _) => {
                self.primary_by_home.remove(&session.home);
                None
            }
            _ => None,
        }
    }

    /// Writes the death of a primary that another process replaced.
    pub(super) fn write_death(&self, at: BootTime, former: ReplacedPrimary) {
        if self.recording == Recording::Active {
            let body = former.body(self.wall_offset_ns, self.context());
            self.write(at, EntryKind::ProcessEnded, Some(former.subject), body.as_bytes());
        }
    }

    /// Takes account of the start or the end of a session, which has an entry if `is_written`.
    fn track_session(&mut self, change: &Change<'_>, is_written: bool) {
        match *change {
            Change::SessionStarted(session, primary) => {
                self.reported.started(session, primary);
                self.previous.ends.started(&session.home);
                if is_written {
                    self.reported.written(&session.home);
                }
            }
            Change::SessionEnded(session, _) => self.reported.ended(&session.home),
            _ => {}
        }
    }

    /// Whether the start or the end of a session that is recorded is written when it happens; other changes are.
    fn paced(&mut self, at: BootTime, change: &Change<'_>, is_recorded: bool) -> Writes {
        match *change {
            Change::SessionStarted(session, _) if !is_recorded => self.pace.knows(at, session),
            Change::SessionEnded(session, _) if !is_recorded => self.pace.forgets(&session.home),
            Change::SessionStarted(session, _) => {
                self.ended_waiting.remove(&session.home);
                return self.pace.started(at, session);
            }
            Change::SessionEnded(session, primary) => {
                let writes = self.pace.ended(at, session);
                if writes == Writes::Later {
                    let ended = (session.clone(), primary.clone());
                    self.ended_waiting.insert(Arc::clone(&session.home), ended);
                }
                return writes;
            }
            _ => {}
        }
        Writes::Now
    }

    /// Whether the start or the end of a session gets an entry of its own; other changes do.
    fn is_recorded(&mut self, change: &Change<'_>) -> bool {
        // The ends of a session that starts again and again have no entries either.
        if let Change::SessionLeft { former, .. } = change {
            return self.recording == Recording::Active && !self.pace.counts(&former.home);
        }
        let (Change::SessionStarted(session, primary) | Change::SessionEnded(session, primary)) = *change
        else {
            return true;
        };
        let context = Context { boot_id: &self.boot_id, certain: self.certain, audience: self.entries_for };
        self.recording == Recording::Active && !self.previous.is_known(session, primary, context)
    }

    /// Writes an entry with the JSON `body`. Returns what became of it, if there is a journal.
    pub(super) fn write(
        &self,
        at: BootTime,
        kind: EntryKind,
        subject: Option<Subject>,
        body: &[u8],
    ) -> Option<Pushed> {
        let uid = subject.as_ref().and_then(|subject| subject.uid);
        let pushed = self.journal.as_ref()?.push(Entry {
            at_unix_ns: at.0.cast_signed().saturating_add(self.wall_offset_ns),
            boottime_ns: at.0,
            boot_id: self.boot_id.clone(),
            kind,
            subject,
            // JSON is UTF-8.
            detail: String::from_utf8_lossy(body).into_owned(),
        });
        self.numbered.borrow_mut().extend(uid.zip(pushed.seq()));
        Some(pushed)
    }

    /// Whether a change is about a process that is the primary of a session.
    pub(super) fn is_in_session(&self, change: &Change<'_>) -> bool {
        let is_primary = |key: &ProcessKey| self.primaries.contains(key);
        matches!(scope(change, is_primary), FrameScope::Process { in_session: true, .. })
    }

    /// Writes a change to the journal and publishes it, as far as it is recorded and of interest to clients. `former`: the
    /// primary that died. `in_session`: it is about a primary.
    pub(super) fn report(
        &mut self,
        at: BootTime,
        change: Change<'_>,
        former: Option<ReplacedPrimary>,
        in_session: bool,
    ) {
        if let Change::SessionChanged(session, primary) = change {
            return self.session_changed(at, session, primary, former);
        }
        if let Some(former) = former {
            self.write_death(at, former);
        }
        let columns = columns(&change);
        if self.hub.is_empty() && (self.journal.is_none() || columns.is_none()) {
            return self.track_session(&change, false);
        }
        let (scope, arguments_of) = (scope(&change, |_| in_session), arguments_of(&change));
        let Some((kind, subject)) = columns else {
            let context =
                Context { boot_id: &self.boot_id, certain: self.certain, audience: Audience::Anyone };
            return self.hub.publish(scope, arguments_of, |audience| {
                Some(change_body(at, &change, self.wall_offset_ns, context.read_by(audience)))
            });
        };
        // Without a journal each change is published once, and its number is null.
        let is_recorded = self.journal.is_none() || self.is_recorded(&change);
        let writes = if self.journal.is_some() { self.paced(at, &change, is_recorded) } else { Writes::Now };
        let is_written = is_recorded && writes == Writes::Now;
        // Most starts of a session that starts again and again are only counted, and nobody reads their JSON.
        let entry = is_written.then(|| change_body(at, &change, self.wall_offset_ns, self.context()));
        // The number is given here, so that the journal's entry and the clients' frame have the same. The entry is on the
        // disk a moment later.
        let event_seq = entry.as_deref().and_then(|entry| self.write(at, kind, subject, entry)?.seq());
        self.track_session(&change, event_seq.is_some());
        let context = Context { boot_id: &self.boot_id, certain: self.certain, audience: self.entries_for };
        self.hub.publish(scope, arguments_of, |audience| {
            let body = match &entry {
                Some(entry) if audience == self.entries_for => entry.clone(),
                _ => change_body(at, &change, self.wall_offset_ns, context.read_by(audience)),
            };
            Some(if is_written { journaled(&body, event_seq) } else { body })
        });
    }
}

impl Sink for DaemonSink {
    fn change(&mut self, at: BootTime, change: Change<'_>) {
        if let Change::GapOpened { .. } | Change::GapClosed { .. } = change {
            // What happened before is as certain as it was then.
            self.report_all_waiting();
        }
        match change {
            Change::GapOpened { .. } => {
                self.certain = false;
                // Why the daemon is blind is in the log, and its ring need not be larger.
                if !self.is_blind {
                    self.gaps.log(at);
                }
            }
            Change::GapClosed { .. } => self.certain = true,
            // It is not worth an entry.
            Change::SessionLeft { left, .. } if left.processes == 0 => return,
            _ => {}
        }
        let former = self.track_primary(at, &change);
        self.report_in_turn(at, &change, former);
    }

    fn request(&mut self, request: Request<'_>) {
        match request {
            Request::Pass { not_before, hints } => {
                let pending = self.pass.get_or_insert(PendingPass { not_before, hints });
                pending.not_before = pending.not_before.min(not_before);
                pending.hints |= hints;
            }
            Request::Memory(key) => self.memory.push(key),
            Request::ResidentPages => self.resident.request(),
            Request::HomeOwner(home) => self.owners.push(home.clone()),
            Request::Watch(key, on) => {
                if on {
                    self.primaries.insert(key);
                }
                self.watches.push((key, on));
            }
        }
    }

    fn resident_pages(&mut self, processes: &[ProcessKey]) -> Option<Vec<Option<u64>>> {
        self.resident.pages(processes)
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;

//! Resumes the sessions that the journal knew when it was opened: compares them with the kernel, and records the differences.
//! So history describes what happened to sessions, and not what the daemon did.

use std::collections::HashMap;

use observer_core::death::Death;
use observer_core::input::KnownSession;
use observer_core::session::{Home, State};
use observer_core::{BootTime, Core, Input, Process, ProcessKey, Session, Sink};

use super::event_loop::EventLoop;
use super::previous::{Digest, ObservedDeath, PreviousSessions, digest, known_primaries};
use super::recorded::{KnownLists, RecordedSession};
use super::recorded_left::RecordedOrigins;
use super::sink::Recording;
use crate::api::Context;
use crate::api::audience::Audience;
use crate::api::change::FoundLater;
use crate::api::changed::Changed;
use crate::api::death::DeathJson;
use crate::api::entry::{Entry, Subject};
use crate::api::session::SessionJson;
use crate::api::words::{DeathCause, EntryKind, SessionEndReason};
use crate::clock;
use crate::journal::{LifeProofs, Resumed};
use crate::text::bytes::{Big, Text};
use crate::text::time::{rfc3339, unix_rfc3339};

/// What the journal knows, beside a map that the first passes have filled.
pub struct Resumption<'a> {
    recorded: Vec<RecordedSession<'a>>,
    ended: Vec<RecordedSession<'a>>,
    origins: RecordedOrigins,
    until_ns: Option<i64>,
    proofs: &'a LifeProofs,
    boot_id: &'a str,
    wall_offset_ns: i64,
    entries_for: Audience,
}

/// What differs between the journal and the map.
pub struct Differences {
    /// The entries that the journal lacks.
    pub entries: Vec<Entry>,
    /// The sessions that go on as they are recorded.
    unchanged: HashMap<Home, (ProcessKey, Digest)>,
}

impl<'a> Resumption<'a> {
    /// What `resumed` says in the boot `boot_id`. `wall_offset_ns` is realtime minus boot time. `entries_for`: for whom entries are
    /// made, while those of the file may have more.
    pub fn new(resumed: &'a Resumed, boot_id: &'a str, wall_offset_ns: i64, entries_for: Audience) -> Self {
        let mut recorded: Vec<_> = resumed.live.iter().filter_map(RecordedSession::new).collect();
        if entries_for != Audience::Root {
            recorded.iter_mut().for_each(|it| it.json.primary.hide_arguments());
        }
        let ended = resumed.ended.iter().filter_map(RecordedSession::of_ended).collect();
        let origins = RecordedOrigins::new(resumed, clock::boottime(), boot_id);
        let (until_ns, proofs) = (resumed.until_ns, &resumed.proofs);
        Self { recorded, ended, origins, until_ns, proofs, boot_id, wall_offset_ns, entries_for }
    }

    /// Lets the map continue the sessions of this boot.
    pub fn restore(&self, core: &mut Core, sink: &mut impl Sink) {
        let recorded = self.recorded.iter().chain(&self.ended);
        let of_this_boot = recorded.filter(|it| it.entry.boot_id == self.boot_id);
        let at = clock::boottime();
        let mut lists = vec![KnownLists::default(); self.recorded.len() + self.ended.len()];
        let known = of_this_boot.zip(&mut lists);
        let known: Vec<KnownSession<'_>> =
            known.map(|(recorded, lists)| recorded.known(at, self.wall_offset_ns, lists)).collect();
        let (left, births) = self.origins.known();
        core.handle(Input::Resume { at, known: &known, left: &left, births }, sink);
    }

    /// Compares the sessions with those of the map. `previous` has the deaths that were observed meanwhile.
    pub fn differences(self, core: &Core, previous: &PreviousSessions) -> Differences {
        let mut entries = Vec::new();
        let mut unchanged = HashMap::new();
        let maker = EntryMaker {
            now: clock::boottime(),
            wall_offset_ns: self.wall_offset_ns,
            until_ns: self.until_ns,
            proofs: self.proofs,
            context: Context { boot_id: self.boot_id, certain: !core.in_gap(), audience: self.entries_for },
            core,
            previous,
        };
        let mut recorded: HashMap<Home, RecordedSession<'_>> =
            self.recorded.into_iter().map(|it| (it.home.clone(), it)).collect();
        for (session, primary) in core.sessions() {
            let same =
                |it: &RecordedSession<'_>| it.primary == session.primary && it.entry.boot_id == self.boot_id;
            let before = recorded.remove(&*session.home);
            let ended = session.state == State::Ended;
            match before {
                Some(before) if same(&before) && ended => entries.push(maker.ended(session, primary)),
                Some(before) if same(&before) => {
                    let json = SessionJson::new(session, primary, maker.context);
                    let (mut known, current) = (digest(&before.json), digest(&json));
                    if !known.agrees_with(current, primary) {
                        entries.push(maker.changed(session, json, &before.json));
                        known = current;
                    }
                    unchanged.insert((*session.home).clone(), (session.primary, known));
                }
                before => {
                    entries.extend(before.map(|before| maker.gone(before)));
                    if !ended {
                        entries.push(maker.started(session, primary));
                    }
                }
            }
        }
        let mut rest: Vec<_> = recorded.into_values().collect();
        rest.sort_by(|one, other| one.home.cmp(&other.home));
        entries.extend(rest.into_iter().map(|before| maker.gone(before)));
        Differences { entries, unchanged }
    }
}

impl EventLoop {
    /// To be called before the first pass: from here on deaths of primaries that the journal knows are kept.
    pub(super) fn before_first_pass(&mut self) {
        self.sink.recording = Recording::Paused;
        let known = self.sink.journal.iter().flat_map(|journal| journal.known());
        let known: Vec<Entry> = known.collect();
        self.sink.previous.expect_deaths(known_primaries(&known, &self.sink.boot_id));
    }

    /// To be called after the first passes, and whenever a file of the journal was opened: compares the sessions that live
    /// according to the file with the map.
    pub(super) fn resume(&mut self) {
        self.sink.report_all_waiting();
        self.sink.turns.forget_entries();
        self.sink.numbered.borrow_mut().clear();
        let resumed = self.sink.journal.as_ref().and_then(|journal| journal.resume());
        let Some(resumed) = resumed else {
            if self.core.awaits_known() {
                self.sink.recording = Recording::Paused;
                let at = clock::boottime();
                let nothing = Input::Resume { at, known: &[], left: &[], births: &[] };
                self.core.handle(nothing, &mut self.sink);
                self.core.set_births_unknown(self.births.unknown_until());
            }
            self.sink.recording = Recording::Active;
            self.sink.previous.forget_deaths();
            return;
        };
        self.sink.recording = Recording::Paused;
        let boot_id = self.sink.boot_id.clone();
        let (wall_offset_ns, entries_for) = (self.sink.wall_offset_ns, self.sink.entries_for);
        let resumption = Resumption::new(&resumed, &boot_id, wall_offset_ns, entries_for);
        resumption.restore(&mut self.core, &mut self.sink);
        self.births.read(resumption.origins.lost(), clock::boottime(), self.core.counters().births_forgotten);
        self.core.set_births_unknown(self.births.unknown_until());
        self.sink.recording = Recording::Active;
        let Differences { entries, unchanged } = resumption.differences(&self.core, &self.sink.previous);
        self.sink.previous.set_recorded(unchanged);
        self.sink.previous.ends.add(resumed, &entries, &boot_id);
        self.sink.previous.ends.retain_beside(&self.core);
        if let Some(journal) = &self.sink.journal {
            for entry in entries {
                journal.push(entry);
            }
        }
        for (session, primary) in self.core.sessions().filter(|(session, _)| session.state != State::Ended) {
            self.sink.reported.resumed(session, primary);
        }
        self.sink.previous.forget_deaths();
    }
}

/// What a process that lives stands for, in place of the session that was recorded.
enum StandsFor {
    /// The session of the home with this path.
    OtherHome(Vec<u8>),
    /// The session of another user in the same home.
    OtherUser,
    /// No session.
    Nothing,
}

/// Makes the entries for the differences.
struct EntryMaker<'a> {
    now: BootTime,
    wall_offset_ns: i64,
    /// The time up to which the journal knew the sessions, ns since 1970; `None`: it knew none.
    until_ns: Option<i64>,
    /// Up to when primaries are known to live of whose sessions entries were lost.
    proofs: &'a LifeProofs,
    context: Context<'a>,
    core: &'a Core,
    previous: &'a PreviousSessions,
}

impl EntryMaker<'_> {
    /// The entry for a session whose end was not observed.
    fn gone(&self, before: RecordedSession<'_>) -> Entry {
        if before.entry.boot_id != self.context.boot_id {
            return self.of_another_boot(before);
        }
        let death = self.previous.death(before.primary);
        if death.is_none() && self.core.process_by_key(before.primary).is_some() {
            let elsewhere = |(session, _): &(&Session, &Process)| {
                session.primary == before.primary && session.state != State::Ended
            };
            let now_of = self.core.sessions().find(elsewhere).map(|(session, _)| &session.home);
            let now = match now_of {
                // Its directory has one session alone by other rules, and it stands for that.
                Some(home) if home.is_sibling(&before.home) => StandsFor::Nothing,
                Some(home) if home.is_same_place(&before.home) => StandsFor::OtherUser,
                Some(home) => StandsFor::OtherHome(home.path.to_vec()),
                None => StandsFor::Nothing,
            };
            return self.lives_on(before, now);
        }
        self.died(before, death)
    }

    fn unix(&self, at: BootTime) -> i64 {
        at.0.cast_signed().saturating_add(self.wall_offset_ns)
    }

    fn shown(&self, at: BootTime) -> String {
        rfc3339(at, self.wall_offset_ns)
    }

    fn entry(
        &self,
        kind: EntryKind,
        at: BootTime,
        home: &Home,
        session: SessionJson<'_>,
        changed: Option<Changed<'_>>,
    ) -> Entry {
        let subject = Subject {
            home: home.path.to_vec(),
            home_mnt_ns: home.mnt_ns,
            uid: Some(home.uid),
            instance: home.instance,
            name: session.name.as_bytes().to_vec(),
            process: ProcessKey::new(session.primary.pid, session.primary.start_boottime_ns.0),
        };
        let found = FoundLater {
            at: self.shown(at),
            boottime_ns: Some(Big(at.0)),
            kind: kind.clone(),
            found_at: self.shown(self.now),
            changed,
            session,
        };
        Entry {
            at_unix_ns: self.unix(at),
            boottime_ns: at.0,
            boot_id: self.context.boot_id.into(),
            kind,
            subject: Some(subject),
            // JSON is UTF-8.
            detail: String::from_utf8_lossy(&found.body()).into_owned(),
        }
    }

    /// A session that started at its process's start, or, where the journal knew then that it was not there, later.
    fn started(&self, session: &Session, primary: &Process) -> Entry {
        let start = primary.exec_at.unwrap_or(session.primary.start_boottime);
        let at =
            if self.until_ns.is_some_and(|until_ns| self.unix(start) < until_ns) { self.now } else { start };
        let json = SessionJson::new(session, primary, self.context);
        self.entry(EntryKind::SessionStarted, at, &session.home, json, None)
    }

    fn changed(&self, session: &Session, json: SessionJson<'_>, before: &SessionJson<'_>) -> Entry {
        let changed = Some(Changed::between(before, &json));
        self.entry(EntryKind::SessionChanged, self.now, &session.home, json, changed)
    }

    fn ended(&self, session: &Session, primary: &Process) -> Entry {
        let json = SessionJson::new(session, primary, self.context);
        self.entry(EntryKind::SessionEnded, session.since, &session.home, json, None)
    }

    /// The last time at which a session's primary was known to live, ns since 1970.
    fn known_to_live_ns(&self, before: &RecordedSession<'_>) -> i64 {
        let proven_ns = before.entry.subject.as_ref().and_then(|subject| self.proofs.of(subject));
        proven_ns.or(self.until_ns).unwrap_or(i64::MIN).max(before.entry.at_unix_ns)
    }

    fn died(&self, before: RecordedSession<'_>, observed: Option<ObservedDeath>) -> Entry {
        let start = before.primary.start_boottime;
        let json = |death: &Death| DeathJson::new(death, start, self.wall_offset_ns, self.context.boot_id);
        let since = |at: BootTime| {
            // The clock may have been set back meanwhile.
            let from_ns = self.known_to_live_ns(&before).min(self.unix(at));
            unix_rfc3339(from_ns).map(|from| [from, self.shown(at)])
        };
        let (at, death) = match observed {
            Some(ObservedDeath::Exit(death)) => (death.at, json(&death)),
            Some(ObservedDeath::Zombie(death)) => {
                let between = since(death.at);
                (death.at, DeathJson { lifetime_ms: None, between, ..json(&death) })
            }
            None => {
                let (kind, at, between) = (DeathCause::Unobserved, self.shown(self.now), since(self.now));
                (self.now, DeathJson { kind, at, between, ..DeathJson::default() })
            }
        };
        self.end(before, at, SessionEndReason::Died, Some(death))
    }

    /// The process lives, and does not stand for this session.
    fn lives_on(&self, mut before: RecordedSession<'_>, now: StandsFor) -> Entry {
        let reason = match now {
            StandsFor::OtherHome(path) => {
                before.json.moved_to = Some(Text::from(path));
                SessionEndReason::Moved
            }
            StandsFor::OtherUser => SessionEndReason::UserChanged,
            StandsFor::Nothing => SessionEndReason::NotAdmitted,
        };
        self.end(before, self.now, reason, None)
    }

    fn end(
        &self,
        before: RecordedSession<'_>,
        at: BootTime,
        reason: SessionEndReason,
        death: Option<DeathJson<'_>>,
    ) -> Entry {
        let json = before.json.ended(self.shown(at), reason, death);
        self.entry(EntryKind::SessionEnded, at, &before.home, json, None)
    }

    /// A session of another boot ended no later than this boot began. Its end has no boot time of this boot.
    fn of_another_boot(&self, before: RecordedSession<'_>) -> Entry {
        let began_ns = self.wall_offset_ns;
        let from_ns = self.known_to_live_ns(&before);
        // The clock may have been set meanwhile.
        let at_ns = if from_ns <= began_ns { began_ns } else { self.unix(self.now) };
        let at = unix_rfc3339(at_ns).unwrap_or_default();
        let death = DeathJson {
            kind: DeathCause::Unobserved,
            at: at.clone(),
            between: unix_rfc3339(from_ns).map(|from| [from, at.clone()]),
            ..DeathJson::default()
        };
        let found = FoundLater {
            at: at.clone(),
            boottime_ns: None,
            kind: EntryKind::SessionEnded,
            found_at: self.shown(self.now),
            changed: None,
            session: before.json.ended(at, SessionEndReason::Died, Some(death)),
        };
        Entry {
            at_unix_ns: at_ns,
            kind: EntryKind::SessionEnded,
            detail: String::from_utf8_lossy(&found.body()).into_owned(),
            ..before.entry.clone()
        }
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;

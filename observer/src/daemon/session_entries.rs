//! Changes of sessions as entries of the journal, at its pace, and as frames. Not every reader sees the same of a change: see
//! [`Audience`].

use std::sync::Arc;

use observer_core::session::Home;
use observer_core::{BootTime, Change, Process, Session};

use super::columns::{ReplacedPrimary, columns, scope, subject};
use super::pace::{Restarts, Writes};
use super::reported::LastReports;
use super::sink::{DaemonSink, Recording};
use crate::api::Context;
use crate::api::audience::{Audience, sees_all};
use crate::api::change::{journaled, restarts_body, session_changed_body};
use crate::api::changed::Changed;
use crate::api::session::SessionJson;
use crate::api::words::EntryKind;
use crate::journal::Pushed;
use crate::socket::hub::FrameScope;

/// A session after a change, and what was reported of it before.
struct SessionChange<'a> {
    at: BootTime,
    wall_offset_ns: i64,
    session: &'a Session,
    primary: &'a Process,
    before: &'a LastReports,
    context: Context<'a>,
}

/// With what a session is compared.
#[derive(Clone, Copy)]
enum Since {
    Frame,
    Entry,
}

impl SessionChange<'_> {
    /// Whether this reader sees that anything differs. Whatever another one sees, root does.
    fn is_shown_to(&self, audience: Audience) -> bool {
        // Everybody sees which roots there are, and they are compared without making JSON of all of them.
        self.before.had_other_roots(self.session)
            || self.with(audience, Since::Frame, |_, changed| !changed.is_some_and(Changed::is_empty))
    }

    /// The body of the frame or entry for this reader; `None` where nothing differs for it.
    fn body(&self, audience: Audience, since: Since) -> Option<Vec<u8>> {
        self.with(audience, since, |json, changed| {
            let is_shown = !changed.is_some_and(Changed::is_empty);
            is_shown.then(|| session_changed_body(self.at, self.wall_offset_ns, json, changed))
        })
    }

    /// Calls `make` with the session and what differs, if that is known, for this reader.
    fn with<T>(
        &self,
        audience: Audience,
        since: Since,
        make: impl FnOnce(&SessionJson<'_>, Option<&Changed<'_>>) -> T,
    ) -> T {
        let context = self.context.read_by(audience);
        let json = SessionJson::new(self.session, self.primary, context);
        let changed = match since {
            Since::Frame => self.before.since_published(&json, context),
            Since::Entry => self.before.since_written(&json, context),
        };
        make(&json, changed.as_ref())
    }
}

impl DaemonSink {
    /// Writes what waited of the session of `home`, at `now` and with the time at which it changed; `live`: the session and its
    /// primary, if it lives.
    pub(super) fn write_waiting(
        &mut self,
        now: BootTime,
        home: &Arc<Home>,
        live: Option<(&Session, &Process)>,
    ) {
        let at = (now, self.pace.leaves_turn(home).unwrap_or(now));
        let ended = self.ended_waiting.remove(home);
        let restarts = self.pace.take_restarts(home);
        match (restarts, live, &ended) {
            (Some(restarts), Some((session, primary)), _) => {
                self.write_restarts(at, &restarts, Change::SessionStarted(session, primary));
            }
            (Some(restarts), None, Some((session, primary))) => {
                self.write_restarts(at, &restarts, Change::SessionEnded(session, primary));
            }
            (None, Some((session, primary)), _) => self.write_change(at, session, primary),
            (_, None, _) => {}
        }
    }

    /// Writes the start or the end of a session that started again and again, and how often it did since the last entry.
    fn write_restarts(&mut self, (now, at): (BootTime, BootTime), restarts: &Restarts, change: Change<'_>) {
        let (Change::SessionStarted(session, primary) | Change::SessionEnded(session, primary)) = change
        else {
            return;
        };
        self.pace.written(now, session);
        let Some((kind, subject)) = columns(&change) else { return };
        let context = Context { boot_id: &self.boot_id, certain: self.certain, audience: self.entries_for };
        let restarts = restarts.json(self.wall_offset_ns, &self.boot_id);
        let wall_offset_ns = self.wall_offset_ns;
        let body = |audience| {
            let json = SessionJson::new(session, primary, context.read_by(audience));
            restarts_body(at, &change, wall_offset_ns, &json, restarts.as_ref())
        };
        let event_seq = self.write(at, kind, subject, &body(self.entries_for)).and_then(Pushed::seq);
        if let Change::SessionStarted(..) = change {
            self.reported.started(session, primary);
            if event_seq.is_some() {
                self.reported.written(&session.home);
            }
        }
        let (scope, arguments_of) = (scope(&change, |_| true), sees_all(primary.argv.as_ref()));
        self.hub.publish(scope, arguments_of, |audience| Some(journaled(&body(audience), event_seq)));
    }

    /// Writes a change that waited, unless the session is as it was written last. Clients have seen its values already,
    /// without a number.
    fn write_change(&mut self, (now, at): (BootTime, BootTime), session: &Session, primary: &Process) {
        let before = self.reported.publish(session, primary);
        let context = Context { boot_id: &self.boot_id, certain: self.certain, audience: self.entries_for };
        let wall_offset_ns = self.wall_offset_ns;
        let change = SessionChange { at, wall_offset_ns, session, primary, before: &before, context };
        let Some(entry) = change.body(self.entries_for, Since::Entry) else { return };
        self.pace.written(now, session);
        let about = Some(subject(session, session.primary));
        let pushed = self.write(at, EntryKind::SessionChanged, about, &entry);
        if pushed == Some(Pushed::LeftToComparison) {
            return;
        }
        let scope = FrameScope::Session { name: &session.name, home: &session.home.path };
        let arguments_of = sees_all(primary.argv.as_ref());
        if let Some(event_seq @ Some(_)) = pushed.map(Pushed::seq) {
            self.reported.written(&session.home);
            return self.hub.publish(scope, arguments_of, |audience| {
                Some(journaled(&change.body(audience, Since::Entry)?, event_seq))
            });
        }
        // Clients learn which entry is missing.
        self.hub.publish(scope, arguments_of, |audience| {
            let body = change.with(audience, Since::Frame, |json, changed| {
                session_changed_body(at, wall_offset_ns, json, changed)
            });
            Some(journaled(&body, None))
        });
    }

    /// Publishes a change of a session, and writes it if the session's pace allows. A change of which nothing is shown
    /// is neither published nor written.
    pub(super) fn session_changed(
        &mut self,
        at: BootTime,
        session: &Session,
        primary: &Process,
        death: Option<ReplacedPrimary>,
    ) {
        let before = self.reported.publish(session, primary);
        if self.hub.is_empty() && self.journal.is_none() {
            return;
        }
        let context = Context { boot_id: &self.boot_id, certain: self.certain, audience: self.entries_for };
        let wall_offset_ns = self.wall_offset_ns;
        let change = SessionChange { at, wall_offset_ns, session, primary, before: &before, context };
        let is_shown = change.is_shown_to(Audience::Root);
        let is_recorded = is_shown
            && self.journal.is_some()
            && self.recording == Recording::Active
            && !self.previous.is_known(session, primary, context);
        let former = death.as_ref().map(|former| (former.process.key, &former.death));
        let may_write = is_recorded && self.pace.changed(at, session, former) == Writes::Now;
        if let Some(former) = death.filter(|_| !(is_recorded && self.pace.counts(&session.home))) {
            self.write_death(at, former);
        }
        if !is_shown {
            return;
        }
        // The comparison with the last entry costs time: it is made at the pace of entries, not of changes.
        let entry = if may_write { change.body(self.entries_for, Since::Entry) } else { None };
        let scope = FrameScope::Session { name: &session.name, home: &session.home.path };
        let arguments_of = sees_all(primary.argv.as_ref());
        let about = Some(subject(session, session.primary));
        let pushed = entry.and_then(|entry| self.write(at, EntryKind::SessionChanged, about, &entry));
        if let Some(event_seq @ Some(_)) = pushed.map(Pushed::seq) {
            self.reported.written(&session.home);
            return self.hub.publish(scope, arguments_of, |audience| {
                Some(journaled(&change.body(audience, Since::Entry)?, event_seq))
            });
        }
        // A change that waits for the journal has no number yet. Without a journal, or without room in it, there is none.
        let waits = self.journal.is_some() && pushed != Some(Pushed::Lost);
        self.hub.publish(scope, arguments_of, |audience| {
            let body = change.body(audience, Since::Frame)?;
            Some(if waits { body } else { journaled(&body, None) })
        });
    }
}

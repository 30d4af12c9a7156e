//! What was last reported of each session, to clients and to the journal, so that a change states what it changed.

use std::collections::HashMap;
use std::sync::Arc;

use observer_core::session::Home;
use observer_core::{Process, Session};

use crate::api::Context;
use crate::api::changed::Changed;
use crate::api::session::SessionJson;

/// A session and its primary as they were reported. Paths, arguments and environment are those of the map, and take
/// memory of their own only while they differ from what the map has by now.
#[derive(Debug)]
struct ReportedSession {
    session: Session,
    primary: Process,
}

impl ReportedSession {
    fn new(session: &Session, primary: &Process) -> Self {
        let mut session = session.clone();
        // Only the last start is compared.
        session.starts = session.starts.last().copied().into_iter().collect::<Vec<_>>().into();
        Self { session, primary: primary.clone() }
    }
}

/// The last reports of one session.
#[derive(Clone, Debug, Default)]
pub struct LastReports {
    /// The last frame.
    published: Option<Arc<ReportedSession>>,
    /// The last entry of the journal.
    written: Option<Arc<ReportedSession>>,
}

impl LastReports {
    /// Whether the last frame had other roots beside the primary, or another number of them.
    pub fn had_other_roots(&self, session: &Session) -> bool {
        self.published.as_deref().is_some_and(|ReportedSession { session: before, .. }| {
            (before.roots, &before.others) != (session.roots, &session.others)
        })
    }

    /// What differs from the last frame; `None`: there is none.
    pub fn since_published<'a>(
        &'a self,
        session: &SessionJson<'a>,
        context: Context<'a>,
    ) -> Option<Changed<'a>> {
        difference(self.published.as_deref(), session, context)
    }

    /// What differs from the last entry; `None`: it is not known.
    pub fn since_written<'a>(
        &'a self,
        session: &SessionJson<'a>,
        context: Context<'a>,
    ) -> Option<Changed<'a>> {
        difference(self.written.as_deref(), session, context)
    }
}

fn difference<'a>(
    before: Option<&'a ReportedSession>,
    after: &SessionJson<'a>,
    context: Context<'a>,
) -> Option<Changed<'a>> {
    let ReportedSession { session, primary } = before?;
    Some(Changed::between(&SessionJson::new(session, primary, context), after))
}

/// The last reports of each live session.
#[derive(Debug, Default)]
pub struct ReportedSessions {
    by_home: HashMap<Arc<Home>, LastReports>,
}

impl ReportedSessions {
    /// The start of the session is published.
    pub fn started(&mut self, session: &Session, primary: &Process) {
        self.ended(&session.home);
        self.publish(session, primary);
    }

    /// The session is published as it is. Returns the reports before.
    pub fn publish(&mut self, session: &Session, primary: &Process) -> LastReports {
        let last = self.by_home.entry(Arc::clone(&session.home)).or_default();
        let before = last.clone();
        last.published = Some(Arc::new(ReportedSession::new(session, primary)));
        before
    }

    /// What was published last of the session has an entry.
    pub fn written(&mut self, home: &Home) {
        if let Some(last) = self.by_home.get_mut(home) {
            last.written = last.published.clone();
        }
    }

    /// Clients and the journal know the session as it is.
    pub fn resumed(&mut self, session: &Session, primary: &Process) {
        self.publish(session, primary);
        self.written(&session.home);
    }

    /// The session ended.
    pub fn ended(&mut self, home: &Home) {
        self.by_home.remove(home);
    }
}

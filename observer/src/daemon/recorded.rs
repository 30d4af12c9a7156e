//! Sessions as entries of the journal have them.

use std::borrow::Cow;
use std::sync::Arc;

use observer_core::input::KnownSession;
use observer_core::label::Label;
use observer_core::session::{Home, State};
use observer_core::{BootTime, ProcessKey, Tgid};

use crate::api::entry::{Entry, Subject};
use crate::api::session::{DirJson, SessionJson};
use crate::api::words::SessionState;
use crate::text::bytes::{Big, Text};
use crate::text::time::unix_ns;

/// A session as the journal recorded it last.
pub struct RecordedSession<'a> {
    /// That entry.
    pub entry: &'a Entry,
    /// Its home.
    pub home: Home,
    /// Its primary.
    pub primary: ProcessKey,
    /// Its JSON.
    pub json: SessionJson<'a>,
    labels: Vec<Label>,
}

/// The lists of a session as the core is given them.
#[derive(Clone, Default)]
pub struct KnownLists {
    starts: Vec<BootTime>,
    others: Vec<ProcessKey>,
}

impl<'a> RecordedSession<'a> {
    /// A session that ended, without its lists but the starts: nothing reads them, and many such sessions are kept at a time.
    pub fn of_ended(entry: &'a Entry) -> Option<Self> {
        let mut session = Self::new(entry)?;
        (session.json.others, session.json.primary.argv) = Default::default();
        Some(session)
    }

    /// `None`: the entry concerns no session.
    pub fn new(entry: &'a Entry) -> Option<Self> {
        let subject = entry.subject.as_ref()?;
        let mut json: SessionJson<'_> = serde_json::from_str(&entry.detail).unwrap_or_default();
        json.home = Text::from(subject.home.as_slice());
        json.instance = subject.instance;
        json.name = Text::from(subject.name.as_slice());
        json.primary.pid = subject.process.tgid.0;
        json.primary.start_boottime_ns = Big(subject.process.start_boottime.0);
        json.primary.boot_id = Cow::Borrowed(&entry.boot_id);
        json.primary.uid = subject.uid.unwrap_or(json.primary.uid);
        let home = home_of(subject, json.primary.uid);
        let label = |(name, value): (&Cow<'_, str>, &Text<'_>)| Label {
            name: Arc::from(&**name),
            variable: Arc::from(json.label_variables.get(name).map_or(&[][..], Text::as_bytes)),
            value: Arc::from(value.as_bytes()),
        };
        let labels = json.labels.iter().map(label).collect();
        Some(Self { entry, home, primary: subject.process, json, labels })
    }

    /// Returns the session as the core is given it at `at`. `lists` takes its lists.
    pub fn known<'b>(
        &'b self,
        at: BootTime,
        wall_offset_ns: i64,
        lists: &'b mut KnownLists,
    ) -> KnownSession<'b> {
        let KnownLists { starts, others } = lists;
        // The times of the entry are by the wall clock as it was when the process was first observed.
        let start_ns = self.primary.start_boottime.0.cast_signed();
        let started = unix_ns(&self.json.primary.started_at);
        let wall = started.map_or(wall_offset_ns, |at_ns| at_ns.saturating_sub(start_ns));
        let boottime = |text: &str| {
            let ns = unix_ns(text)?.checked_sub(wall)?;
            u64::try_from(ns).ok().map(BootTime)
        };
        starts.extend(self.json.starts.iter().filter_map(|at| boottime(at)));
        others.extend(self.json.others.iter().map(|it| ProcessKey::new(it.pid, it.start_boottime_ns.0)));
        let state = match self.json.state {
            SessionState::Detached => State::Detached,
            SessionState::Left => State::Left,
            SessionState::Ended => State::Ended,
            SessionState::Live | SessionState::Unknown => State::Live,
        };
        KnownSession {
            home: &self.home,
            name: self.json.name.as_bytes(),
            home_dir: self.json.home_dir.as_ref().map(DirJson::id).unwrap_or_default(),
            home_deleted: self.json.home_deleted,
            primary: self.primary,
            wall_offset_ns: wall,
            state,
            // The wall clock may have been set since the start, by which the times are reckoned.
            since: boottime(&self.json.since).map_or(at, |since| since.min(at)),
            had_tty: self.json.primary.tty.is_some() || state == State::Detached,
            others,
            wrapper: self.json.wrapper_pid.map(Tgid),
            program: self.json.primary.program.as_ref().map(Text::as_bytes),
            exec_id: self.json.primary.exec_id,
            stands_in_for: self.json.stands_in_for.as_ref().map(Text::as_bytes),
            starts,
            labels: &self.labels,
        }
    }
}

/// The home of a session of the user `uid`.
pub fn home_of(subject: &Subject, uid: u32) -> Home {
    Home {
        mnt_ns: subject.home_mnt_ns,
        path: Arc::from(subject.home.as_slice()),
        uid,
        instance: subject.instance,
    }
}

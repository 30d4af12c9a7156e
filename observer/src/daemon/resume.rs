//! What a daemon that is started again makes of what its journal says: the sessions that live by its entries are held
//! against the kernel, and what differs is told. So history says what happened, and not what the daemon did.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use observer_core::death::Death;
use observer_core::input::KnownSession;
use observer_core::session::{Home, State};
use observer_core::{BootTime, Input, Process, ProcessKey, Session};

use super::{Daemon, Edge};
use crate::api::Context;
use crate::api::change::Found;
use crate::api::death::DeathJson;
use crate::api::session::SessionJson;
use crate::clock;
use crate::journal::{Entry, Resumed};
use crate::text::bytes::{Big, Text};
use crate::text::time::{rfc3339, unix_ns, unix_rfc3339};

/// What the first look at the kernel needs of the journal, and what it leaves for later.
#[derive(Default)]
pub struct Memory {
    /// Primaries that were known, and their deaths as far as the kernel still tells.
    deaths: HashMap<ProcessKey, Option<Seen>>,
    /// Sessions that went on as they were: a digest of what was told of each. What is read of them later (arguments
    /// out of memory) is no change.
    told: HashMap<Home, (ProcessKey, u64)>,
}

/// A death that the first look showed.
#[derive(Clone, Copy)]
enum Seen {
    /// As it happened.
    Death(Death),
    /// It waits to be reaped: its status is exact, its moment is not known.
    Remains(Death),
}

/// A session as the journal has it.
struct Believed<'a> {
    entry: &'a Entry,
    home: Home,
    primary: ProcessKey,
    json: SessionJson<'a>,
}

impl Memory {
    /// The kernel told of something before the map was whole.
    pub fn note(&mut self, input: &Input<'_>) {
        if self.deaths.is_empty() {
            return;
        }
        let (key, seen) = match input {
            Input::Exit { at, key, raw_status, .. } => {
                (key, Seen::Death(Death::from_status(*raw_status, *at)))
            }
            Input::PassRow(row) => match row.dead {
                Some(status) => (&row.key, Seen::Remains(Death::from_status(status, row.at))),
                None => return,
            },
            _ => return,
        };
        if let Some(death) = self.deaths.get_mut(key) {
            death.get_or_insert(seen);
        }
    }

    /// Whether a change of this session says nothing that was not told.
    pub fn is_told(&mut self, session: &Session, primary: &Process, context: Context<'_>) -> bool {
        let Some((key, digest)) = self.told.get(&*session.home) else { return false };
        let same = *key == session.primary
            && primary.exec_at.is_none()
            && *digest == facts(&SessionJson::new(session, primary, context));
        if !same {
            self.told.remove(&*session.home);
        }
        same
    }
}

/// A digest of what makes a change worth an entry; not what is read late, or differs only in when it was read.
fn facts(json: &SessionJson<'_>) -> u64 {
    let mut digest = DefaultHasher::new();
    let process = &json.primary;
    (&json.name, &*json.state, json.roots, json.wrapper_pid, &json.moved_to, json.home_deleted)
        .hash(&mut digest);
    (&process.comm, &process.exe, &process.cwd, &process.tty, process.uid).hash(&mut digest);
    digest.finish()
}

impl<'a> Believed<'a> {
    /// `None`: the entry names no process.
    fn new(entry: &'a Entry) -> Option<Self> {
        let path = Arc::from(entry.home.as_deref()?);
        let (pid, start_boottime_ns) = (entry.pid?, entry.start_boottime_ns?);
        let mut json: SessionJson<'_> = serde_json::from_str(&entry.detail).unwrap_or_default();
        json.home = Text::from(entry.home.as_deref()?);
        json.name = Text::from(entry.name.as_deref().unwrap_or_default());
        json.primary.pid = pid;
        json.primary.start_boottime_ns = Big(start_boottime_ns);
        json.primary.boot_id = Cow::Borrowed(&entry.boot_id);
        let home = Home { mnt_ns: entry.home_mnt_ns, path };
        Some(Self { entry, home, primary: ProcessKey::new(pid, start_boottime_ns), json })
    }

    fn resume(&self, daemon: &mut Daemon) {
        let at = clock::boottime();
        // The entry's moments are of the clock as it was when the process was first seen.
        let start_ns = self.primary.start_boottime.0.cast_signed();
        let started = unix_ns(&self.json.primary.started_at);
        let wall = started.map_or(daemon.edge.wall_offset_ns, |at_ns| at_ns.saturating_sub(start_ns));
        let boottime = |text: &str| {
            let ns = unix_ns(text)?.checked_sub(wall)?;
            u64::try_from(ns).ok().map(BootTime)
        };
        let starts: Vec<BootTime> = self.json.starts.iter().filter_map(|at| boottime(at)).collect();
        let state = match &*self.json.state {
            "detached" => State::Detached,
            "left" => State::Left,
            _ => State::Live,
        };
        let known = KnownSession {
            home: &self.home,
            primary: self.primary,
            wall_offset_ns: wall,
            state,
            since: boottime(&self.json.since).unwrap_or(at),
            had_tty: self.json.primary.tty.is_some() || state == State::Detached,
            starts: &starts,
        };
        daemon.core.handle(Input::Resume { at, known }, &mut daemon.edge);
    }
}

impl Daemon {
    /// Before the first look: whose death is worth noting in it.
    pub(super) fn before_first_look(&mut self) {
        self.edge.telling = false;
        let known = self.edge.journal.iter().flat_map(|journal| journal.known());
        let mine = known.filter(|entry| entry.boot_id == self.edge.boot_id);
        let keys = mine.filter_map(|entry| Some(ProcessKey::new(entry.pid?, entry.start_boottime_ns?)));
        self.edge.memory_of_before.deaths = keys.map(|key| (key, None)).collect();
    }

    /// After the first look, and whenever a file of the journal was opened since: what it says lives, against what
    /// does.
    pub(super) fn resume(&mut self) {
        let resumed = self.edge.journal.as_ref().and_then(|journal| journal.resume());
        self.edge.telling = true;
        let Some(resumed) = resumed else {
            self.edge.memory_of_before.deaths.clear();
            return;
        };
        let believed: Vec<Believed<'_>> = resumed.live.iter().filter_map(Believed::new).collect();
        self.edge.telling = false;
        let boot_id = self.edge.boot_id.clone();
        for believed in believed.iter().filter(|it| it.entry.boot_id == boot_id) {
            believed.resume(self);
        }
        self.edge.telling = true;
        let believed = believed.into_iter().map(|it| (it.home.clone(), it)).collect();
        for entry in self.differences(&resumed, believed) {
            if let Some(journal) = &self.edge.journal {
                journal.push(entry);
            }
        }
        self.edge.memory_of_before.deaths.clear();
    }

    fn differences(&mut self, resumed: &Resumed, mut believed: HashMap<Home, Believed<'_>>) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut told = HashMap::new();
        let teller = Teller {
            now: clock::boottime(),
            wall_offset_ns: self.edge.wall_offset_ns,
            until_ns: resumed.until_ns,
            context: Context { boot_id: &self.edge.boot_id, certain: !self.core.in_gap() },
        };
        for (session, primary) in self.core.sessions() {
            let same =
                |it: &Believed<'_>| it.primary == session.primary && it.entry.boot_id == self.edge.boot_id;
            let before = believed.remove(&*session.home);
            let ended = session.state == State::Ended;
            match before {
                Some(before) if same(&before) && ended => entries.push(teller.ended(session, primary)),
                Some(before) if same(&before) => {
                    let json = SessionJson::new(session, primary, teller.context);
                    let digest = facts(&json);
                    if digest != facts(&before.json) {
                        entries.push(teller.changed(session, json));
                    }
                    told.insert((*session.home).clone(), (session.primary, digest));
                }
                before => {
                    entries.extend(before.map(|before| self.gone(&teller, before)));
                    if !ended {
                        entries.push(teller.started(session, primary));
                    }
                }
            }
        }
        let mut rest: Vec<_> = believed.into_values().collect();
        rest.sort_by(|one, other| one.home.cmp(&other.home));
        entries.extend(rest.into_iter().map(|before| self.gone(&teller, before)));
        self.edge.memory_of_before.told = told;
        entries
    }

    /// The end of a session that nobody saw.
    fn gone(&self, teller: &Teller<'_>, before: Believed<'_>) -> Entry {
        if before.entry.boot_id != self.edge.boot_id {
            return teller.of_another_boot(before);
        }
        let death = self.edge.memory_of_before.deaths.get(&before.primary).copied().flatten();
        if death.is_none() && self.core.process_by_key(before.primary).is_some() {
            let elsewhere = |(session, _): &(&Session, &Process)| {
                session.primary == before.primary && session.state != State::Ended
            };
            let moved_to =
                self.core.sessions().find(elsewhere).map(|(session, _)| session.home.path.to_vec());
            return teller.lives_on(before, moved_to);
        }
        teller.died(before, death)
    }
}

/// Makes the entries.
struct Teller<'a> {
    now: BootTime,
    wall_offset_ns: i64,
    /// Until when the journal knew; `None`: it knew nothing.
    until_ns: Option<i64>,
    context: Context<'a>,
}

impl Teller<'_> {
    fn unix(&self, at: BootTime) -> i64 {
        at.0.cast_signed().saturating_add(self.wall_offset_ns)
    }

    fn shown(&self, at: BootTime) -> String {
        rfc3339(at, self.wall_offset_ns)
    }

    fn entry(&self, kind: &str, at: BootTime, home: &Home, session: SessionJson<'_>) -> Entry {
        let (name, pid) = (session.name.as_bytes().to_vec(), session.primary.pid);
        let start_boottime_ns = session.primary.start_boottime_ns.0;
        let found = Found {
            at: self.shown(at),
            boottime_ns: Some(Big(at.0)),
            kind,
            found_at: self.shown(self.now),
            session,
        };
        Entry {
            at_unix_ns: self.unix(at),
            boottime_ns: at.0,
            boot_id: self.context.boot_id.into(),
            kind: kind.into(),
            home: Some(home.path.to_vec()),
            home_mnt_ns: home.mnt_ns,
            name: Some(name),
            pid: Some(pid),
            start_boottime_ns: Some(start_boottime_ns),
            // JSON is UTF-8.
            detail: String::from_utf8_lossy(&found.body()).into_owned(),
        }
    }

    /// At the process's start, unless the session was not there then.
    fn started(&self, session: &Session, primary: &Process) -> Entry {
        let start = primary.exec_at.unwrap_or(session.primary.start_boottime);
        let at =
            if self.until_ns.is_some_and(|until_ns| self.unix(start) < until_ns) { self.now } else { start };
        let json = SessionJson::new(session, primary, self.context);
        self.entry("session_started", at, &session.home, json)
    }

    fn changed(&self, session: &Session, json: SessionJson<'_>) -> Entry {
        self.entry("session_changed", self.now, &session.home, json)
    }

    fn ended(&self, session: &Session, primary: &Process) -> Entry {
        let json = SessionJson::new(session, primary, self.context);
        self.entry("session_ended", session.since, &session.home, json)
    }

    /// The last moment at which a session's primary was known to live.
    fn known_to_live_ns(&self, before: &Believed<'_>) -> i64 {
        self.until_ns.unwrap_or(i64::MIN).max(before.entry.at_unix_ns)
    }

    fn died(&self, before: Believed<'_>, seen: Option<Seen>) -> Entry {
        let start = before.primary.start_boottime;
        let json = |death: &Death| DeathJson::new(death, start, self.wall_offset_ns);
        let since = |at: BootTime| {
            // A clock that was set back meanwhile.
            let from_ns = self.known_to_live_ns(&before).min(self.unix(at));
            unix_rfc3339(from_ns).map(|from| [from, self.shown(at)])
        };
        let (at, death) = match seen {
            Some(Seen::Death(death)) => (death.at, json(&death)),
            Some(Seen::Remains(death)) => {
                let between = since(death.at);
                (death.at, DeathJson { lifetime_ms: None, between, ..json(&death) })
            }
            None => {
                let (kind, at, between) = ("unobserved".into(), self.shown(self.now), since(self.now));
                (self.now, DeathJson { kind, at, between, ..DeathJson::default() })
            }
        };
        self.end(before, at, "died", Some(death))
    }

    /// The process stands for a session of another home, or for none: no rule admits it any more.
    fn lives_on(&self, mut before: Believed<'_>, moved_to: Option<Vec<u8>>) -> Entry {
        let Some(moved_to) = moved_to else { return self.end(before, self.now, "not_admitted", None) };
        before.json.moved_to = Some(Text::from(moved_to));
        self.end(before, self.now, "moved", None)
    }

    fn end(
        &self,
        before: Believed<'_>,
        at: BootTime,
        reason: &'static str,
        death: Option<DeathJson<'_>>,
    ) -> Entry {
        let json = ended(before.json, self.shown(at), reason, death);
        self.entry("session_ended", at, &before.home, json)
    }

    /// The machine went down: no later than this boot began. The moment is none of this boot's.
    fn of_another_boot(&self, before: Believed<'_>) -> Entry {
        let began_ns = self.wall_offset_ns;
        let from_ns = self.known_to_live_ns(&before);
        // A clock that was set meanwhile.
        let at_ns = if from_ns <= began_ns { began_ns } else { self.unix(self.now) };
        let at = unix_rfc3339(at_ns).unwrap_or_default();
        let death = DeathJson {
            kind: "unobserved".into(),
            at: at.clone(),
            between: unix_rfc3339(from_ns).map(|from| [from, at.clone()]),
            ..DeathJson::default()
        };
        let found = Found {
            at: at.clone(),
            boottime_ns: None,
            kind: "session_ended",
            found_at: self.shown(self.now),
            session: ended(before.json, at, "died", Some(death)),
        };
        Entry {
            at_unix_ns: at_ns,
            kind: "session_ended".into(),
            detail: String::from_utf8_lossy(&found.body()).into_owned(),
            ..before.entry.clone()
        }
    }
}

fn ended<'a>(
    json: SessionJson<'a>,
    since: String,
    reason: &'static str,
    death: Option<DeathJson<'a>>,
) -> SessionJson<'a> {
    SessionJson {
        state: Cow::Borrowed("ended"),
        since,
        roots: 0,
        wrapper_pid: None,
        end_reason: Some(Cow::Borrowed(reason)),
        session_death: death,
        ..json
    }
}

impl Edge {
    /// Whether a change of a session gets an entry of its own.
    pub(super) fn tells(&mut self, session: &Session, primary: &Process) -> bool {
        let context = Context { boot_id: &self.boot_id, certain: self.certain };
        self.telling && !self.memory_of_before.is_told(session, primary, context)
    }
}

//! The source of this machine's sessions for `observer top`: frames of `watch` have the changes, answers to `list` the costs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;

use super::asked::{Asked, NextQuestion, QuestionTimes, pause};
use super::event::{
    Details, DetailsWanted, EventLine, LastDeath, RowId, SeenSession, SessionsSeen, TopEvent, Wake,
};
use super::lines::{event_line, last_death, tree_lines};
use crate::api::answer::{ListAnswer, ProcessesAnswer};
use crate::api::session::SessionJson;
use crate::api::words::FrameKind;
use crate::cli::places::journal_of;
use crate::cli::user;
use crate::socket::client::{Client, ClientError, check_refusal, decode};
use crate::socket::frame::ClientRequest;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::Big;

/// Between two questions for costs; before the second one, since it takes two to say how much CPU is used.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ASK_SOON: Duration = Duration::from_secs(1);
/// How long is waited before another attempt to reach the daemon.
const RETRY: Duration = Duration::from_secs(1);
/// The newest entries of the journal that are looked at, and of those the ones that are shown of a session.
const ENTRIES_LOOKED_AT_MAX: u64 = 20_000;
pub(super) const EVENTS_MAX: usize = 20;
/// Ends that are read when the program starts.
const ENDS_READ_MAX: usize = 4_096;

/// Starts to follow the sessions that `filter` wants, whose glob is `glob`. Fails where there is no daemon.
pub(super) fn start(
    socket: &Path,
    filter: WatchFilter,
    glob: Option<String>,
    out: &SyncSender<Wake>,
) -> anyhow::Result<Arc<Asked>> {
    let client = Client::connect(socket)?;
    let questions = Arc::new(Asked::default());
    let asked = Arc::clone(&questions);
    let mut asking = Asking {
        socket: socket.into(),
        filter,
        client: Some(client),
        out: out.clone(),
        ends: EndsRead::default(),
    };
    let threads = "cannot start a thread; see `ulimit -u`";
    thread::Builder::new().name("list".into()).spawn(move || asking.run(&asked)).context(threads)?;
    let (socket, out) = (socket.to_owned(), out.clone());
    let watch = move || {
        while let Err(Stopped::ByDaemon) = watch(&socket, glob.clone(), &out) {
            thread::sleep(RETRY);
        }
    };
    thread::Builder::new().name("watch".into()).spawn(watch).context(threads)?;
    Ok(questions)
}

/// Why a thread no longer follows.
enum Stopped {
    ByDaemon,
    /// Nobody receives what it sends.
    ByProgram,
}

impl From<ClientError> for Stopped {
    /// The error is dropped: the thread that asks questions reports what is wrong.
    fn from(_: ClientError) -> Self {
        Self::ByDaemon
    }
}

/// Sends every change of a session.
fn watch(socket: &Path, glob: Option<String>, out: &SyncSender<Wake>) -> Result<(), Stopped> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Head {
        kind: FrameKind,
        boottime_ns: Big,
    }
    let mut client = Client::connect(socket)?;
    client.send(&ClientRequest::Watch { all: false, glob })?;
    client.wait_without_timeout()?;
    loop {
        let frame = client.read_line()?;
        check_refusal(&frame)?;
        let head: Head = decode(&frame)?;
        use FrameKind::{SessionChanged, SessionEnded, SessionStarted};
        if matches!(head.kind, SessionStarted | SessionChanged | SessionEnded) {
            let session: SessionJson<'static> = decode(&frame)?;
            let seen = SeenSession { session, ..SeenSession::default() };
            let event = TopEvent::Changed(Box::new(seen), head.boottime_ns.0);
            out.send(Wake::Event(event)).map_err(|_| Stopped::ByProgram)?;
        }
    }
}

/// Asks one question at a time.
struct Asking {
    socket: PathBuf,
    filter: WatchFilter,
    client: Option<Client>,
    out: SyncSender<Wake>,
    ends: EndsRead,
}

/// Decides when the last ends are read from the journal: with the first answer, after the daemon was away, and where a session
/// has another primary whose start was in no frame, such as one of starts that are counted together.
#[derive(Debug, Default)]
struct EndsRead {
    /// Key of the primary of each session in the last answer; `None`: there was none since the daemon was away.
    keys: Option<HashMap<RowId, String>>,
}

impl EndsRead {
    /// Whether they are to be read now that these sessions were answered.
    fn is_due(&mut self, sessions: &[SeenSession]) -> bool {
        let key = |seen: &SeenSession| (seen.id(), seen.session.primary.key.clone());
        let keys: HashMap<_, _> = sessions.iter().map(key).collect();
        let is_other = |before: &HashMap<RowId, String>| {
            keys.iter().any(|(id, key)| before.get(id).is_some_and(|before| before != key))
        };
        let is_due = self.keys.as_ref().is_none_or(is_other);
        self.keys = Some(keys);
        is_due
    }

    /// The daemon does not answer.
    fn away(&mut self) {
        self.keys = None;
    }
}

impl Asking {
    fn run(&mut self, asked: &Asked) {
        let (now, mut answers) = (Instant::now(), 0_u32);
        let mut times = QuestionTimes { details_from: now, list_from: now, list_due: Some(now) };
        loop {
            let next = asked.next(times);
            let begun = Instant::now();
            let ended = match next {
                NextQuestion::Details(wanted) => {
                    let details = self.details(&wanted);
                    times.details_from = Instant::now() + pause(begun.elapsed());
                    if self.send(TopEvent::Details(Box::new(details))).is_none() {
                        return;
                    }
                    continue;
                }
                NextQuestion::List { ended } => ended,
            };
            let mut ends = None;
            let (event, every) = match self.list(ended) {
                Ok(seen) => {
                    answers = answers.saturating_add(1);
                    ends = self.ends.is_due(&seen.sessions).then(|| self.deaths());
                    (TopEvent::Sessions(seen), if answers == 1 { ASK_SOON } else { ASK_EVERY })
                }
                Err(error) => {
                    self.client = None;
                    self.ends.away();
                    (TopEvent::Away(error.to_string()), RETRY)
                }
            };
            times.list_from = Instant::now() + pause(begun.elapsed());
            times.list_due = Some(times.list_from.max(Instant::now() + every));
            let sent = self
                .send(event)
                .and_then(|()| ends.map_or(Some(()), |ends| self.send(TopEvent::Deaths(ends))));
            if sent.is_none() {
                return;
            }
        }
    }

    /// `None`: nobody receives it.
    fn send(&self, event: TopEvent) -> Option<()> {
        self.out.send(Wake::Event(event)).ok()
    }

    fn client(&mut self) -> Result<&mut Client, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.socket)?,
        };
        Ok(self.client.insert(client))
    }

    fn list(&mut self, ended: bool) -> Result<SessionsSeen, ClientError> {
        let request = ClientRequest::List { ended };
        let answer: ListAnswer<'static> = decode(&self.client()?.ask(&request)?)?;
        let wanted = |session: &SessionJson<'_>| {
            self.filter
                .wants(FrameScope::Session { name: session.name.as_bytes(), home: session.home.as_bytes() })
        };
        let sessions = answer.sessions.into_iter().filter(wanted);
        Ok(SessionsSeen {
            sessions: sessions.map(|session| SeenSession { session, ..SeenSession::default() }).collect(),
            at_boottime_ns: answer.head.boottime_ns.0,
            is_certain: answer.head.certain,
        })
    }

    /// The last ends of homes, as far as the journal can be read and has them.
    fn deaths(&self) -> Vec<(RowId, LastDeath)> {
        let read =
            || journal_of(None, &self.socket).ok()?.newest(None, ENTRIES_LOOKED_AT_MAX, ENDS_READ_MAX).ok();
        // They come newest first, and a map keeps what is put last: so in the other order the last end of each home stays.
        let entries = read().unwrap_or_default().into_iter().rev();
        let ends = entries.filter_map(|numbered| {
            let subject = numbered.entry.subject?;
            let death = last_death(subject.process.tgid.0, &numbered.entry.detail)?;
            let id = RowId {
                host_id: String::new(),
                home: subject.home,
                mnt_ns: subject.home_mnt_ns,
                uid: subject.uid?,
                instance: subject.instance,
            };
            Some((id, death))
        });
        ends.collect()
    }

    fn details(&mut self, wanted: &DetailsWanted) -> Details {
        Details {
            id: wanted.id.clone(),
            user: user::shown(wanted.id.uid),
            processes: self.processes(wanted),
            events: self.events(wanted).map_err(|error| format!("{error:#}")),
        }
    }

    fn processes(&mut self, wanted: &DetailsWanted) -> Result<Vec<String>, String> {
        let Some(pid) = wanted.pid else { return Err("it has ended".into()) };
        let ask = |client: &mut Client| client.ask(&ClientRequest::Processes {});
        let answer = self.client().and_then(ask).and_then(|line| decode::<ProcessesAnswer<'static>>(&line));
        match answer {
            Ok(answer) => Ok(tree_lines(answer.processes, pid)),
            Err(error) => {
                self.client = None;
                Err(error.to_string())
            }
        }
    }

    fn events(&self, wanted: &DetailsWanted) -> anyhow::Result<Vec<EventLine>> {
        let journal = journal_of(None, &self.socket)?;
        let entries = journal.newest(Some(&wanted.id.home), ENTRIES_LOOKED_AT_MAX, EVENTS_MAX)?;
        let lines = entries.iter().map(|numbered| {
            let entry = &numbered.entry;
            let pid = entry.subject.as_ref().map(|subject| subject.process.tgid.0);
            event_line(entry.at_unix_ns, &entry.kind, pid, &entry.detail)
        });
        Ok(lines.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(uid: u32, key: &str) -> SeenSession {
        let mut session = SessionJson::default();
        session.primary.uid = uid;
        session.primary.key = key.to_owned();
        SeenSession { session, ..SeenSession::default() }
    }

    #[test]
    fn ends_are_read_first_after_a_reconnect_and_where_a_primary_is_another_one() {
        let mut ends = EndsRead::default();
        assert!(ends.is_due(&[]), "first");
        assert!(!ends.is_due(&[session(1, "a")]), "one that is new");
        assert!(!ends.is_due(&[session(1, "a"), session(2, "b")]));
        assert!(ends.is_due(&[session(1, "c"), session(2, "b")]));
        assert!(!ends.is_due(&[session(1, "c")]), "one that ended");
        ends.away();
        assert!(ends.is_due(&[session(1, "c")]));
    }
}

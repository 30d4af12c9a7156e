//! `observer wait`

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use observer_core::limits::LEFT_SETTLE_NS;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::term;
use super::which::{Found, Which};
use crate::api::answer::{ListAnswer, ProcessesAnswer};
use crate::api::death::DeathJson;
use crate::api::left::LeftJson;
use crate::api::leftovers::LeftoversAnswer;
use crate::api::session::SessionJson;
use crate::api::words::{DeathCause, FrameKind, SessionState};
use crate::config::span as parse_span;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{Text, to_line, to_one_line};
use crate::text::time::span;

/// The exit statuses of timeout(1) and of shells.
pub(super) const TIMED_OUT: u8 = 124;
pub(super) const OWN_FAILURE: u8 = 125;
pub(super) const NO_SESSION: u8 = 127;
const SIGNALED: u8 = 128;

/// How long a daemon that ended is waited for.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The process that is the primary now is waited for, and not one that runs in its place later. Needs the daemon, and waits
/// for another one where it is restarted.
#[derive(Args)]
#[command(after_help = "\
Exit codes:
  the session's own: what the process exits with, or 128 + the signal that ended it
  2    wrong usage
  124  the time is over, and it still runs
  125  can't say: no daemon, several sessions of that name, or nobody saw how it ended
  127  no session of that name

What it left behind is counted half a second after its end, for which this does not wait: --left does,
and `observer leftovers NAME` lists it.")]
pub struct WaitArgs {
    #[command(flatten)]
    which: Which,
    /// Wait no longer than this: 90s, 5m, 2h
    #[arg(long, value_name = "SPAN", value_parser = timeout)]
    timeout: Option<Duration>,
    /// Say also what it left behind, on a line of its own half a second after the end
    #[arg(long)]
    left: bool,
    /// Print the end as JSON
    #[arg(long)]
    json: bool,
}

/// A span that a user typed.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| "expected a number and s, m, h or d: 90s".into())
}

/// The process that is waited for.
pub(super) struct WaitTarget {
    name: String,
    home: Text<'static>,
    key: String,
}

/// How it ended.
pub(super) struct End {
    pid: u32,
    program: String,
    death: DeathJson<'static>,
    /// Whether a daemon said so that saw it end as the primary of a session.
    ended_session: bool,
}

/// What a stream of frames brought.
enum Outcome {
    Ended(Box<End>),
    TimedOut,
    /// Frames may be missing, or it may stand for no session any more.
    Lost,
}

/// What a daemon answered that was asked again.
enum Again {
    Ended(Box<End>),
    TimedOut,
    /// It runs, and these frames will show its end.
    Runs(Frames),
}

/// The same of one attempt.
enum Asked {
    Again(Again),
    /// No process has this key.
    Nobody,
    /// Events were lost, and the kernel is read again.
    Uncertain,
}

/// How the primary of `session` ended, if it did.
fn end_of(session: &SessionJson<'static>) -> Option<End> {
    let death = session.session_death.as_ref().filter(|_| session.state == SessionState::Ended)?;
    let primary = &session.primary;
    let program = to_line(primary.program.as_ref().unwrap_or(&primary.comm).as_bytes()).into_owned();
    // Another daemon may have seen it.
    Some(End { pid: primary.pid, program, death: death.clone(), ended_session: false })
}

impl WaitArgs {
    /// The status of the process; 124 timed out, 125 own failure, 127 no such session.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        self.wait(socket).map_err(|error| {
            Failure { exit: Exit::Status(OWN_FAILURE), message: format!("{error:#}") }.into()
        })
    }

    fn wait(&self, socket: &Path) -> anyhow::Result<Exit> {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // Subscribed before the question, so that no death after the answer is missed.
        let mut frames = Frames::subscribe(socket)?;
        let line = Client::connect(socket)?.ask(&ClientRequest::List { ended: false })?;
        let answer: ListAnswer<'static> = decode(&line)?;
        let waited = match self.which.find(&answer)? {
            Found::One(session) => WaitTarget::of(session),
            Found::None => return Ok(Exit::Status(NO_SESSION)),
            Found::Several | Found::Unknown => return Ok(Exit::Status(OWN_FAILURE)),
        };
        let Some(mut end) = waited.until_end(socket, &mut frames, deadline)? else {
            return Ok(waited.timed_out());
        };
        if !self.left {
            let line = if self.json { end.json(&waited).to_string() } else { end.line(&waited) };
            term::print_lines([line])?;
            return Ok(end.exit());
        }
        if !self.json {
            term::print_lines([end.line(&waited)])?;
        }
        if end.death.left.is_none() {
            end.death.left = waited.left(socket, &mut frames, &end).map_or_else(
                |error| {
                    let WaitTarget { name, key, .. } = &waited;
                    anstream::eprintln!(
                        "observer: what {name} left is not known: {error:#}; `observer leftovers {key}` lists what is known"
                    );
                    None
                },
                Some,
            );
        }
        if self.json {
            term::print_lines([end.json(&waited).to_string()])?;
        } else if let Some(left) = &end.death.left {
            let left = left.describe().unwrap_or_else(|| "left nothing".into());
            term::print_lines([format!("{}  {left}", waited.name)])?;
        }
        Ok(end.exit())
    }
}

impl End {
    /// The certificate as JSON.
    pub(super) fn json(&self, waited: &WaitTarget) -> Value {
        let Self { pid, program, death, .. } = self;
        let WaitTarget { name, key, .. } = waited;
        json!({"name": name, "key": key, "pid": pid, "program": program, "death": death})
    }

    /// The certificate as a line.
    pub(super) fn line(&self, waited: &WaitTarget) -> String {
        let Self { pid, program, death, .. } = self;
        let lived = death.lifetime_ms.map_or(String::new(), |ms| format!(", lived {}", span(ms / 1000)));
        let death = death.describe_in_full(Some(*pid));
        format!("{}  {pid}  {program}  {}{lived}", waited.name, to_one_line(&death))
    }

    /// With the status of the process.
    pub(super) fn exit(&self) -> Exit {
        Exit::Status(status(&self.death))
    }
}

/// The status in the shell's convention.
fn status(death: &DeathJson<'_>) -> u8 {
    match (death.kind, death.code, death.signal) {
        (DeathCause::Exited, Some(code), _) => code,
        (DeathCause::Signaled | DeathCause::OomKilled, _, Some(signal)) => SIGNALED.saturating_add(signal),
        _ => OWN_FAILURE,
    }
}

/// Frames of processes that stand for a session, or of every process.
pub(super) struct Frames {
    client: Client,
    all: bool,
}

impl Frames {
    /// Subscribes to those of sessions: from here on no death of a primary is missed.
    pub(super) fn subscribe(socket: &Path) -> Result<Self, ClientError> {
        Self::subscribe_to(socket, false)
    }

    fn subscribe_to(socket: &Path, all: bool) -> Result<Self, ClientError> {
        let mut client = Client::connect(socket)?;
        client.send(&ClientRequest::Watch { all, glob: None })?;
        Ok(Self { client, all })
    }
}

impl EndFrame<'_> {
    /// Whether the daemon saw the process `key` end as the primary of a session, of which it then keeps what it left.
    fn ended_session_of(&self, key: &str) -> bool {
        let is_seen = |death: &DeathJson<'_>| death.kind != DeathCause::Unobserved;
        self.kind == FrameKind::SessionEnded && self.key == key && self.death.as_ref().is_some_and(is_seen)
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// The fields of a frame that concern an end.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EndFrame<'a> {
    kind: FrameKind,
    key: String,
    pid: u32,
    comm: Text<'a>,
    program: Option<Text<'a>>,
    home: Option<Text<'static>>,
    death: Option<DeathJson<'static>>,
}

impl WaitTarget {
    /// The primary of `session`.
    pub(super) fn of(session: &SessionJson<'_>) -> Self {
        Self {
            name: to_line(session.name.as_bytes()).into_owned(),
            home: Text::from(session.home.as_bytes().to_vec()),
            key: session.primary.key.clone(),
        }
    }

    /// Waits for its end, which `frames` show, or those of a daemon that is started meanwhile. `None`: the time is over.
    pub(super) fn until_end(
        &self,
        socket: &Path,
        frames: &mut Frames,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Option<End>> {
        loop {
            match self.follow(frames, deadline)? {
                Outcome::Ended(end) => return Ok(Some(*end)),
                Outcome::TimedOut => return Ok(None),
                Outcome::Lost => {}
            }
            match self.again(socket, deadline)? {
                Again::Ended(end) => return Ok(Some(*end)),
                Again::TimedOut => return Ok(None),
                Again::Runs(again) => *frames = again,
            }
        }
    }

    /// Reads frames until one of them is its end.
    fn follow(&self, frames: &mut Frames, deadline: Option<Instant>) -> anyhow::Result<Outcome> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Outcome::TimedOut);
            }
            frames.client.wait_for(left)?;
            let Ok(line) = frames.client.read_line() else {
                return Ok(if is_over(deadline) { Outcome::TimedOut } else { Outcome::Lost });
            };
            // A daemon that stops says so in a line of its own.
            let Ok(frame) = decode::<EndFrame<'_>>(&line) else { return Ok(Outcome::Lost) };
            let concerns_it = frame.key == self.key;
            let ended_session = frame.ended_session_of(&self.key);
            let is_its_home = frame.home.as_ref() == Some(&self.home);
            match (frame.kind, frame.death) {
                (FrameKind::Lagged, _) => return Ok(Outcome::Lost),
                (FrameKind::ProcessEnded | FrameKind::SessionEnded, Some(death)) if concerns_it => {
                    let program = frame.program.as_ref().unwrap_or(&frame.comm);
                    let program = to_line(program.as_bytes()).into_owned();
                    let end = End { pid: frame.pid, program, death, ended_session };
                    return Ok(Outcome::Ended(Box::new(end)));
                }
                // It goes on, and may stand for no session any more.
                (FrameKind::SessionEnded, None) if concerns_it && !frames.all => return Ok(Outcome::Lost),
                (FrameKind::SessionChanged, _) if !concerns_it && is_its_home && !frames.all => {
                    return Ok(Outcome::Lost);
                }
                _ => {}
            }
        }
    }

    /// Subscribes again, if need be with a daemon that is being started, and asks whether it ended meanwhile.
    fn again(&self, socket: &Path, deadline: Option<Instant>) -> anyhow::Result<Again> {
        let give_up = Instant::now() + RECONNECT_MAX;
        loop {
            match self.ask_again(socket) {
                Ok(Asked::Again(again)) => return Ok(again),
                Ok(Asked::Nobody) => {
                    bail!("{} ended, and nobody saw how: `observer history` shows what is known", self.name)
                }
                Err(error) if Instant::now() >= give_up => return Err(error.into()),
                Ok(Asked::Uncertain) | Err(_) if is_over(deadline) => return Ok(Again::TimedOut),
                Ok(Asked::Uncertain) | Err(_) => std::thread::sleep(RECONNECT_PAUSE),
            }
        }
    }

    fn ask_again(&self, socket: &Path) -> Result<Asked, ClientError> {
        let frames = Frames::subscribe(socket)?;
        let line = Client::connect(socket)?.ask(&ClientRequest::List { ended: true })?;
        let answer: ListAnswer<'static> = decode(&line)?;
        if !answer.head.certain {
            return Ok(Asked::Uncertain);
        }
        // A process that moved has a row in each home.
        let rows = || answer.sessions.iter().filter(|session| session.primary.key == self.key);
        if let Some(end) = rows().find_map(end_of) {
            return Ok(Asked::Again(Again::Ended(Box::new(end))));
        }
        if rows().any(|session| session.state != SessionState::Ended) {
            return Ok(Asked::Again(Again::Runs(frames)));
        }
        // It stands for no session any more: its end is among those of all processes.
        let frames = Frames::subscribe_to(socket, true)?;
        let line = Client::connect(socket)?.ask(&ClientRequest::Processes {})?;
        let answer: ProcessesAnswer<'_> = decode(&line)?;
        let runs = answer.processes.iter().any(|process| process.key == self.key);
        Ok(match (runs, answer.head.certain) {
            (true, _) => Asked::Again(Again::Runs(frames)),
            (false, true) => Asked::Nobody,
            (false, false) => Asked::Uncertain,
        })
    }

    /// What of it lives when its end has settled, by which time the daemon counts it too. `frames` showed its end. An error
    /// where nothing is listed by a daemon that did not see a session end: it would list nothing, whatever is left.
    fn left(&self, socket: &Path, frames: &mut Frames, end: &End) -> anyhow::Result<LeftJson> {
        let settled = Instant::now() + Duration::from_nanos(LEFT_SETTLE_NS);
        let mut client = Client::connect(socket)?;
        if client.hello.pid != frames.client.hello.pid {
            bail!("the daemon that saw the end has ended");
        }
        let ended_session = end.ended_session || self.is_shown_as_session(frames, settled)?;
        std::thread::sleep(settled.saturating_duration_since(Instant::now()));
        let line = client.ask(&ClientRequest::Leftovers {})?;
        let answer: LeftoversAnswer<'_> = decode(&line)?;
        if !answer.head.certain {
            bail!("events were lost and the kernel is read again");
        }
        let left = answer.left_by(&self.key);
        if left.processes == 0 && !ended_session {
            bail!("no daemon saw a session end with it");
        }
        if left.processes == 0 && answer.may_lack_of(&self.key) {
            bail!("a daemon that saw it run ended without leaving what it knew of births");
        }
        Ok(left)
    }

    /// Whether `frames` show until `deadline` that a session ended with it. The end of the process comes before that.
    fn is_shown_as_session(&self, frames: &mut Frames, deadline: Instant) -> Result<bool, ClientError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            frames.client.wait_for(Some(left))?;
            let Ok(line) = frames.client.read_line() else { return Ok(false) };
            match decode::<EndFrame<'_>>(&line) {
                Ok(frame) if frame.ended_session_of(&self.key) => return Ok(true),
                Ok(frame) if frame.kind != FrameKind::Lagged => {}
                _ => return Ok(false),
            }
        }
    }

    /// Says that it still runs.
    pub(super) fn timed_out(&self) -> Exit {
        anstream::eprintln!("observer: {} still runs", self.name);
        Exit::Status(TIMED_OUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_session_that_a_daemon_saw_says_that_it_knows_what_is_left() {
        let known = |frame: &str| serde_json::from_str::<EndFrame<'_>>(frame).unwrap().ended_session_of("k");
        assert!(known(r#"{"kind":"session_ended","key":"k","death":{"kind":"exited","code":1}}"#));
        for frame in [
            r#"{"kind":"session_ended","key":"k","death":{"kind":"unobserved"}}"#,
            r#"{"kind":"session_ended","key":"k","death":null}"#,
            r#"{"kind":"session_ended","key":"other","death":{"kind":"exited"}}"#,
            r#"{"kind":"process_ended","key":"k","death":{"kind":"exited"}}"#,
        ] {
            assert!(!known(frame), "{frame}");
        }
    }

    #[test]
    fn the_status_is_what_a_shell_would_have() {
        let of = |json: &str| status(&serde_json::from_str(json).unwrap());
        assert_eq!(of(r#"{"kind":"exited","code":7}"#), 7);
        assert_eq!(of(r#"{"kind":"signaled","signal":9}"#), 137);
        assert_eq!(of(r#"{"kind":"signaled","signal":64}"#), 192);
        assert_eq!(of(r#"{"kind":"unobserved"}"#), OWN_FAILURE);
        assert_eq!(of("{}"), OWN_FAILURE);
    }
}

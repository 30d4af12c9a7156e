//! Signals what sessions left that are over.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

use super::number::SignalNumber;
use super::pidfd::{OpenedPidfd, VerifiedProcess, ask};
use super::report::{Outcome, Target};
use super::sending::{Signalled, TREE_OPEN_MAX, TREE_ROUNDS_MAX, open, send, unanswered};
use crate::api::leftovers::{FormerSessionJson, LeftoverJson, LeftoversAnswer};
use crate::cli::exit::Exit;
use crate::cli::former::FormerWanted;
use crate::cli::leftovers::no_daemon;
use crate::socket::client::ClientError;

/// What to do where an answer is not certain.
const UNCERTAIN: &str =
    "can't know what is left: events were lost and the kernel is read again; ask again in a second";

/// Until when the end of what was signalled is waited for.
#[derive(Clone, Copy)]
pub enum Patience {
    /// It is not.
    None,
    /// Until this moment, if there is one.
    Until(Option<Instant>),
}

/// The leftovers that are meant, as the first answer shows them; or the exit code, where standard error says why there is
/// nothing to signal.
pub fn find(
    wanted: &FormerWanted,
    socket: &Path,
) -> anyhow::Result<Result<(FormerSessionJson<'static>, LeftoversAnswer<'static>), Exit>> {
    let answer: LeftoversAnswer<'static> = ask(socket).map_err(|error| match error {
        ClientError::NoDaemon(path) => anyhow::Error::from(no_daemon(&path)),
        error => error.into(),
    })?;
    ensure!(answer.head.certain, UNCERTAIN);
    if let Some(lines) = wanted.several(&answer.leftovers) {
        anstream::eprintln!(
            "observer: {} was the name of sessions in several homes or of several users; name one by its home, --user or key:",
            wanted.shown()
        );
        lines.iter().for_each(|line| anstream::eprintln!("  {line}"));
        return Ok(Err(Exit::Ambiguous));
    }
    let session = answer.leftovers.iter().map(|it| &it.session).find(|session| wanted.is_meant(session));
    match session.cloned() {
        Some(session) => Ok(Ok((session, answer))),
        None => {
            anstream::eprintln!(
                "observer: no leftovers of {}: nothing was sent; `observer leftovers` shows those of all sessions",
                wanted.shown()
            );
            Ok(Err(Exit::None))
        }
    }
}

/// What would be signalled.
pub fn plan(wanted: &FormerWanted, answer: &LeftoversAnswer<'static>) -> Signalled {
    let meant = chosen(wanted, answer);
    let targets = meant.iter().map(|it| Target::new(&it.process, false, planned(it))).collect();
    Signalled { targets, complete: true, failure: None }
}

/// The leftovers that are meant, but for this process itself, the youngest first: whoever started another is older.
fn chosen<'l>(wanted: &FormerWanted, answer: &'l LeftoversAnswer<'static>) -> Vec<&'l LeftoverJson<'static>> {
    let is_meant =
        |it: &&LeftoverJson<'static>| wanted.is_meant(&it.session) && it.process.pid != std::process::id();
    let mut chosen: Vec<_> = answer.leftovers.iter().filter(is_meant).collect();
    chosen.sort_by_key(|it| Reverse(it.process.start_boottime_ns.0));
    chosen
}

fn planned(leftover: &LeftoverJson<'_>) -> Outcome {
    if leftover.runs_session { Outcome::OtherSession } else { Outcome::Planned }
}

/// Sends `signal` to the leftovers that `answer` shows and that are meant, and to those that are born meanwhile. Returns what
/// was done, and whether the time was over before all had ended that were waited for.
pub fn signal(
    wanted: &FormerWanted,
    answer: LeftoversAnswer<'static>,
    signal: SignalNumber,
    patience: Patience,
    socket: &Path,
) -> (Signalled, bool) {
    let mut sending = Sending { wanted, signal, patience, socket, targets: Vec::new(), timed_out: false };
    let result = sending.send_all(answer);
    let Sending { targets, timed_out, .. } = sending;
    let (complete, failure) = match result {
        Ok(complete) => (complete, None),
        Err(error) => {
            let count = targets.iter().filter(|it| it.outcome == Outcome::Sent).count();
            (false, Some(error.context(format!("{count} leftovers were signalled, and the others were not"))))
        }
    };
    (Signalled { targets, complete, failure }, timed_out)
}

struct Sending<'a> {
    wanted: &'a FormerWanted,
    signal: SignalNumber,
    patience: Patience,
    socket: &'a Path,
    targets: Vec<Target>,
    timed_out: bool,
}

impl Sending<'_> {
    /// Whether the last answer showed none that was not signalled.
    fn send_all(&mut self, mut answer: LeftoversAnswer<'static>) -> anyhow::Result<bool> {
        let mut seen = HashSet::new();
        for _ in 0..TREE_ROUNDS_MAX {
            ensure!(answer.head.certain, UNCERTAIN);
            let batch: Vec<_> = chosen(self.wanted, &answer)
                .into_iter()
                .filter(|it| seen.insert(it.process.key.clone()))
                .take(TREE_OPEN_MAX)
                .collect();
            if batch.is_empty() {
                return Ok(true);
            }
            answer = self.send_batch(&batch)?;
        }
        Ok(false)
    }

    /// Signals those of `batch` that a later answer still shows, for certain, as leftovers; returns that answer.
    fn send_batch(&mut self, batch: &[&LeftoverJson<'static>]) -> anyhow::Result<LeftoversAnswer<'static>> {
        let mut opened = Vec::new();
        for leftover in batch.iter().filter(|it| planned(it) == Outcome::Planned) {
            opened.extend(open(&leftover.process)?);
        }
        let verified = OpenedPidfd::verify::<LeftoversAnswer<'static>>(opened, self.socket);
        let verified = verified.map_err(unanswered).and_then(|(verified, later)| {
            ensure!(later.head.certain, UNCERTAIN);
            Ok((verified, later))
        });
        let (verified, later) = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let unverified =
                    |it: &&LeftoverJson<'_>| Target::new(&it.process, false, Outcome::Unverified);
                self.targets.extend(batch.iter().map(unverified));
                return Err(error);
            }
        };
        let verified: HashMap<&str, &VerifiedProcess> = verified.iter().map(|it| (it.key(), it)).collect();
        // A session may have begun below one of them meanwhile.
        let runs_session: HashSet<&str> = {
            let running = later.leftovers.iter().filter(|it| it.runs_session);
            running.map(|it| it.process.key.as_str()).collect()
        };
        let mut sent = Vec::new();
        for leftover in batch {
            let key = leftover.process.key.as_str();
            let outcome = match verified.get(key) {
                _ if planned(leftover) == Outcome::OtherSession || runs_session.contains(key) => {
                    Outcome::OtherSession
                }
                Some(process) => send(process, self.signal)?,
                // It has ended, or is a session by now.
                None => Outcome::Ended,
            };
            if outcome == Outcome::Sent {
                sent.extend(verified.get(key));
            }
            self.targets.push(Target::new(&leftover.process, false, outcome));
        }
        self.wait(sent.into_iter().copied())?;
        Ok(later)
    }

    fn wait<'p>(&mut self, mut sent: impl Iterator<Item = &'p VerifiedProcess>) -> anyhow::Result<()> {
        let Patience::Until(deadline) = self.patience else { return Ok(()) };
        let ended = sent.try_fold(true, |all, process| Ok(all & process.has_ended_by(deadline)?));
        let ended = ended.map_err(|error: nix::errno::Errno| {
            anyhow::anyhow!("cannot wait for the processes ({error}): run the command outside of any sandbox")
        })?;
        self.timed_out |= !ended;
        Ok(())
    }
}

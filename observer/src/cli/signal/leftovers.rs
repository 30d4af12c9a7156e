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
use crate::api::leftovers::{LeftoverJson, LeftoversAnswer};
use crate::cli::exit::Exit;
use crate::cli::former::{FormerFound, FormerMeant, FormerWanted};
use crate::cli::leftovers::{no_daemon, say_unknown_births};
use crate::socket::client::ClientError;

/// What to do where an answer is not certain.
const UNCERTAIN: &str = "can't know what is left: events were lost and the kernel is read again; ask again in a second (`observer status` says more)";

/// Processes that are kept open while others are signalled. Beside as many as are signalled at once, that is less than what a
/// command may have open.
const KEPT_MAX: usize = TREE_OPEN_MAX / 2;

/// Until when the end of what was signalled is waited for.
#[derive(Clone, Copy)]
pub enum Patience {
    /// It is not.
    None,
    /// Until this moment, if there is one.
    Until(Option<Instant>),
}

/// Which sessions are meant, and what they left by the first answer; or the exit code, where standard error says why there is
/// nothing to signal.
pub fn find(
    wanted: &FormerWanted,
    socket: &Path,
) -> anyhow::Result<Result<(FormerMeant, LeftoversAnswer<'static>), Exit>> {
    let answer: LeftoversAnswer<'static> = ask(socket).map_err(|error| match error {
        ClientError::NoDaemon(path) => anyhow::Error::from(no_daemon(&path)),
        error => error.into(),
    })?;
    ensure!(answer.head.certain, UNCERTAIN);
    match wanted.find(&answer.leftovers) {
        FormerFound::One(meant) => Ok(Ok((meant, answer))),
        FormerFound::Several(lines) => {
            anstream::eprintln!(
                "observer: {} does not say which session is meant: of several, of another user than the home's owner, or of \
                 another mount namespace; name one by its home, --user or key:",
                wanted.shown()
            );
            lines.iter().for_each(|line| anstream::eprintln!("  {line}"));
            Ok(Err(Exit::Ambiguous))
        }
        FormerFound::None => {
            anstream::eprintln!(
                "observer: no leftovers of {}: nothing was sent; `observer leftovers` shows those of all sessions",
                wanted.shown()
            );
            if answer.births_unknown_until_boottime_ns.is_some() {
                say_unknown_births(Some(wanted));
                return Ok(Err(Exit::Unknown));
            }
            Ok(Err(Exit::None))
        }
    }
}

/// What would be signalled.
pub fn plan(meant: &FormerMeant, answer: &LeftoversAnswer<'static>) -> Signalled {
    let chosen = chosen(meant, answer);
    let targets = chosen.iter().map(|it| Target::new(&it.process, false, planned(it))).collect();
    Signalled { targets, complete: true, failure: None }
}

/// The leftovers that are meant, but for this process itself, the youngest first: whoever started another is older.
fn chosen<'l>(meant: &FormerMeant, answer: &'l LeftoversAnswer<'static>) -> Vec<&'l LeftoverJson<'static>> {
    let is_meant =
        |it: &&LeftoverJson<'static>| meant.has(&it.session) && it.process.pid != std::process::id();
    let mut chosen: Vec<_> = answer.leftovers.iter().filter(is_meant).collect();
    chosen.sort_by_key(|it| Reverse(it.process.start_boottime_ns.0));
    chosen
}

fn planned(leftover: &LeftoverJson<'_>) -> Outcome {
    if leftover.runs_session { Outcome::OtherSession } else { Outcome::Planned }
}

/// Sends `signal` to the leftovers that `answer` shows and that are meant, and to those that are born meanwhile; then waits
/// for their ends. Returns what was done, and whether the time was over before all had ended that were waited for.
pub fn signal(
    meant: &FormerMeant,
    answer: LeftoversAnswer<'static>,
    signal: SignalNumber,
    patience: Patience,
    socket: &Path,
) -> (Signalled, bool) {
    let kept_max = if matches!(patience, Patience::None) { 0 } else { KEPT_MAX };
    let mut sending =
        Sending { meant, signal, socket, targets: Vec::new(), kept: Vec::new(), kept_max, timed_out: false };
    let result = sending.send_all(answer).and_then(|complete| match patience {
        Patience::Until(deadline) => Ok(sending.wait(deadline)? && complete),
        Patience::None => Ok(complete),
    });
    let Sending { targets, timed_out, .. } = sending;
    let (complete, failure) = match result {
        Ok(complete) => (complete, None),
        Err(error) => {
            let count = targets.iter().filter(|it| it.outcome == Outcome::Sent).count();
            let others = if targets.iter().any(|it| it.outcome == Outcome::Unverified) {
                ", and others were not"
            } else {
                ""
            };
            (false, Some(error.context(format!("{count} leftovers were signalled{others}"))))
        }
    };
    (Signalled { targets, complete, failure }, timed_out)
}

struct Sending<'a> {
    meant: &'a FormerMeant,
    signal: SignalNumber,
    socket: &'a Path,
    targets: Vec<Target>,
    /// Some of those that were signalled, to wait for their ends.
    kept: Vec<VerifiedProcess>,
    kept_max: usize,
    timed_out: bool,
}

impl Sending<'_> {
    /// Whether the last answer showed none that was not signalled.
    fn send_all(&mut self, mut answer: LeftoversAnswer<'static>) -> anyhow::Result<bool> {
        let mut seen = HashSet::new();
        for _ in 0..TREE_ROUNDS_MAX {
            ensure!(answer.head.certain, UNCERTAIN);
            let batch: Vec<_> = chosen(self.meant, &answer)
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
        let verified_by_key: HashMap<&str, &VerifiedProcess> =
            verified.iter().map(|it| (it.key(), it)).collect();
        // A session may have begun below one of them meanwhile.
        let runs_session: HashSet<&str> = {
            let running = later.leftovers.iter().filter(|it| it.runs_session);
            running.map(|it| it.process.key.as_str()).collect()
        };
        let mut sent = HashSet::new();
        for leftover in batch {
            let key = leftover.process.key.as_str();
            let outcome = match verified_by_key.get(key) {
                _ if planned(leftover) == Outcome::OtherSession || runs_session.contains(key) => {
                    Outcome::OtherSession
                }
                Some(process) => send(process, self.signal)?,
                // It has ended, or is a session by now.
                None => Outcome::Ended,
            };
            if outcome == Outcome::Sent {
                sent.insert(key);
            }
            self.targets.push(Target::new(&leftover.process, false, outcome));
        }
        let room = self.kept_max.saturating_sub(self.kept.len());
        self.kept.extend(verified.into_iter().filter(|it| sent.contains(it.key())).take(room));
        Ok(later)
    }

    /// Waits until those have ended that were signalled. Returns whether the last answer showed no other leftovers, such as
    /// were born meanwhile.
    fn wait(&mut self, deadline: Option<Instant>) -> anyhow::Result<bool> {
        let mut open_now = std::mem::take(&mut self.kept);
        loop {
            self.timed_out |= !have_ended(&open_now, deadline)?;
            let answer: LeftoversAnswer<'static> = ask(self.socket)?;
            ensure!(answer.head.certain, UNCERTAIN);
            let outcome_by_key: HashMap<&str, Outcome> =
                self.targets.iter().map(|it| (it.key.as_str(), it.outcome)).collect();
            let shown = chosen(self.meant, &answer);
            let complete = shown.iter().all(|it| outcome_by_key.contains_key(it.process.key.as_str()));
            // Those that were too many to be kept open.
            let is_sent =
                |it: &&&LeftoverJson<'_>| outcome_by_key.get(it.process.key.as_str()) == Some(&Outcome::Sent);
            let mut opened = Vec::new();
            for leftover in shown.iter().filter(is_sent).take(TREE_OPEN_MAX) {
                opened.extend(open(&leftover.process)?);
            }
            (open_now, _) = OpenedPidfd::verify::<LeftoversAnswer<'static>>(opened, self.socket)?;
            if open_now.is_empty() || self.timed_out {
                return Ok(complete);
            }
        }
    }
}

/// Waits until these have ended, but no longer than `deadline`. Returns whether they have.
fn have_ended(processes: &[VerifiedProcess], deadline: Option<Instant>) -> anyhow::Result<bool> {
    for process in processes {
        let ended = process.has_ended_by(deadline).map_err(|error| {
            anyhow::anyhow!("cannot wait for the processes ({error}): run the command outside of any sandbox")
        })?;
        if !ended {
            return Ok(false);
        }
    }
    Ok(true)
}

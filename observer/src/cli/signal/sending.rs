//! Finds the processes that are meant, and signals them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use nix::errno::Errno;
use nix::unistd::Uid;

use super::number::SignalNumber;
use super::pidfd::{OpenedPidfd, VerifiedProcess, ask};
use super::report::{Outcome, Target};
use super::tree::{ProcessTree, running};
use crate::api::answer::{ListAnswer, ProcessesAnswer};
use crate::api::process::ProcessJson;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;
use crate::cli::exit::Exit;
use crate::cli::user;
use crate::cli::which::{Found, Which};
use crate::socket::client::ClientError;
use crate::text::bytes::to_line;

/// How often `--tree` asks again for descendants, which may have been born meanwhile, and `--leftovers` for leftovers.
pub(super) const TREE_ROUNDS_MAX: u32 = 64;
/// pidfds that are open at a time: half of the files that a process may have open by default.
pub(super) const TREE_OPEN_MAX: usize = 512;
/// What to do where no more files can be opened.
const TOO_FEW_FILES: &str =
    "the limit of open files is reached: raise it with `ulimit -n 1024`, and ask again";
/// What to do where an answer is not certain.
const UNCERTAIN: &str = "can't know what it started: events were lost and the kernel is read again; ask again in a second (`observer status` says more)";

/// What was done, and to whom.
pub struct Signalled {
    /// In the order of the signals.
    pub targets: Vec<Target>,
    /// Whether the last look found no descendant that was not signalled.
    pub complete: bool,
    /// Why it went no further.
    pub failure: Option<anyhow::Error>,
}

impl Signalled {
    /// Whether `outcome` is what became of the signal to the primary.
    pub fn primary_has(&self, outcome: Outcome) -> bool {
        self.targets.iter().any(|it| it.is_primary && it.outcome == outcome)
    }

    /// Whether a signal was sent to any process.
    pub fn reached_any(&self) -> bool {
        self.targets.iter().any(|it| it.outcome == Outcome::Sent)
    }

    /// Says on standard error which processes this user has no right to signal; returns whether there are any.
    pub fn say_denied(&self) -> bool {
        let mut denied = self.targets.iter().filter(|it| it.outcome == Outcome::Denied);
        if let Some(Target { pid, uid, program, .. }) = denied.next() {
            let others = match denied.count() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let own = Uid::effective();
            let next = if own.is_root() {
                "run it with CAP_KILL, outside of any container"
            } else {
                "run it as that user, or as root"
            };
            anstream::eprintln!(
                "observer: no right to signal {pid} ({}): it is a process of user {}, and this is user {}{others}: {next}",
                to_line(program.as_bytes()),
                user::shown(*uid),
                user::shown(own.as_raw())
            );
            return true;
        }
        false
    }

    /// Whether the primary ends, or ended, after a signal: to itself, or to a descendant, as a script does that waits for
    /// its child.
    pub fn ends_primary(&self) -> bool {
        self.primary_has(Outcome::Sent) || self.primary_has(Outcome::Ended) && self.reached_any()
    }
}

/// The primary of a session, which is certainly the one that is meant.
pub struct VerifiedPrimary {
    process: VerifiedProcess,
    /// The session, as the later answer has it.
    pub session: SessionJson<'static>,
    /// Keys of the primaries of all sessions.
    primaries: HashSet<String>,
}

/// What a search for the primary of a session gave.
pub enum Search {
    /// It is there.
    Verified(Box<VerifiedPrimary>),
    /// There is none that may be signalled, and standard error says why.
    Failed(Exit),
}

impl Search {
    /// The primary of the session that is meant.
    pub fn primary(which: &Which, socket: &Path) -> anyhow::Result<Self> {
        let before: ListAnswer<'static> = ask(socket)?;
        let session = match which.find(&before)? {
            Found::One(session) => session,
            failed => return Ok(Self::Failed(failed.exit())),
        };
        let opened = open(&session.primary)?;
        let (verified, after) = OpenedPidfd::verify::<ListAnswer<'static>>(Vec::from_iter(opened), socket)?;
        let failed = |exit| {
            let name = to_line(session.name.as_bytes());
            anstream::eprintln!(
                "observer: {name} ended or was restarted meanwhile: nothing was sent; ask again"
            );
            Ok(Self::Failed(exit))
        };
        let session = match which.find_again(&after, &session.primary.key)? {
            Found::One(session) => session.clone(),
            Found::None => return failed(Exit::None),
            other => return Ok(Self::Failed(other.exit())),
        };
        let Some(process) = verified.into_iter().next() else { return failed(Exit::None) };
        let primaries = primaries(&after);
        Ok(Self::Verified(Box::new(VerifiedPrimary { process, session, primaries })))
    }
}

impl VerifiedPrimary {
    /// Sends `signal` to it; with `tree` first to its descendants, the deepest first.
    pub fn send(&self, signal: SignalNumber, tree: bool, socket: &Path) -> Signalled {
        let mut targets = Vec::new();
        match self.send_in_order(signal, tree, socket, &mut targets) {
            Ok(complete) => Signalled { targets, complete, failure: None },
            Err(error) => Signalled { targets, complete: false, failure: Some(error) },
        }
    }

    /// Whether no descendant is left.
    fn send_in_order(
        &self,
        signal: SignalNumber,
        tree: bool,
        socket: &Path,
        targets: &mut Vec<Target>,
    ) -> anyhow::Result<bool> {
        let complete = !tree
            || self.send_to_descendants(signal, socket, targets).with_context(|| {
                let count = targets.iter().filter(|it| it.outcome == Outcome::Sent).count();
                format!("{count} descendants were signalled, and the primary was not")
            })?;
        let outcome = send(&self.process, signal)?;
        targets.push(Target::new(&self.session.primary, true, outcome));
        Ok(complete)
    }

    /// Whether the last answer showed no descendant that was not signalled.
    fn send_to_descendants(
        &self,
        signal: SignalNumber,
        socket: &Path,
        targets: &mut Vec<Target>,
    ) -> anyhow::Result<bool> {
        let root = &self.session.primary.key;
        let mut answer: ProcessesAnswer<'static> = ask(socket)?;
        let mut primaries = self.primaries.clone();
        let mut tree = ProcessTree::new(root);
        let mut seen = HashSet::new();
        for _ in 0..TREE_ROUNDS_MAX {
            let mut batch = Vec::new();
            for (process, outcome) in planned(&answer, &mut tree, &primaries)? {
                if batch.len() < TREE_OPEN_MAX && seen.insert(process.key.clone()) {
                    batch.push((process, outcome));
                }
            }
            if batch.is_empty() {
                return Ok(!tree.has_lost());
            }
            let is_planned = |outcome: &Outcome| *outcome == Outcome::Planned;
            let mut opened = Vec::new();
            for (process, _) in batch.iter().filter(|(_, outcome)| is_planned(outcome)) {
                opened.extend(open(process)?);
            }
            let again = match SecondLook::take(opened, socket) {
                Ok(again) => again,
                Err(error) => {
                    let unverified =
                        |outcome| if is_planned(&outcome) { Outcome::Unverified } else { outcome };
                    targets.extend(
                        batch.iter().map(|&(it, outcome)| Target::new(it, false, unverified(outcome))),
                    );
                    return Err(error);
                }
            };
            let left_out = again.other_sessions(&answer, &mut tree, root)?;
            for (process, outcome) in batch {
                let outcome = match again.verified.get(&process.key) {
                    _ if left_out.contains(&process.key) => Outcome::OtherSession,
                    Some(verified) => send(verified, signal)?,
                    None if is_planned(&outcome) => Outcome::Ended,
                    None => outcome,
                };
                targets.push(Target::new(process, false, outcome));
            }
            (answer, primaries) = (again.later, again.primaries);
        }
        Ok(false)
    }
}

/// What the daemon answered, for certain, after pidfds were opened.
struct SecondLook {
    /// By key.
    verified: HashMap<String, VerifiedProcess>,
    later: ProcessesAnswer<'static>,
    /// Keys of the primaries of all sessions. The sessions are asked for last, so that one which began meanwhile is known.
    primaries: HashSet<String>,
}

impl SecondLook {
    fn take(opened: Vec<OpenedPidfd>, socket: &Path) -> anyhow::Result<Self> {
        let (verified, later) =
            OpenedPidfd::verify::<ProcessesAnswer<'static>>(opened, socket).map_err(unanswered)?;
        let sessions: ListAnswer<'static> = ask(socket).map_err(unanswered)?;
        ensure!(later.head.certain && sessions.head.certain, UNCERTAIN);
        let verified = verified.into_iter().map(|process| (process.key().to_owned(), process)).collect();
        Ok(Self { verified, later, primaries: primaries(&sessions) })
    }

    /// The keys of what belongs to other sessions or runs them, among the descendants in the answer `before` of the process
    /// with the key `root`, which may have ended meanwhile.
    fn other_sessions(
        &self,
        before: &ProcessesAnswer<'static>,
        tree: &mut ProcessTree,
        root: &str,
    ) -> anyhow::Result<HashSet<String>> {
        // Who is below a session is known from before: nobody is born below another one later.
        let found = planned(before, tree, &self.primaries)?;
        let below = found.into_iter().filter(|&(_, outcome)| outcome == Outcome::OtherSession);
        let mut others: HashSet<String> = below.map(|(process, _)| process.key.clone()).collect();
        others.extend(running(&self.later.processes, root, &self.primaries));
        Ok(others)
    }
}

/// The session that is meant and what would be signalled; or the exit code, where standard error says why not.
pub fn plan(
    which: &Which,
    tree: bool,
    socket: &Path,
) -> anyhow::Result<Result<Box<(SessionJson<'static>, Signalled)>, Exit>> {
    let answer: ListAnswer<'static> = ask(socket)?;
    let session = match which.find(&answer)? {
        Found::One(session) => session,
        failed => return Ok(Err(failed.exit())),
    };
    let mut targets = Vec::new();
    if tree {
        let processes: ProcessesAnswer<'static> = ask(socket)?;
        let mut tree = ProcessTree::new(&session.primary.key);
        let planned = planned(&processes, &mut tree, &primaries(&answer))?;
        targets.extend(planned.into_iter().map(|(process, outcome)| Target::new(process, false, outcome)));
    }
    targets.push(Target::new(&session.primary, true, Outcome::Planned));
    Ok(Ok(Box::new((session.clone(), Signalled { targets, complete: true, failure: None }))))
}

/// The descendants in `tree` that `answer` shows, the deepest first, but for this process itself, and what is to be done with
/// each.
fn planned<'p>(
    answer: &'p ProcessesAnswer<'static>,
    tree: &mut ProcessTree,
    primaries: &HashSet<String>,
) -> anyhow::Result<Vec<(&'p ProcessJson<'static>, Outcome)>> {
    ensure!(answer.head.certain, UNCERTAIN);
    let found = tree.look(&answer.processes, primaries);
    let not_this = found.into_iter().filter(|it| it.process.pid != std::process::id());
    let outcome = |other| if other { Outcome::OtherSession } else { Outcome::Planned };
    Ok(not_this.map(|it| (it.process, outcome(it.in_other_session))).collect())
}

/// The keys of the primaries of all sessions.
fn primaries(answer: &ListAnswer<'_>) -> HashSet<String> {
    let live = answer.sessions.iter().filter(|it| it.state != SessionState::Ended);
    live.map(|it| it.primary.key.clone()).collect()
}

pub(super) fn open(process: &ProcessJson<'_>) -> anyhow::Result<Option<OpenedPidfd>> {
    OpenedPidfd::open(process).map_err(|error| match error {
        Errno::EMFILE => anyhow!("cannot open a pidfd of process {}: {TOO_FEW_FILES}", process.pid),
        Errno::EBADMSG => anyhow!(
            "the daemon's answer has the key {} for process {}, and that is of another one: use the `observer` of the \
             daemon's version",
            to_line(process.key.as_bytes()),
            process.pid
        ),
        error => anyhow!(
            "cannot open a pidfd of process {} ({error}): run the command outside of any sandbox",
            process.pid
        ),
    })
}

/// The error of a question that was asked while pidfds are open.
pub(super) fn unanswered(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Broken(_, error) if error.raw_os_error() == Some(libc::EMFILE) => {
            anyhow!("cannot connect to the daemon: {TOO_FEW_FILES}")
        }
        error => error.into(),
    }
}

pub(super) fn send(process: &VerifiedProcess, signal: SignalNumber) -> anyhow::Result<Outcome> {
    match process.send(signal) {
        Ok(()) => Ok(Outcome::Sent),
        Err(Errno::ESRCH) => Ok(Outcome::Ended),
        Err(Errno::EPERM) => Ok(Outcome::Denied),
        Err(error) => Err(error).with_context(|| {
            format!("cannot signal the process {}; run the command outside of any sandbox", process.key())
        }),
    }
}

#[cfg(test)]
#[path = "sending_tests.rs"]
mod tests;

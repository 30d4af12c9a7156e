//! `observer signal`

mod leftovers;
pub mod number;
pub mod pidfd;
mod report;
mod sending;
mod tree;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::exit::{Exit, Failure};
use super::former::FormerWanted;
use super::term;
use super::wait::{Frames, NO_SESSION, OWN_FAILURE, TIMED_OUT, WaitTarget, timeout};
use super::which::Which;
use crate::api::session::SessionJson;
use crate::text::bytes::{Text, to_line};
use leftovers::Patience;
use number::SignalNumber;
use report::{Outcome, SignalReport};
use sending::{Search, Signalled};

/// Signals the process that is the session's primary now, and no other one: its identity is checked after the kernel has
/// fixed the process by a pidfd, so a session that restarts meanwhile and a process that gets its pid are never signalled.
/// With the rights of whoever runs it. Needs the daemon.
#[derive(Args)]
#[command(after_help = "\
Examples:
  observer signal alpha TERM --wait --timeout 10s    # end it, and see how it ended
  observer signal /srv/agents/alpha INT              # what Ctrl-C does
  observer signal alpha KILL --tree --dry-run        # what would be killed
  observer signal alpha USR1 --if \"$key\"             # only if it is that life still
  observer signal --leftovers alpha TERM --wait      # what sessions called alpha left that are over

Exit codes:
  0    sent (--dry-run: would be sent; signal 0: could be sent)
  1    certainly no session of that name, or it ended or restarted meanwhile: nothing was sent
  2    wrong usage
  3    several sessions of that name, or another user's
  4    can't: no daemon, no rights to signal it, or events were lost; --tree prints what was sent before that
With --wait those of `observer wait`: the session's own, or
  124  the time is over, and it still runs
  125  one of 3 and 4; or nobody saw how it ended
  127  nothing was sent: 1
With --leftovers and --wait 0 once all that were signalled have ended, else 1, 3, 4, or 124")]
pub struct SignalArgs {
    #[command(flatten)]
    which: Which,
    /// TERM, SIGTERM, term, 15, RTMIN+1; 0 checks only whether a signal could be sent
    #[arg(value_name = "SIGNAL", value_parser = SignalNumber::parse)]
    signal: SignalNumber,
    /// After that, wait until it ends, print how, and exit as it did
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Wait no longer than this: 90s, 5m, 2h
    #[arg(long, value_name = "SPAN", value_parser = timeout, requires = "wait")]
    timeout: Option<Duration>,
    /// Signal what it started too, also where the parent has died since: the deepest first, the primary last. Other
    /// sessions among them, and what runs these, are left out
    #[arg(long)]
    tree: bool,
    /// Signal what was born in sessions of that name, home or key which are over, and outlives them: the youngest first. What is
    /// a session by now, and what runs one, is left out
    #[arg(long, conflicts_with = "tree")]
    leftovers: bool,
    /// Print what would be signalled, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl SignalArgs {
    /// 0 sent, 1 no such session, 3 several or another user's, 4 cannot be known or done; with `--wait` as `observer wait`.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        if self.leftovers {
            return self.signal_leftovers(socket);
        }
        let result = self.signal(socket);
        if !self.wait {
            return result;
        }
        match result {
            Ok(Exit::None) => Ok(Exit::Status(NO_SESSION)),
            Ok(Exit::Ambiguous | Exit::Unknown) => Ok(Exit::Status(OWN_FAILURE)),
            Ok(exit) => Ok(exit),
            Err(error) => {
                Err(Failure { exit: Exit::Status(OWN_FAILURE), message: format!("{error:#}") }.into())
            }
        }
    }

    fn signal(&self, socket: &Path) -> anyhow::Result<Exit> {
        if self.dry_run {
            return self.plan(socket);
        }
        // Subscribed before it is signalled, so that its end is not missed.
        let frames = self.wait.then(|| Frames::subscribe(socket)).transpose()?;
        let verified = match Search::primary(&self.which, socket)? {
            Search::Verified(verified) => verified,
            Search::Failed(exit) => return Ok(exit),
        };
        let mut signalled = verified.send(self.signal, self.tree, socket);
        let session = &verified.session;
        if !self.json {
            self.print_lines(session, &signalled)?;
        }
        if let Some(failure) = signalled.failure.take() {
            if self.json && !signalled.targets.is_empty() {
                self.print_json(session, &signalled, None)?;
            }
            return Err(failure);
        }
        let exit = self.judge(session, &signalled);
        let Some(mut frames) = frames.filter(|_| signalled.ends_primary()) else {
            if self.json {
                self.print_json(session, &signalled, None)?;
            }
            return Ok(exit);
        };
        let waited = WaitTarget::of(session);
        let deadline = self.deadline();
        let end = waited.until_end(socket, &mut frames, deadline)?;
        if self.json {
            self.print_json(session, &signalled, end.as_ref().map(|end| end.json(&waited)))?;
        } else if let Some(end) = &end {
            term::print_lines([end.line(&waited)])?;
        }
        Ok(end.map_or_else(|| waited.timed_out(), |end| end.exit()))
    }

    /// When the time is over for which the end is waited for.
    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Signals what sessions left that are over.
    fn signal_leftovers(&self, socket: &Path) -> anyhow::Result<Exit> {
        let Which { session, user, home, only_if } = &self.which;
        let wanted = FormerWanted::new(session, *user, only_if.as_deref())?.in_home(home.as_deref())?;
        let (meant, answer) = match leftovers::find(&wanted, socket)? {
            Ok(found) => found,
            Err(exit) => return Ok(exit),
        };
        let patience = if self.wait { Patience::Until(self.deadline()) } else { Patience::None };
        let (mut signalled, timed_out) = if self.dry_run {
            (leftovers::plan(&meant, &answer), false)
        } else {
            leftovers::signal(&meant, answer, self.signal, patience, socket)
        };
        let session = &meant.session;
        let name = to_line(session.name.as_bytes());
        let failure = signalled.failure.take();
        if !self.json {
            term::print_lines(signalled.targets.iter().map(|it| it.line(&name, self.signal)))?;
        } else if failure.is_none() || !signalled.targets.is_empty() {
            self.print_report(&session.name, &session.home, &signalled, None)?;
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(self.judge_leftovers(&name, &signalled, timed_out)),
        }
    }

    /// The exit code of `--leftovers`; says on standard error what did not go as it was meant.
    fn judge_leftovers(&self, name: &str, signalled: &Signalled, timed_out: bool) -> Exit {
        if !signalled.complete {
            anstream::eprintln!(
                "observer: what {name} left starts processes faster than they are signalled: some are left; ask again"
            );
        }
        if signalled.say_denied() {
            return Exit::Unknown;
        }
        if timed_out {
            anstream::eprintln!(
                "observer: the time is over, and some of them still run: `observer leftovers {name}` shows them"
            );
            return Exit::Status(TIMED_OUT);
        }
        if self.dry_run || signalled.reached_any() {
            return Exit::Found;
        }
        anstream::eprintln!(
            "observer: nothing was sent: all of them have ended, or run other sessions; `observer leftovers` shows what is left"
        );
        Exit::None
    }

    /// Prints what would be signalled.
    fn plan(&self, socket: &Path) -> anyhow::Result<Exit> {
        let (session, planned) = match sending::plan(&self.which, self.tree, socket)? {
            Ok(planned) => *planned,
            Err(exit) => return Ok(exit),
        };
        if self.json {
            self.print_json(&session, &planned, None)?;
        } else {
            self.print_lines(&session, &planned)?;
        }
        Ok(Exit::Found)
    }

    fn print_lines(&self, session: &SessionJson<'_>, signalled: &Signalled) -> anyhow::Result<()> {
        let name = to_line(session.name.as_bytes());
        term::print_lines(signalled.targets.iter().map(|it| it.line(&name, self.signal)))?;
        Ok(())
    }

    fn print_json(
        &self,
        session: &SessionJson<'_>,
        signalled: &Signalled,
        end: Option<Value>,
    ) -> anyhow::Result<()> {
        self.print_report(&session.name, &session.home, signalled, end)
    }

    fn print_report(
        &self,
        name: &Text<'_>,
        home: &Text<'_>,
        signalled: &Signalled,
        end: Option<Value>,
    ) -> anyhow::Result<()> {
        let signal_name = Some(self.signal.to_string()).filter(|_| self.signal != SignalNumber::NONE);
        term::print_json(&SignalReport {
            name,
            home,
            signal: self.signal.number(),
            signal_name,
            targets: &signalled.targets,
            complete: signalled.complete,
            end,
        })?;
        Ok(())
    }

    /// The exit code without `--wait`; says on standard error what did not go as it was meant.
    fn judge(&self, session: &SessionJson<'_>, signalled: &Signalled) -> Exit {
        let name = to_line(session.name.as_bytes());
        if !signalled.complete {
            anstream::eprintln!(
                "observer: {name} starts processes faster than they are signalled: some are left; ask again, or stop it \
                 first: `observer signal {name} STOP`"
            );
        }
        if signalled.say_denied() {
            return Exit::Unknown;
        }
        if signalled.primary_has(Outcome::Ended) {
            if !signalled.reached_any() {
                anstream::eprintln!("observer: {name} ended meanwhile: nothing was sent");
                return Exit::None;
            }
            return Exit::Found;
        }
        if session.primary.stopped && !self.signal.reaches_stopped() {
            anstream::eprintln!(
                "observer: {name} is stopped, and gets {} when it is continued: `observer signal {name} CONT`",
                self.signal
            );
        }
        Exit::Found
    }
}

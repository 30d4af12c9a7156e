//! The command line: one file a command.

mod audit;
mod completions;
mod database;
mod doctor;
mod fleet;
mod fleet_history;
mod forget;
mod history;
mod home;
mod hooks;
mod list;
mod once;
mod pid;
mod ps;
mod run;
mod schema;
mod status;
mod term;
mod watch;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::ConfigError;

/// Where the daemon listens unless told otherwise.
pub const SOCKET_DEFAULT: &str = "/run/observer/observer.sock";

/// Where the daemon keeps its state unless told otherwise.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/observer";

/// The journal in it.
pub const JOURNAL_NAME: &str = "journal.sqlite";

const EXIT_CODES: &str = "\
Exit codes:
  0  found, fine
  1  certainly none: no session, or none of that name (audit: drift; doctor: something fails; run: could not run)
  2  wrong usage or configuration
  3  ambiguous: several sessions have that name
  4  can't know: no daemon, no rights, or events were lost and are being healed";

/// Keeps the map session → pid true, from the kernel's own probes.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Arguments {
    /// The daemon's socket.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (what the service starts)
    Run(run::Run),
    /// Show which process each session is, now
    List(list::List),
    /// Show every live process, as a tree
    Ps(ps::Ps),
    /// Print a session's pid, for scripts
    Pid(pid::Pid),
    /// Follow sessions as they start, move and end
    Watch(watch::Watch),
    /// Show what happened to sessions, from the journal
    History(history::History),
    /// Show the daemon's own counters
    Status(status::Status),
    /// Compare the map with the kernel, field by field
    Audit(audit::Audit),
    /// Check whether this machine can run observer, and say what to do
    Doctor(doctor::Doctor),
    /// Create or print the mirror's tables and views
    Schema(schema::Schema),
    /// Remove a host that is gone from the mirror
    Forget(forget::Forget),
    /// Print a shell's completion script
    Completions(completions::Completions),
}

/// For commands that load the kernel programs.
#[derive(Args)]
struct BtfFile {
    /// Take the kernel's layout from this file, not from /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "PATH")]
    btf: Option<PathBuf>,
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Found, fine.
    Found = 0,
    /// Certainly none.
    None = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Several answer to that name.
    Ambiguous = 3,
    /// Can't know.
    Unknown = 4,
}

/// An error with an exit code of its own.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Parses, runs the command, tells what went wrong.
pub fn main() -> ExitCode {
    let Arguments { socket, command } = Arguments::parse();
    let path = socket.clone().unwrap_or_else(|| SOCKET_DEFAULT.into());
    let result = match command {
        Command::Run(run) => run.run(socket),
        Command::List(list) => list.run(&path),
        Command::Ps(ps) => ps.run(&path),
        Command::Pid(pid) => pid.run(&path),
        Command::Watch(watch) => watch.run(&path),
        Command::History(history) => history.run(),
        Command::Status(status) => status.run(&path),
        Command::Audit(audit) => audit.run(&path),
        Command::Doctor(doctor) => doctor.run(&path),
        Command::Schema(schema) => schema.run(),
        Command::Forget(forget) => forget.run(),
        Command::Completions(completions) => completions.run(),
    };
    ExitCode::from(result.unwrap_or_else(|error| tell(&error)) as u8)
}

fn tell(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        term::die_of_broken_pipe();
    }
    eprintln!("observer: {error:#}");
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    if error.is::<ConfigError>() { Exit::Usage } else { Exit::Unknown }
}

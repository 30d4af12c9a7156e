//! The command line: one file or folder for each command.

mod audit;
mod changes;
mod check_config;
mod completions;
mod database;
mod doctor;
mod doubt;
mod exit;
mod explain;
mod flags;
mod forget;
mod former;
mod history;
mod home;
mod hooks;
mod leftovers;
mod list;
mod man;
mod naming;
mod once;
mod past;
mod paths;
mod pid;
mod places;
mod ps;
mod readable;
mod reload;
mod rules;
mod run;
mod schema;
mod several;
pub mod signal;
mod status;
mod term;
mod timeline;
mod top;
mod usage;
mod user;
mod wait;
mod watch;
mod which;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::ConfigErrors;
use crate::daemon::canary;
use exit::{Exit, Failure};
use paths::SOCKET_DEFAULT;

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
pub struct CommandLine {
    /// The daemon's socket.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (what the service starts)
    Run(run::RunArgs),
    /// Show which process each session is, now
    List(list::ListArgs),
    /// Show every live process, as a tree
    Ps(ps::PsArgs),
    /// Print a session's pid, for scripts
    Pid(pid::PidArgs),
    /// Wait until a session's process ends, and exit as it did
    Wait(wait::WaitArgs),
    /// Show what was born in sessions and outlives them
    Leftovers(leftovers::LeftoversArgs),
    /// Signal a session's process, and certainly no other
    Signal(signal::SignalArgs),
    /// Say why a process is a session, or why it is not
    Explain(explain::ExplainArgs),
    /// Follow sessions as they start, move and end
    Watch(watch::WatchArgs),
    /// Show sessions on the whole terminal, as they change and what they cost
    Top(top::TopArgs),
    /// Show what happened to sessions, from the journal
    History(history::HistoryArgs),
    /// Draw when sessions lived and how they ended
    Timeline(timeline::TimelineArgs),
    /// Show the daemon's own counters
    Status(status::StatusArgs),
    /// Have the daemon read its rules again, and wait for the outcome
    Reload(reload::ReloadArgs),
    /// Check a configuration file as a whole, before a daemon uses it
    CheckConfig(check_config::CheckConfigArgs),
    /// Compare the map with the kernel, field by field
    Audit(audit::AuditArgs),
    /// Check whether this machine can run observer, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Create or print the mirror's tables and views
    Schema(schema::SchemaArgs),
    /// Print the built-in rules, check a configuration, or show what one would change
    Rules(rules::RulesArgs),
    /// Remove a host that is gone from the mirror
    Forget(forget::ForgetArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Parses the arguments, runs the command and reports its error.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == canary::ARGUMENT) {
        return ExitCode::from(canary::EXIT_CODE);
    }
    let CommandLine { socket, command } = CommandLine::try_parse().unwrap_or_else(|error| usage::exit(error));
    let path = socket.clone().unwrap_or_else(|| SOCKET_DEFAULT.into());
    let result = match command {
        Command::Run(run) => run.run(socket),
        Command::List(list) => list.run(&path),
        Command::Ps(ps) => ps.run(&path),
        Command::Pid(pid) => pid.run(&path),
        Command::Wait(wait) => wait.run(&path),
        Command::Leftovers(leftovers) => leftovers.run(&path),
        Command::Signal(signal) => signal.run(&path),
        Command::Explain(explain) => explain.run(&path),
        Command::Watch(watch) => watch.run(&path),
        Command::Top(top) => top.run(&path),
        Command::History(history) => history.run(&path),
        Command::Timeline(timeline) => timeline.run(&path),
        Command::Status(status) => status.run(&path),
        Command::Reload(reload) => reload.run(&path),
        Command::CheckConfig(check) => check.run(),
        Command::Audit(audit) => audit.run(&path),
        Command::Doctor(doctor) => doctor.run(&path),
        Command::Schema(schema) => schema.run(),
        Command::Rules(rules) => rules.run(&path),
        Command::Forget(forget) => forget.run(),
        Command::Completions(completions) => completions.run(&mut CommandLine::command()),
        Command::Man(man) => man.run(CommandLine::command()),
    };
    ExitCode::from(result.unwrap_or_else(|error| report(&error)).code())
}

fn report(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        term::die_of_broken_pipe();
    }
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        for error in errors.iter() {
            anstream::eprintln!("observer: {error}");
        }
        return Exit::Usage;
    }
    anstream::eprintln!("observer: {error:#}");
    error.downcast_ref::<Failure>().map_or(Exit::Unknown, |failure| failure.exit)
}

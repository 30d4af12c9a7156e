//! `observer pid`

use std::path::Path;

use clap::Args;

use super::exit::Exit;
use super::term;
use super::which::{Found, Which};
use crate::api::answer::ListAnswer;
use crate::api::session::{OtherJson, SessionJson};
use crate::socket::client::{Client, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::to_line;

/// Needs the daemon: exits 4 without one.
#[derive(Args)]
pub struct PidArgs {
    #[command(flatten)]
    which: Which,
    /// Print the key of the process in place of its pid: one life of it, for --if, and for NAME in other commands
    #[arg(long)]
    key: bool,
}

impl PidArgs {
    /// 0 found, 1 certainly none, 3 several or another user's, 4 can't know.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let line = Client::connect(socket)?.ask(&ClientRequest::List { ended: false })?;
        let answer: ListAnswer<'_> = decode(&line)?;
        let found = self.which.find(&answer)?;
        if let Found::One(session) = found {
            let primary = &session.primary;
            term::print_lines([if self.key { primary.key.clone() } else { primary.pid.to_string() }])?;
            if session.roots > 1 {
                warn_of_others(session);
            }
        }
        Ok(found.exit())
    }
}

/// Says on standard error which other processes could be meant.
fn warn_of_others(session: &SessionJson<'_>) {
    let width = term::error_width();
    let (before, after) = (
        format!("observer: {} processes stand in ", session.roots),
        ": this one is its session; the others:",
    );
    let home = to_line(session.home.as_bytes());
    anstream::eprintln!("{before}{}{after}", term::fitted(&home, before.len() + after.len(), width));
    for OtherJson { pid, program, tty, .. } in &session.others {
        let tty = tty.as_ref().map_or("no terminal".into(), |tty| to_line(tty.as_bytes()));
        let before = format!("  {pid}  ");
        let program = to_line(program.as_bytes());
        let program = term::fitted(&program, before.len() + tty.len() + 2, width);
        anstream::eprintln!("{before}{program}  {tty}");
    }
}

//! `observer reload`

use std::path::Path;

use clap::Args;

use super::exit::{Exit, Failure};
use super::term;
use crate::api::answer::ReloadAnswer;
use crate::socket::client::{Client, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::to_line;

const EXIT_CODES: &str = "\
Exit codes:
  0  the rules were read again and are in force
  2  the configuration cannot be used: the former rules stay in force
  4  can't know: no daemon, or no right to have it read them";

/// Sessions are decided again by the new rules, and nothing is missed. Other settings are used from the next start on.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct ReloadArgs {
    /// JSON: an object (docs/json.md)
    #[arg(long)]
    json: bool,
}

impl ReloadArgs {
    /// 0 in force, 2 the former rules stay, 4 cannot be known.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let line = Client::connect(socket)?.ask(&ClientRequest::Reload {})?;
        let answer: ReloadAnswer = decode(&line)?;
        if self.json {
            term::print_json(&answer)?;
        } else if answer.reloaded {
            term::print_lines([in_force(&answer)])?;
        }
        match answer.error {
            None => Ok(Exit::Found),
            Some(_) if self.json => Ok(Exit::Usage),
            Some(error) => {
                let message = format!("the former rules stay in force: {}", to_line(error.as_bytes()));
                Err(Failure { exit: Exit::Usage, message }.into())
            }
        }
    }
}

fn in_force(answer: &ReloadAnswer) -> String {
    let rules = match answer.rules.unwrap_or_default() {
        1 => "1 session rule is".to_owned(),
        count => format!("{count} session rules are"),
    };
    let file = answer.config.as_deref().unwrap_or_default();
    let file = to_line(file.as_bytes());
    format!("{file}: {rules} in force; other settings are used from the next start on")
}

//! `observer doctor`

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::flags::BtfFlag;
use super::hooks::HooksFlag;
use super::term;
use crate::kernel::{self, Check, Verdict};
use crate::socket::client::{Client, ClientError};
use crate::socket::listen::GROUP;
use crate::text::bytes::to_line;
use crate::text::style::{BAD, GOOD, NOTICE};

/// Tries the real programs, so it needs the daemon's rights.
#[derive(Args)]
pub struct DoctorArgs {
    /// JSON: an array of checks (docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    btf: BtfFlag,
    /// Where to take facts from that more than one hook can tell
    #[arg(long, value_enum, default_value_t)]
    hooks: HooksFlag,
}

#[derive(Serialize)]
struct CheckJson {
    name: String,
    verdict: &'static str,
    detail: String,
}

impl DoctorArgs {
    /// 0, or 1 if observer cannot run here.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let mut checks = kernel::doctor(self.btf.btf.as_deref(), self.hooks.into());
        checks.push(daemon(socket));
        checks.push(group());
        if self.json {
            let json = |check: &Check| CheckJson {
                name: check.name.clone(),
                verdict: word(check.verdict),
                detail: check.detail.clone(),
            };
            let rows: Vec<_> = checks.iter().map(json).collect();
            term::print_json(&rows)?;
        } else {
            term::print_lines(checks.iter().map(line))?;
        }
        let fails = checks.iter().any(|check| check.verdict == Verdict::Fails);
        Ok(if fails { Exit::None } else { Exit::Found })
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Limited => "limited",
        Verdict::Fails => "fails",
    }
}

fn line(check: &Check) -> String {
    let style = match check.verdict {
        Verdict::Fine => GOOD,
        Verdict::Limited => NOTICE,
        Verdict::Fails => BAD,
    };
    let name = to_line(check.name.as_bytes());
    // Lists of what is wrong have a line each.
    let detail: Vec<_> = check.detail.lines().map(|line| to_line(line.as_bytes())).collect();
    let detail = detail.join("\n         ");
    format!("{style}{:<7}{style:#}  {name}: {detail}", word(check.verdict))
}

/// A daemon that runs, or that could: not running is no failure of the machine.
fn daemon(socket: &Path) -> Check {
    let (verdict, detail) = match Client::connect(socket) {
        Ok(client) => {
            (Verdict::Fine, format!("runs, pid {}, version {}", client.hello.pid, client.hello.observer))
        }
        Err(error @ ClientError::NoDaemon(_)) => (Verdict::Limited, error.to_string()),
        Err(error) => (Verdict::Fails, error.to_string()),
    };
    Check { name: "daemon".into(), verdict, detail }
}

fn group() -> Check {
    let name = format!("group {GROUP}");
    match nix::unistd::Group::from_name(GROUP) {
        Ok(Some(_)) => {
            Check { name, verdict: Verdict::Fine, detail: "its members may ask the daemon".into() }
        }
        _ => Check {
            name,
            verdict: Verdict::Limited,
            detail: format!("is not there, so only root may ask the daemon: `groupadd --system {GROUP}`"),
        },
    }
}

//! `observer forget`

use clap::Args;

use super::database::DatabaseFlags;
use super::exit::{Exit, Failure};
use crate::mirror::connect::Purpose;
use crate::mirror::forget::{ForgetOutcome, ForgettableHost, find, forget};
use crate::text::bytes::to_line;

/// Needs a login that owns the schema.
#[derive(Args)]
pub struct ForgetArgs {
    /// Its name, or its host_id where several have that name
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    database: DatabaseFlags,
}

impl ForgetArgs {
    /// 0 forgotten; 1 there is none, or its daemon is there; 3 several have that name.
    pub fn run(self) -> anyhow::Result<Exit> {
        self.database.with(Purpose::Change, async |mut connected| {
            let found = find(&connected.client, &self.host).await?;
            let host = one(&self.host, &found)?;
            let name = format!("{} (host_id {})", to_line(host.host.as_bytes()), host.host_id);
            let none = |message| Err(Failure { exit: Exit::None, message }.into());
            if host.present {
                return none(format!(
                    "{name} is present: stop its daemon there first (systemctl disable --now observer)"
                ));
            }
            match forget(&mut connected.client, host).await? {
                ForgetOutcome::Forgotten { sessions, events } => {
                    println!("forgot {name}: {sessions} sessions, {events} events");
                    Ok(Exit::Found)
                }
                ForgetOutcome::Locked { pid, role } => none(format!(
                    "the role {} holds the lock of {name}: stop its daemon there if that is it, else end that session (SELECT \
                     pg_terminate_backend({pid}))",
                    to_line(role.as_bytes())
                )),
            }
        })
    }
}

fn one<'a>(wanted: &str, found: &'a [ForgettableHost]) -> Result<&'a ForgettableHost, Failure> {
    match found {
        [host] => Ok(host),
        [] => Err(Failure {
            exit: Exit::None,
            message: format!(
                "the database has no host {}: see SELECT host, host_id FROM observer.hosts",
                to_line(wanted.as_bytes())
            ),
        }),
        several => {
            let each = several.iter().map(|host| {
                let seen = host.last_commit_at.as_deref().unwrap_or("never");
                format!(
                    "\n  {}  last commit {seen}{}",
                    host.host_id,
                    if host.present { ", present" } else { "" }
                )
            });
            Err(Failure {
                exit: Exit::Ambiguous,
                message: format!(
                    "{} hosts are named {}; give the host_id of one:{}",
                    several.len(),
                    to_line(wanted.as_bytes()),
                    each.collect::<String>()
                ),
            })
        }
    }
}

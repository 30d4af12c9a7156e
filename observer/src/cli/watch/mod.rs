//! `observer watch`

mod fleet;
mod frame;
mod local;

use std::path::Path;

use clap::Args;

use self::frame::Processes;
use crate::cli::database::DatabaseFlags;
use crate::cli::exit::{Exit, Failure};
use crate::mirror::connect::Purpose;
use crate::socket::hub::WatchFilter;

/// A snapshot, then every change, until interrupted. Needs the daemon: exits 4 without one.
#[derive(Args)]
pub struct WatchArgs {
    /// JSON: a frame a line (docs/json.md)
    #[arg(long)]
    json: bool,
    /// Also processes that are in no session
    #[arg(long)]
    all: bool,
    /// Only what matches: a session's name (with --all: a comm); with a `/` in it, its home
    glob: Option<String>,
    /// All hosts that mirror to this database, without a daemon
    #[command(flatten)]
    database: DatabaseFlags,
}

impl WatchArgs {
    /// 4 when the daemon or the database ends the connection; otherwise it runs until it is interrupted.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let usage = |message: String| Failure { exit: Exit::Usage, message };
        let filter = WatchFilter::new(self.all, self.glob.as_deref()).map_err(usage)?;
        if self.database.url()?.is_some() {
            return self.fleet(filter);
        }
        let processes = if self.all { Processes::All } else { Processes::OfSessions };
        local::watch(socket, processes, self.glob, self.json)
    }

    fn fleet(&self, filter: WatchFilter) -> anyhow::Result<Exit> {
        if self.all {
            let message = "--all: only sessions are mirrored; leave it out".into();
            return Err(Failure { exit: Exit::Usage, message }.into());
        }
        self.database.with(Purpose::Read, async |connected| fleet::watch(connected, filter, self.json).await)
    }
}

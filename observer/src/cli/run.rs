//! `observer run`

use std::path::PathBuf;

use clap::Args;

use super::{BtfFile, Exit, Failure, SOCKET_DEFAULT};
use crate::config::{Config, check_ring_bytes};
use crate::daemon;
use crate::kernel::Ways;

/// Flags win over the configuration file.
#[derive(Args)]
pub struct Run {
    /// Session rules and settings (TOML); without it, what runs on a pty for a second is a session
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory for what outlives the daemon
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Size of the ring buffer, bytes: a power of two
    #[arg(long, value_name = "N", value_parser = parse_ring_bytes)]
    ring_bytes: Option<u32>,
    /// Print the kernel programs' own diagnostics
    #[arg(long)]
    program_log: bool,
    /// Where to take facts from that more than one kind of hook can tell
    #[arg(long, value_name = "WAY", default_value = "auto")]
    hooks: Ways,
    #[command(flatten)]
    btf: BtfFile,
}

fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    check_ring_bytes(
        text.parse().map_err(|_| format!("{text:?} is no number of bytes: write for instance 8388608"))?,
    )
}

impl Run {
    /// 0 after a signal, 1 if it could not run, 2 for a wrong configuration.
    pub fn run(self, socket: Option<PathBuf>) -> anyhow::Result<Exit> {
        let config = Config::load(self.config.as_deref())?;
        let options = daemon::Options {
            socket: socket.or_else(|| config.socket.clone()).unwrap_or_else(|| SOCKET_DEFAULT.into()),
            state_dir: self.state_dir.or_else(|| config.state_dir.clone()),
            ring_bytes: self
                .ring_bytes
                .or(config.ring_bytes)
                .unwrap_or(observer_common::limits::RING_BYTES_DEFAULT),
            program_log: self.program_log,
            btf: self.btf.btf,
            hooks: self.hooks,
            config,
        };
        daemon::run(options).map_err(|error| Failure { exit: Exit::None, message: format!("{error:#}") })?;
        Ok(Exit::Found)
    }
}

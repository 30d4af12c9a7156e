//! Passes the programs' own diagnostics (aya-log) to the log, if asked for. Otherwise the programs are loaded with the log level
//! none, and the verifier removes the code that writes diagnostics.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tracing::debug;

/// Target of the programs' diagnostics. Whoever asks for them wants them whatever the level of the log is.
pub const TARGET: &str = "observer::program";

struct ToLog;

impl Log for ToLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        debug!(target: TARGET, "program: {}", record.args());
    }

    fn flush(&self) {}
}

/// Starts the thread that reads them; it lives as long as the process.
pub fn start(ebpf: &mut Ebpf) -> Result<()> {
    let mut logger = EbpfLogger::init_with_logger(ebpf, ToLog).context("read the programs' diagnostics")?;
    thread::Builder::new()
        .name("program-log".into())
        .spawn(move || {
            loop {
                let mut ready =
                    libc::pollfd { fd: logger.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one pollfd, of a descriptor that the logger keeps open.
                unsafe { libc::poll(&raw mut ready, 1, -1) };
                logger.flush();
            }
        })
        .context("start the thread that passes the programs' diagnostics on")?;
    Ok(())
}

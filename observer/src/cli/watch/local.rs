//! `observer watch`: sessions and processes of this machine, from its daemon.

use std::io::{self, Write};
use std::path::Path;

use super::frame::{Processes, UnnumberedChanges, WatchFrame};
use crate::cli::exit::Exit;
use crate::socket::client::{Client, check_refusal, decode};
use crate::socket::frame::ClientRequest;

/// Prints the snapshot, then every change, until the daemon ends the connection: that is an error.
pub fn watch(socket: &Path, processes: Processes, glob: Option<String>, json: bool) -> anyhow::Result<Exit> {
    let mut client = Client::connect(socket)?;
    client.send(&ClientRequest::Watch { all: processes == Processes::All, glob })?;
    client.wait_without_timeout()?;
    let mut out = io::BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
    let mut json_out = io::BufWriter::new(io::stdout());
    let mut unnumbered = UnnumberedChanges::default();
    loop {
        let frame = client.read_line()?;
        check_refusal(&frame)?;
        if json {
            json_out.write_all(&frame)?;
            json_out.write_all(b"\n")?;
        } else {
            let shown = decode::<WatchFrame<'_>>(&frame)?;
            if let Some(line) = shown.line(processes).filter(|_| !unnumbered.is_repeated_by(&shown, &frame)) {
                writeln!(out, "{line}")?;
            }
        }
        if client.is_drained() {
            json_out.flush()?;
            out.flush()?;
        }
    }
}

//! `observer status`

use std::collections::BTreeMap;
use std::path::Path;

use anstyle::Style;
use clap::Args;

use super::exit::Exit;
use super::term;
use crate::api::status::{JournalStatus, MirrorStatus, StatusAnswer};
use crate::api::words::{JournalState, MirrorState};
use crate::socket::client::{Client, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::to_line;
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, Table};

/// Needs the daemon: exits 4 without one.
#[derive(Args)]
pub struct StatusArgs {
    /// JSON: an object (docs/json.md)
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    /// 0, or 4 while a gap is open.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let line = Client::connect(socket)?.ask(&ClientRequest::Status {})?;
        let status: StatusAnswer = decode(&line)?;
        if self.json {
            // Fields of a newer daemon that this program does not know are passed on.
            let document: serde_json::Value = decode(&line)?;
            term::print_json(&document)?;
        } else {
            print(&status)?;
        }
        Ok(if status.head.certain { Exit::Found } else { Exit::Unknown })
    }
}

fn print(status: &StatusAnswer) -> std::io::Result<()> {
    let (word, style) = if status.head.certain { ("certain", GOOD) } else { ("a gap is open", BAD) };
    let version = to_line(status.version.as_bytes());
    let daemon =
        format!("observer {version}, pid {}, up {}", status.pid, to_line(status.uptime_text.as_bytes()));
    let mut lines = vec![
        format!("{STRONG}{daemon}{STRONG:#}  {style}{word}{style:#}"),
        format!("map      {} processes, {} sessions", status.processes, status.sessions),
        format!(
            "ring     {} KiB, {} bytes in use; memory {} KiB",
            status.ring_bytes / 1024,
            status.ring_used_bytes,
            status.rss_bytes / 1024
        ),
        format!(
            "healing  {} gaps, {} resyncs, {} drift, {} passes ({} failed, last {} µs)",
            status.gaps,
            status.resyncs,
            status.drift_total,
            status.passes.total,
            status.passes.failed,
            status.passes.last_us
        ),
        format!(
            "clients  {} connected, {} watching, {} refused, {} dropped, {} lagged",
            status.clients.connected,
            status.clients.watching,
            status.clients.refused,
            status.clients.dropped,
            status.clients.lagged
        ),
        journal(&status.journal),
        mirror(&status.mirror),
        String::new(),
    ];
    lines.extend(events(status).lines(term::width()));
    lines.push(String::new());
    lines.extend(hooks(status).lines(term::width()));
    for spot in &status.blind_spots {
        let (fact, what) = (to_line(spot.fact.as_bytes()), to_line(spot.what.as_bytes()));
        lines.push(format!("{NOTICE}not seen{NOTICE:#}  {fact}: {what}"));
    }
    term::print_lines(lines)
}

fn journal(journal: &JournalStatus) -> String {
    let style = if journal.state == JournalState::Ok { GOOD } else { BAD };
    let state = journal.state;
    let error = journal.last_error.as_deref().map(|error| format!(": {}", to_line(error.as_bytes())));
    let error = error.unwrap_or_default();
    let Some(path) = &journal.path else {
        return format!("journal  {style}{state}{style:#}{error}");
    };
    format!(
        "journal  {style}{state}{style:#}{error}, {} of {} MiB, entries {} to {}, {} waiting, {} dropped, {} expired, {}",
        journal.bytes >> 20,
        journal.limit_bytes >> 20,
        journal.oldest_seq,
        journal.last_seq,
        journal.queued,
        journal.dropped,
        journal.expired,
        to_line(path.as_bytes())
    )
}

fn mirror(mirror: &MirrorStatus) -> String {
    let style = match mirror.state {
        MirrorState::Ok => GOOD,
        MirrorState::Off if mirror.last_error.is_none() => FAINT,
        MirrorState::Connecting | MirrorState::CatchingUp | MirrorState::Waiting => NOTICE,
        MirrorState::Off | MirrorState::Retrying | MirrorState::Stopped | MirrorState::Unknown => BAD,
    };
    let state = mirror.state;
    let error = mirror.last_error.as_deref().map(|error| format!(": {}", to_line(error.as_bytes())));
    let error = error.unwrap_or_default();
    let Some(lag_ms) = mirror.lag_ms else {
        return format!("mirror   {style}{state}{style:#}{error}");
    };
    let host =
        mirror.host.as_deref().map(|host| format!(", {}", to_line(host.as_bytes()))).unwrap_or_default();
    let generation =
        mirror.generation.map(|generation| format!(", generation {generation}")).unwrap_or_default();
    format!(
        "mirror   {style}{state}{style:#}{error}, {} pending, lag {lag_ms} ms, {} failures, {} rejected{generation}{host}",
        mirror.pending, mirror.failures, mirror.rejected
    )
}

fn events(status: &StatusAnswer) -> Table {
    let mut table = Table::new(&[
        ("RECORDS", Align::Left),
        ("RECEIVED", Align::Right),
        ("LOST", Align::Right),
        ("RE-READ", Align::Right),
    ]);
    let of = |counts: &BTreeMap<String, u64>, kind: &str| counts.get(kind).copied().unwrap_or(0);
    let warn = |count: u64, style: Style| {
        Cell::new(count.to_string()).styled(if count == 0 { Style::new() } else { style })
    };
    for (kind, received) in &status.events_by_kind {
        table.push(vec![
            Cell::new(to_line(kind.as_bytes())),
            Cell::new(received.to_string()),
            warn(of(&status.drops_by_kind, kind), BAD),
            warn(of(&status.throttled_by_kind, kind), NOTICE),
        ]);
    }
    if status.undecodable > 0 {
        table.push(vec![Cell::new("undecodable"), warn(status.undecodable, BAD)]);
    }
    table
}

fn hooks(status: &StatusAnswer) -> Table {
    let mut table = Table::new(&[("FACT", Align::Left), ("FROM", Align::Left), ("", Align::Left)]);
    for hook in &status.hooks {
        table.push(vec![
            Cell::new(to_line(hook.fact.as_bytes())),
            Cell::new(to_line(hook.source.as_bytes())),
            Cell::new(to_line(hook.why.as_bytes())).styled(FAINT),
        ]);
    }
    table
}

//! `observer status`

use std::collections::BTreeMap;
use std::path::Path;

use anstyle::Style;
use anyhow::Context as _;
use clap::Args;
use unicode_width::UnicodeWidthStr as _;

use super::exit::Exit;
use super::term;
use crate::api::metrics;
use crate::api::status::{BlindSpotStatus, CanaryStatus, JournalStatus, MirrorStatus, StatusAnswer};
use crate::api::words::{CanaryState, JournalState, MirrorState};
use crate::socket::client::{Client, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::to_line;
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, Table, cut};
use crate::text::wrap::hanging;

/// Cells of the widest line.
const LINE_COLUMNS: usize = 100;
/// Cells before the text of a line that has a label.
const LABEL: usize = 9;
/// Cells of the longest name of a fact or a kind of record.
const NAME_COLUMNS: usize = 24;

/// Needs the daemon: exits 4 without one.
#[derive(Args)]
pub struct StatusArgs {
    /// JSON: an object (docs/json.md)
    #[arg(long)]
    json: bool,
    /// Metrics in Prometheus' text format (docs/metrics.md)
    #[arg(long, conflicts_with = "json")]
    metrics: bool,
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
        } else if self.metrics {
            term::print_text(&metrics::text(&status).context("write the metrics")?)?;
        } else {
            term::print_lines(render(&status, term::width_within(LINE_COLUMNS)))?;
        }
        Ok(if status.head.certain { Exit::Found } else { Exit::Unknown })
    }
}

/// The lines of `status`; none is wider than `width`, unless that is less than the table of records needs.
fn render(status: &StatusAnswer, width: usize) -> Vec<String> {
    let mut lines = vec![head(status)];
    lines.extend(counters(status).iter().flat_map(|(label, text)| hanging(label, LABEL, text, width)));
    lines.extend(canary(&status.canary, width));
    lines.extend(journal(&status.journal, width));
    lines.extend(mirror(&status.mirror, width));
    lines.push(String::new());
    lines.extend(events(status).lines(None));
    lines.push(String::new());
    lines.extend(hooks(status, width));
    lines.extend(status.blind_spots.iter().flat_map(|spot| blind_spot(spot, width)));
    lines
}

fn head(status: &StatusAnswer) -> String {
    let (word, style) = match status.canary.state {
        CanaryState::Missing => ("blind", BAD),
        _ if status.head.certain => ("certain", GOOD),
        _ => ("a gap is open", BAD),
    };
    let (version, uptime) = (name(&status.version), name(&status.uptime_text));
    let daemon = format!("observer {version}, pid {}, up {uptime}", status.pid);
    format!("{STRONG}{daemon}{STRONG:#}  {style}{word}{style:#}")
}

fn counters(status: &StatusAnswer) -> [(&'static str, String); 5] {
    let map = format!("{} processes, {} sessions", status.processes, status.sessions);
    let ring = format!(
        "{} KiB, {} bytes in use; memory {} KiB",
        status.ring_bytes / 1024,
        status.ring_used_bytes,
        status.rss_bytes / 1024
    );
    let healing = format!(
        "{} gaps, {} resyncs, {} drift, {} passes ({} failed, last {} µs)",
        status.gaps,
        status.resyncs,
        status.drift_total,
        status.passes.total,
        status.passes.failed,
        status.passes.last_us
    );
    let clients = format!(
        "{} connected, {} watching, {} refused, {} dropped, {} lagged",
        status.clients.connected,
        status.clients.watching,
        status.clients.refused,
        status.clients.dropped,
        status.clients.lagged
    );
    let config = match &status.config {
        Some(path) => to_line(path.as_bytes()).into_owned(),
        None => "the built-in rules; `observer run --config FILE` uses others".into(),
    };
    [("config", config), ("map", map), ("ring", ring), ("healing", healing), ("clients", clients)]
}

fn canary(canary: &CanaryStatus, width: usize) -> Vec<String> {
    let text = |text: &Option<String>| to_line(text.as_deref().unwrap_or_default().as_bytes()).into_owned();
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let mut line = match canary.state {
        CanaryState::Missing => format!("blind since {}", text(&canary.blind_since)),
        CanaryState::Ok => {
            let ms = seconds(canary.round_trip_us.unwrap_or_default());
            format!("came round in {ms:.1} ms at {}", text(&canary.last_at))
        }
        CanaryState::Awaited => "awaited".into(),
        CanaryState::Unproven => "unproven".into(),
        CanaryState::Unknown => "unknown".into(),
    };
    if let Some(error) = &canary.last_error {
        line.push_str(&format!(": {}", to_line(error.as_bytes())));
    }
    let (missed, watchdog) = (canary.missed, if canary.watchdog { "; restarted without it" } else { "" });
    let every = seconds(canary.interval_ms);
    line.push_str(&format!("; every {every} s, {} came round, {missed} missed{watchdog}", canary.came_round));
    let (word, style) = match canary.state {
        CanaryState::Missing => ("blind", BAD),
        CanaryState::Ok => ("came round", GOOD),
        CanaryState::Unproven => ("unproven", NOTICE),
        CanaryState::Awaited | CanaryState::Unknown => ("awaited", NOTICE),
    };
    painted(hanging("canary", LABEL, &line, width), word, style)
}

fn journal(journal: &JournalStatus, width: usize) -> Vec<String> {
    let style = if journal.state == JournalState::Ok { GOOD } else { BAD };
    let mut text = with_error(journal.state.as_str(), journal.last_error.as_deref());
    if let Some(path) = &journal.path {
        text.push_str(&format!(
            ", {} of {} MiB, entries {} to {}, {} waiting, {} dropped, {} expired, {}",
            journal.bytes >> 20,
            journal.limit_bytes >> 20,
            journal.oldest_seq,
            journal.last_seq,
            journal.queued,
            journal.dropped,
            journal.expired,
            to_line(path.as_bytes())
        ));
    }
    if journal.files_gone > 0 {
        text.push_str(&format!("; files deleted or replaced under the daemon: {}", journal.files_gone));
    }
    painted(hanging("journal", LABEL, &text, width), journal.state.as_str(), style)
}

fn mirror(mirror: &MirrorStatus, width: usize) -> Vec<String> {
    let style = match mirror.state {
        MirrorState::Ok => GOOD,
        MirrorState::Off if mirror.last_error.is_none() => FAINT,
        MirrorState::Connecting | MirrorState::CatchingUp | MirrorState::Waiting => NOTICE,
        MirrorState::Off | MirrorState::Retrying | MirrorState::Stopped | MirrorState::Unknown => BAD,
    };
    let mut text = with_error(mirror.state.as_str(), mirror.last_error.as_deref());
    if let Some(lag_ms) = mirror.lag_ms {
        text.push_str(&format!(
            ", {} pending, lag {lag_ms} ms, {} failures, {} rejected",
            mirror.pending, mirror.failures, mirror.rejected
        ));
        if let Some(generation) = mirror.generation {
            text.push_str(&format!(", fencing token {generation}"));
        }
        if let Some(host) = &mirror.host {
            text.push_str(&format!(", {}", to_line(host.as_bytes())));
        }
    }
    painted(hanging("mirror", LABEL, &text, width), mirror.state.as_str(), style)
}

fn with_error(state: &str, error: Option<&str>) -> String {
    error.map_or_else(|| state.into(), |error| format!("{state}: {}", to_line(error.as_bytes())))
}

/// `lines`, of which the first has `word` in this style.
fn painted(mut lines: Vec<String>, word: &str, style: Style) -> Vec<String> {
    if let Some(first) = lines.first_mut() {
        *first = first.replacen(word, &format!("{style}{word}{style:#}"), 1);
    }
    lines
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
            Cell::new(name(kind)),
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

/// A line for each hook, and below it why a better one is not used.
fn hooks(status: &StatusAnswer, width: usize) -> Vec<String> {
    let facts = status.hooks.iter().map(|hook| name(&hook.fact).width());
    let indent = facts.max().unwrap_or(0).max("FACT".len()) + 2;
    let mut lines = vec![format!("{STRONG}{:indent$}FROM{STRONG:#}", "FACT")];
    for hook in &status.hooks {
        lines.extend(hanging(&name(&hook.fact), indent, &to_line(hook.source.as_bytes()), width));
        if !hook.why.is_empty() {
            let why = hanging("", indent + 2, &to_line(hook.why.as_bytes()), width);
            lines.extend(why.iter().map(|line| format!("{FAINT}{line}{FAINT:#}")));
        }
    }
    lines
}

fn blind_spot(spot: &BlindSpotStatus, width: usize) -> Vec<String> {
    let text = format!("{}: {}", to_line(spot.fact.as_bytes()), to_line(spot.what.as_bytes()));
    painted(hanging("not seen", "not seen".len() + 2, &text, width), "not seen", NOTICE)
}

/// A name that the daemon chose, cut so that a table of a newer daemon fits too.
fn name(text: &str) -> String {
    cut(&to_line(text.as_bytes()), NAME_COLUMNS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::{HookStatus, PassCounts};

    const PATH: &str =
        "/srv/agents/a-directory-with-a-name-that-is-much-longer-than-most/and-another-one/journal.sqlite";
    const SOURCE: &str = "tracepoint/syscalls/sys_exit_{rename,renameat,renameat2,rmdir,unlinkat,mount,umount,\
                          move_mount,pivot_root,setns,unshare}";
    const WHY: &str = "d_move, d_exchange, d_delete, __detach_mounts, path_mount, path_umount, ksys_unshare, \
                       __x64_sys_move_mount, __ia32_sys_move_mount, chroot_fs_refs cannot be attached to \
                       (Operation not permitted (os error 1))";

    /// The status of a host on which everything is as long as it gets.
    fn long_status() -> StatusAnswer {
        let counts = || BTreeMap::from([("exec".into(), u64::MAX), ("k".repeat(200), u64::MAX)]);
        StatusAnswer {
            version: "v".repeat(200),
            pid: u32::MAX,
            uptime_text: "u".repeat(200),
            processes: u64::MAX,
            sessions: u64::MAX,
            ring_used_bytes: u64::MAX,
            gaps: u64::MAX,
            resyncs: u64::MAX,
            drift_total: u64::MAX,
            passes: PassCounts { total: u64::MAX, failed: u64::MAX, last_us: u64::MAX },
            events_by_kind: counts(),
            drops_by_kind: counts(),
            throttled_by_kind: counts(),
            hooks: vec![
                HookStatus { fact: "paths".into(), source: SOURCE.into(), why: WHY.into() },
                HookStatus { fact: "f\n".repeat(200), source: "s".repeat(300), why: "w".repeat(300) },
            ],
            blind_spots: vec![BlindSpotStatus { fact: "terminal".into(), what: WHY.into() }],
            canary: CanaryStatus {
                state: CanaryState::Missing,
                blind_since: Some("2026-11-29T17:00:00.000Z".into()),
                last_error: Some(WHY.into()),
                came_round: u64::MAX,
                missed: u64::MAX,
                interval_ms: 30_000,
                watchdog: true,
                ..CanaryStatus::default()
            },
            journal: JournalStatus {
                state: JournalState::Failing,
                last_error: Some(WHY.into()),
                path: Some(PATH.into()),
                last_seq: u64::MAX,
                ..JournalStatus::default()
            },
            mirror: MirrorStatus {
                state: MirrorState::Retrying,
                last_error: Some("e".repeat(300)),
                lag_ms: Some(u64::MAX),
                generation: Some(i64::MAX),
                host: Some("db.example:5432".into()),
                ..MirrorStatus::default()
            },
            ..StatusAnswer::default()
        }
    }

    fn plain(status: &StatusAnswer, width: usize) -> Vec<String> {
        let lines = render(status, width);
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn no_line_is_wider_than_100_columns_whatever_the_host_has() {
        for line in plain(&long_status(), LINE_COLUMNS) {
            assert!(line.width() <= LINE_COLUMNS, "{} columns: {line}", line.width());
        }
    }

    #[test]
    fn what_is_wrapped_is_whole() {
        let lines = plain(&long_status(), LINE_COLUMNS);
        let numbers = lines.iter().flat_map(|line| line.split([' ', ',', '('])).filter(|word| {
            [u64::MAX.to_string(), u32::MAX.to_string(), i64::MAX.to_string()].iter().any(|it| it == word)
        });
        assert_eq!(numbers.count(), 21, "{lines:#?}");
        let text = lines.concat().replace(' ', "");
        for part in [PATH, SOURCE, WHY, "db.example:5432"] {
            assert!(text.contains(&part.replace(' ', "")), "{part}: {lines:#?}");
        }
    }

    #[test]
    fn a_canary_that_came_round_has_its_time_and_one_that_is_missing_what_to_do() {
        let mut status = StatusAnswer::default();
        status.head.certain = true;
        status.canary = CanaryStatus {
            state: CanaryState::Ok,
            round_trip_us: Some(3_240),
            last_at: Some("2026-11-29T17:00:00.000Z".into()),
            came_round: 12,
            interval_ms: 30_000,
            ..CanaryStatus::default()
        };
        let lines = plain(&status, LINE_COLUMNS);
        let expected =
            "canary   came round in 3.2 ms at 2026-11-29T17:00:00.000Z; every 30 s, 12 came round, 0 missed";
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
        status.canary.state = CanaryState::Missing;
        status.canary.blind_since = status.canary.last_at.clone();
        status.canary.last_error = Some("nothing came; restart it".into());
        let lines = plain(&status, LINE_COLUMNS);
        assert!(lines[0].ends_with("  blind"), "{lines:#?}");
        let expected = "canary   blind since 2026-11-29T17:00:00.000Z: nothing came; restart it; every 30 s";
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{lines:#?}");
    }

    #[test]
    fn a_reason_is_indented_below_its_hook() {
        let hook = |fact: &str, source: &str, why: &str| HookStatus {
            fact: fact.into(),
            source: source.into(),
            why: why.into(),
        };
        let hooks = vec![
            hook("birth", "tp_btf/sched_process_fork", ""),
            hook("cwd", "tracepoint/syscalls/sys_exit_{chdir,fchdir}", "set_fs_pwd cannot be attached to"),
        ];
        let status = StatusAnswer { hooks, ..StatusAnswer::default() };
        let lines = plain(&status, 49);
        let begin = lines.iter().position(|line| line.starts_with("FACT")).unwrap();
        let expected = [
            "FACT   FROM",
            "birth  tp_btf/sched_process_fork",
            "cwd    tracepoint/syscalls/sys_exit_{chdir,",
            "       fchdir}",
            "         set_fs_pwd cannot be attached to",
        ];
        assert_eq!(lines[begin..], expected);
    }
}

//! The lines of the pane of `observer top`: the details of a session, or the keys.

use super::event::{Details, Scope};
use super::help::help;
use super::rows::{Tone, TopColumn, TopRow, percent, shown};
use crate::api::session::SessionJson;
use crate::cli::history::shown::local_time;
use crate::text::bytes::to_line;
use crate::text::size::size;
use crate::text::time::{span, unix_ns};
use crate::text::wrap::{hanging, wrap};

/// Cells before what a key does.
const KEY_CELLS: usize = 10;

/// A line, as parts with their tones.
pub(super) type PaneLine = Vec<(String, Tone)>;

/// What the keys do, in lines of this width.
pub(super) fn help_lines(scope: Scope, width: usize) -> Vec<PaneLine> {
    let keys = help(scope);
    let lines = keys.iter().flat_map(|(keys, words)| hanging(keys, KEY_CELLS, words, width.max(1)));
    lines.map(|line| vec![(line, Tone::Plain)]).collect()
}

/// What is known of the session of `row`, in lines of this width. Lines of the tree are longer where it is deep.
pub(super) fn details_lines(
    row: &TopRow,
    details: Option<&Details>,
    now_ns: i128,
    is_host_away: bool,
    width: usize,
) -> Vec<PaneLine> {
    let mut lines = Vec::new();
    let mut say = |text: String, tone: Tone| {
        lines.extend(wrap(&text, width.max(1)).into_iter().map(|line| vec![(line, tone)]));
    };
    let session = &row.seen.session;
    let host = if row.seen.host.is_empty() { String::new() } else { format!(" on {}", row.host()) };
    let (name, program) = (shown(&session.name), shown(session.primary.shown_program()));
    say(
        format!("{name}{host}  {program}  pid {}  {}", session.primary.pid, shown(&session.home)),
        Tone::Strong,
    );
    let (state, tone) = row.state(is_host_away);
    let up = row.up_s(now_ns).map(|s| format!(", up {}", span(s))).unwrap_or_default();
    let user = details.map_or_else(|| session.primary.uid.to_string(), |details| details.user.clone());
    let starts = match session.starts.len() {
        1 => "1 start".to_owned(),
        _ => format!("{} starts", session.starts_counted()),
    };
    let since = moment(&session.since);
    say(format!("{state} since {since}{up}, {starts}, user {}", to_line(user.as_bytes())), tone);
    say(terminal(session), Tone::Plain);
    if let Some(words) = cost(row) {
        say(words, Tone::Plain);
    }
    if let Some(death) = &row.death {
        let (ago, _) = row.cell(TopColumn::Death, now_ns, false);
        say(format!("last death at {}, {ago}", moment(&death.at)), Tone::Plain);
    }
    say(format!("key {}", to_line(session.primary.key.as_bytes())), Tone::Faint);
    for other in &session.others {
        let tty = other.tty.as_ref().map(|tty| format!("  {}", shown(tty))).unwrap_or_default();
        say(format!("also in this home: {}  {}{tty}", other.pid, shown(&other.program)), Tone::Plain);
    }
    lines.extend(answered(details, width));
    lines
}

/// Processes and events.
fn answered(details: Option<&Details>, width: usize) -> Vec<PaneLine> {
    let title = |text: &str| vec![(text.to_owned(), Tone::Strong)];
    let plain = |text: &str, tone| wrap(text, width.max(1)).into_iter().map(move |line| vec![(line, tone)]);
    let Some(details) = details else { return vec![vec![("asking …".into(), Tone::Faint)]] };
    let mut lines = vec![title("PROCESSES")];
    match &details.processes {
        Ok(processes) => lines.extend(processes.iter().map(|line| vec![(line.clone(), Tone::Plain)])),
        Err(why) => lines.extend(plain(why, Tone::Faint)),
    }
    lines.push(title("LAST EVENTS"));
    match &details.events {
        Ok(events) if events.is_empty() => lines.extend(plain("none", Tone::Faint)),
        Ok(events) => lines.extend(events.iter().map(|event| {
            let tone = if event.is_bad { Tone::Bad } else { Tone::Notice };
            vec![
                (format!("{}  ", event.when), Tone::Faint),
                (format!("{:<9}", event.event), tone),
                (event.how.clone(), Tone::Plain),
            ]
        })),
        Err(why) => lines.extend(plain(why, Tone::Faint)),
    }
    lines
}

fn terminal(session: &SessionJson<'_>) -> String {
    let primary = &session.primary;
    let tty =
        primary.tty.as_ref().map_or_else(|| "no terminal".into(), |tty| format!("terminal {}", shown(tty)));
    let pane = match (&primary.mux, &primary.pane, &primary.mux_socket) {
        (Some(mux), Some(pane), Some(socket)) => {
            format!(", pane {} of {} {}", shown(pane), to_line(mux.as_bytes()), shown(socket))
        }
        _ if primary.pane_stale => ", its pane is stale".into(),
        _ => String::new(),
    };
    let cwd = primary.cwd.as_ref().filter(|cwd| **cwd != session.home);
    let cwd = cwd.map(|cwd| format!(", in {}", shown(cwd))).unwrap_or_default();
    format!("{tty}{pane}{cwd}")
}

fn cost(row: &TopRow) -> Option<String> {
    let cost = row.cost()?;
    let cpu_ms = row.cpu_ms()?;
    let now = row.cpu_permille.map(|permille| format!("{} now, ", percent(permille))).unwrap_or_default();
    let total = if cpu_ms < 60_000 {
        format!("{}.{:02}s", cpu_ms / 1000, cpu_ms % 1000 / 10)
    } else {
        span(cpu_ms / 1000)
    };
    let memory = cost.max_rss_bytes.map(|bytes| format!(", at most {} in one process", size(bytes)));
    let born =
        cost.processes.map(|born| format!(", {} born in it", counted(born.into(), "process", "processes")));
    Some(format!("CPU {now}{total} in all{}{}", memory.unwrap_or_default(), born.unwrap_or_default()))
}

/// Date and time in this machine's time zone, as last events have them.
fn moment(rfc3339: &str) -> String {
    match unix_ns(rfc3339) {
        Some(at) => local_time(at).get(..19).unwrap_or_default().into(),
        None => to_line(rfc3339.as_bytes()).into_owned(),
    }
}

fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

//! Lifetimes from entries of history: when sessions lived, how their primaries ended, and which times are not known.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scale::Window;
use crate::api::death::DeathJson;
use crate::api::restarts::{DeathCountsJson, RestartsJson};
use crate::api::words::{DeathCause, EntryKind, SessionEndReason};
use crate::text::bytes::to_one_line;
use crate::text::time::unix_ns;

/// Rows that are kept. Of more sessions, those are left out that had an entry last.
const ROWS_MAX: usize = 2_048;
/// The times of a row and those that are not known are kept with the resolution of so many parts of the window.
const PARTS: u32 = 4_096;

/// What a row is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    /// Name of the host, escaped; empty where there is one only.
    pub(super) host: String,
    /// Id of the host, which another host of that name has not; empty where there is one only.
    pub(super) host_id: String,
    /// Raw path of the home.
    pub(super) home: Vec<u8>,
    pub(super) mnt_ns: Option<u32>,
    pub(super) uid: u32,
    pub(super) instance: u32,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndMark {
    /// The session ended and its process did not, such as when it moved.
    Other,
    ExitZero,
    Unobserved,
    ExitOther,
    Signal,
    Oom,
}

impl EndMark {
    /// All, in the order of the legend.
    pub(super) const ALL: [Self; 6] =
        [Self::ExitZero, Self::ExitOther, Self::Signal, Self::Oom, Self::Unobserved, Self::Other];

    /// What it means.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Other => "ended, process lives",
            Self::ExitZero => "exit 0",
            Self::Unobserved => "death unobserved",
            Self::ExitOther => "exit other than 0",
            Self::Signal => "signal",
            Self::Oom => "lack of memory",
        }
    }

    fn of(death: &DeathJson<'_>) -> Self {
        match (death.kind, death.code) {
            (DeathCause::Exited, Some(0)) => Self::ExitZero,
            (DeathCause::Exited, _) => Self::ExitOther,
            (DeathCause::Signaled, _) => Self::Signal,
            (DeathCause::OomKilled, _) => Self::Oom,
            (DeathCause::Unobserved | DeathCause::Unknown, _) => Self::Unobserved,
        }
    }
}

/// A time in which a session lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) from_ns: i64,
    /// `None`: it lives.
    pub(super) to_ns: Option<i64>,
}

/// Ends in one part of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// When the last of them was.
    pub(super) at_ns: i64,
    /// The gravest of them.
    pub(super) end: EndMark,
    pub(super) count: u64,
    /// The last of them, as one harmless line.
    pub(super) cause: String,
}

/// A time of which something is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
}

/// The life of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LifeRow {
    /// Raw name.
    pub(super) name: Vec<u8>,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<Mark>,
    /// Times in which it ended, at a moment that nobody saw.
    pub(super) unseen: Vec<Span>,
}

/// An entry of history.
pub(super) struct PastEntry<'a> {
    /// `None`: it is a gap.
    pub(super) key: Option<RowKey>,
    /// Id of the host; empty where there is one only.
    pub(super) host_id: String,
    /// Raw name of the session.
    pub(super) name: Vec<u8>,
    pub(super) at_ns: i64,
    pub(super) kind: EntryKind,
    pub(super) pid: Option<u32>,
    /// Its JSON.
    pub(super) detail: &'a str,
}

/// The lives of sessions in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lives {
    pub(super) window: Window,
    pub(super) rows: BTreeMap<RowKey, LifeRow>,
    /// Times of which not everything is known, by the host's id.
    pub(super) gaps: BTreeMap<String, Vec<Span>>,
    /// Entries of sessions that have no row.
    pub(super) left_out: u64,
}

/// The fields of an entry that say how long something lived.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LifeFields<'a> {
    started_at: String,
    death: Option<DeathJson<'a>>,
    end_reason: Option<SessionEndReason>,
    restarts: Option<RestartsJson<'a>>,
    from: Option<String>,
    to: Option<String>,
}

impl LifeFields<'_> {
    /// The earliest moment of which the entry says something.
    fn began_ns(&self, entry: &PastEntry<'_>) -> i64 {
        let began = match (&entry.kind, &self.restarts) {
            (EntryKind::ProcessEnded, _) => None,
            (_, Some(restarts)) => unix_ns(&restarts.first),
            (EntryKind::SessionStarted, None) => None,
            (_, None) => unix_ns(&self.started_at),
        };
        began.unwrap_or(entry.at_ns).min(entry.at_ns)
    }
}

impl Lives {
    /// No lives yet, in this window.
    pub(super) fn new(window: Window) -> Self {
        Self { window, rows: BTreeMap::new(), gaps: BTreeMap::new(), left_out: 0 }
    }

    /// Takes the next entry; of one host they come in the order of time. Those after the window say what lived in it.
    pub(super) fn take(&mut self, entry: PastEntry<'_>) {
        // Another version may have written it, or anybody.
        let fields: LifeFields<'_> = serde_json::from_str(entry.detail).unwrap_or_default();
        let window = self.window;
        if entry.key.is_some() && fields.began_ns(&entry) >= window.until_ns {
            return;
        }
        match (&entry.key, &entry.kind) {
            (_, EntryKind::Gap | EntryKind::GapClosed) => {
                let moment = |at: &Option<String>| at.as_deref().and_then(unix_ns);
                let to = moment(&fields.to).unwrap_or(entry.at_ns);
                // Without a beginning it is a moment.
                self.gap(entry.host_id, moment(&fields.from).unwrap_or(to), to);
            }
            (Some(_), EntryKind::SessionStarted) => {
                let Some(row) = self.row(entry.key, entry.name) else { return };
                if let Some(restarts) = &fields.restarts {
                    row.restarted(window, restarts);
                }
                row.begin(window, entry.at_ns);
            }
            (Some(_), EntryKind::SessionChanged) => {
                let Some(row) = self.row(entry.key, entry.name) else { return };
                row.begin(window, unix_ns(&fields.started_at).unwrap_or(entry.at_ns).min(entry.at_ns));
            }
            (Some(_), EntryKind::SessionEnded) => {
                let (at_ns, pid) = (entry.at_ns, entry.pid);
                let began_ns = fields.began_ns(&entry);
                let Some(row) = self.row(entry.key, entry.name) else { return };
                row.begin(window, began_ns);
                row.ended(window, at_ns, pid, &fields);
            }
            (Some(_), EntryKind::ProcessEnded) => {
                let (at_ns, pid) = (entry.at_ns, entry.pid);
                let Some(row) = self.row(entry.key, entry.name) else { return };
                row.mark(window, at_ns, &fields, pid);
            }
            _ => {}
        }
    }

    /// A session that lives, of which there may be no entry in the window.
    pub(super) fn lives(&mut self, key: RowKey, name: Vec<u8>, detail: &str) {
        let fields: LifeFields<'_> = serde_json::from_str(detail).unwrap_or_default();
        let window = self.window;
        let Some(from) = unix_ns(&fields.started_at).filter(|&from| from < window.until_ns) else { return };
        if let Some(row) = self.row(Some(key), name)
            && row.bars.is_empty()
        {
            row.begin(window, from);
        }
    }

    /// A time of which not everything is known on a host.
    pub(super) fn gap(&mut self, host_id: String, from_ns: i64, to_ns: i64) {
        let Some((from_ns, to_ns)) = self.window.clip(from_ns, to_ns) else { return };
        push_span(self.gaps.entry(host_id).or_default(), self.window, Span { from_ns, to_ns });
    }

    fn row(&mut self, key: Option<RowKey>, name: Vec<u8>) -> Option<&mut LifeRow> {
        let key = key?;
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        let row = self.rows.entry(key).or_default();
        row.name = name;
        Some(row)
    }
}

/// Adds a span to others in the order of time; those of one part of the window become one.
fn push_span(spans: &mut Vec<Span>, window: Window, span: Span) {
    match spans.last_mut() {
        Some(last) if window.part(last.to_ns, PARTS) >= window.part(span.from_ns, PARTS) => {
            last.from_ns = last.from_ns.min(span.from_ns);
            last.to_ns = last.to_ns.max(span.to_ns);
        }
        _ => spans.push(span),
    }
}

impl LifeRow {
    /// It lives from `at_ns` on, unless it did before.
    fn begin(&mut self, window: Window, at_ns: i64) {
        let from_ns = at_ns.max(window.since_ns);
        match self.bars.last_mut() {
            Some(Bar { to_ns: None, .. }) => {}
            // The pause is too short to be drawn; the marks count how many there were.
            Some(Bar { to_ns, .. })
                if to_ns.is_some_and(|to| window.part(to, PARTS) >= window.part(from_ns, PARTS)) =>
            {
                *to_ns = None;
            }
            _ => self.bars.push(Bar { from_ns, to_ns: None }),
        }
    }

    /// It ended at `at_ns`.
    fn ended(&mut self, window: Window, at_ns: i64, pid: Option<u32>, fields: &LifeFields<'_>) {
        let between = fields.death.as_ref().and_then(|death| death.between.as_ref());
        let between = between.and_then(|[from, to]| Some((unix_ns(from)?, unix_ns(to)?)));
        let last_seen = between.map_or(at_ns, |(from, _)| from);
        // It lived at these starts, and ended after them.
        if let Some(restarts) = &fields.restarts {
            self.restarted(window, restarts);
        }
        if let Some(bar) = self.bars.last_mut() {
            bar.to_ns = Some(last_seen.clamp(bar.from_ns, window.until_ns.max(bar.from_ns)));
        }
        if let Some((from_ns, to_ns)) = between.and_then(|(from, to)| window.clip(from, to)) {
            push_span(&mut self.unseen, window, Span { from_ns, to_ns });
        }
        if fields.restarts.is_none() {
            self.mark(window, at_ns, fields, pid);
        }
    }

    /// Marks the end that an entry has.
    fn mark(&mut self, window: Window, at_ns: i64, fields: &LifeFields<'_>, pid: Option<u32>) {
        let end = fields.death.as_ref().map_or(EndMark::Other, EndMark::of);
        let words = fields.death.as_ref().map(|death| death.describe_in_full(pid));
        let cause = DeathJson::describe_end(words, fields.end_reason);
        self.push_mark(window, Mark { at_ns, end, count: 1, cause: to_one_line(&cause).into_owned() });
    }

    /// Starts that are counted together, with their deaths.
    fn restarted(&mut self, window: Window, restarts: &RestartsJson<'_>) {
        let Some(from_ns) = unix_ns(&restarts.first) else { return };
        let at_ns = unix_ns(&restarts.last).unwrap_or(from_ns);
        self.begin(window, from_ns);
        let DeathCountsJson { exited, signaled, oom_killed, unobserved } = restarts.deaths;
        let last = restarts.last_death.as_ref().map(EndMark::of);
        let of_exit = last.filter(|end| [EndMark::ExitZero, EndMark::ExitOther].contains(end));
        let counted = [
            (of_exit.unwrap_or(EndMark::ExitOther), exited),
            (EndMark::Signal, signaled),
            (EndMark::Oom, oom_killed),
            (EndMark::Unobserved, unobserved),
        ];
        let cause = to_one_line(&restarts.describe()).into_owned();
        for (end, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
            self.push_mark(window, Mark { at_ns, end, count, cause: cause.clone() });
        }
    }

    fn push_mark(&mut self, window: Window, mark: Mark) {
        if !window.has(mark.at_ns) {
            return;
        }
        match self.marks.last_mut() {
            Some(last) if window.part(last.at_ns, PARTS) == window.part(mark.at_ns, PARTS) => {
                last.end = last.end.max(mark.end);
                last.count = last.count.saturating_add(mark.count);
                // The time is that of the end that is in words.
                (last.cause, last.at_ns) = (mark.cause, mark.at_ns);
            }
            _ => self.marks.push(mark),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

//! An entry of history, as the line that a person sees.

use anstyle::Style;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::api::changed::Changed;
use crate::api::death::DeathJson;
use crate::api::entry::MissingEntries;
use crate::api::left::LeftJson;
use crate::api::restarts::RestartsJson;
use crate::api::words::{DeathCause, EntryKind, GapReason, SessionEndReason, SessionState};
use crate::cli::changes::describe;
use crate::text::bytes::{Text, to_line, to_one_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell};
use crate::text::time::unix_ns;

/// Cells of the column HOW that the words about a change take.
const CHANGE_CELLS: usize = 60;
/// Columns of [`Shown::row`].
pub const COLUMNS: [(&str, Align); 7] = [
    ("WHEN", Align::Left),
    ("EVENT", Align::Left),
    ("NAME", Align::Left),
    ("PID", Align::Right),
    ("PROGRAM", Align::Left),
    ("HOW", Align::Left),
    ("HOME", Align::Left),
];

/// How history is printed.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// As JSON, an object a line.
    pub json: bool,
    /// Only sessions that a signal or the lack of memory ended.
    pub forced: bool,
    /// Cells of the terminal's line; `None`: lines are not cut.
    pub width: Option<usize>,
}

/// The columns of an entry that a person sees.
pub struct EntryLine<'a> {
    /// When it happened, ns since 1970.
    pub at_unix_ns: i64,
    /// What the entry records.
    pub kind: EntryKind,
    /// Raw path of the home; empty for gaps.
    pub home: &'a [u8],
    /// Raw name; empty for gaps.
    pub name: &'a [u8],
    /// tgid of the process.
    pub pid: Option<u32>,
}

/// The fields of an entry's JSON that a person sees.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Shown<'a> {
    pub(super) comm: Text<'a>,
    pub(super) program: Option<Text<'a>>,
    state: SessionState,
    roots: u32,
    changed: Option<Changed<'a>>,
    pub(super) restarts: Option<RestartsJson<'a>>,
    pub(super) death: Option<DeathJson<'a>>,
    pub(super) left: Option<LeftJson>,
    death_kind: Option<DeathCause>,
    end_reason: Option<SessionEndReason>,
    found_at: Option<String>,
    lost: u64,
    corrected: u64,
    #[serde(flatten)]
    missing: MissingEntries,
}

impl Shown<'_> {
    /// Whether a signal or the lack of memory ended the session, or one of its starts that are counted together; also of what
    /// such a session left.
    pub fn is_forced_end(&self) -> bool {
        let kind = self.death.as_ref().map(|death| death.kind).or(self.death_kind);
        matches!(kind, Some(DeathCause::Signaled | DeathCause::OomKilled))
            || self
                .restarts
                .as_ref()
                .is_some_and(|restarts| restarts.deaths.signaled > 0 || restarts.deaths.oom_killed > 0)
    }

    /// An entry that says that bounds removed `count` entries.
    pub fn removal(count: u64) -> Self {
        let reason = GapReason::RetentionSize;
        let missing = MissingEntries { count: Some(count), reason, ..MissingEntries::default() };
        Self { missing, ..Self::default() }
    }

    /// How many entries a bound removed, if that is what the entry says.
    pub fn removed(&self) -> Option<u64> {
        let is_removal = matches!(self.missing.reason, GapReason::RetentionSize | GapReason::RetentionAge);
        self.missing.count.filter(|_| is_removal)
    }

    /// Cells of the entry's line, in the order of [`COLUMNS`].
    pub fn row(&self, line: &EntryLine<'_>) -> Vec<Cell> {
        let (event, style, how) = self.event(&line.kind, line.pid);
        let text = |bytes: &[u8]| to_line(bytes).into_owned();
        vec![
            Cell::new(local_time(line.at_unix_ns)).styled(FAINT),
            Cell::new(text(event.as_bytes())).styled(style),
            Cell::new(text(line.name)).styled(STRONG),
            Cell::new(line.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            Cell::new(text(self.program.as_ref().unwrap_or(&self.comm).as_bytes())),
            Cell::new(to_one_line(&how)).styled(if style == BAD { BAD } else { Style::new() }),
            Cell::new(text(line.home)),
        ]
    }

    /// The word for an entry of this kind, and the explanation.
    pub fn words<'k>(&self, kind: &'k EntryKind, pid: Option<u32>) -> (&'k str, String) {
        let (event, _, how) = self.event(kind, pid);
        (event, how)
    }

    /// The word, the style and the explanation of an entry of this kind.
    fn event<'k>(&self, kind: &'k EntryKind, pid: Option<u32>) -> (&'k str, Style, String) {
        match kind {
            EntryKind::SessionStarted | EntryKind::SessionEnded if let Some(restarts) = &self.restarts => {
                ("restarts", BAD, restarts.describe())
            }
            EntryKind::SessionStarted if self.found_at.is_some() => ("started", GOOD, "found later".into()),
            EntryKind::SessionStarted => ("started", GOOD, String::new()),
            EntryKind::SessionChanged if self.state == SessionState::Live => {
                ("changed", NOTICE, self.change())
            }
            EntryKind::SessionChanged => (self.state.as_str(), NOTICE, self.change()),
            EntryKind::SessionEnded => ("ended", BAD, self.end(pid)),
            EntryKind::ProcessEnded => {
                ("died", BAD, format!("{}; another stands for the home", self.end(pid)))
            }
            EntryKind::SessionLeft => ("leftover", NOTICE, self.what_is_left()),
            EntryKind::GapOpened => ("gap", BAD, "events were lost; the kernel was read again".into()),
            EntryKind::GapClosed => {
                ("healed", NOTICE, format!("{} events lost, {} corrections", self.lost, self.corrected))
            }
            EntryKind::Gap => ("missing", BAD, self.missing()),
            EntryKind::Other(word) => (word, FAINT, String::new()),
        }
    }

    /// What changed, and how many other roots there are.
    fn change(&self) -> String {
        let words = self.changed.as_ref().map(|changed| describe(changed, CHANGE_CELLS)).unwrap_or_default();
        if self.state != SessionState::Live || self.roots <= 1 {
            return words;
        }
        let comma = if words.is_empty() { "" } else { ", " };
        format!("{words}{comma}+{} more", self.roots - 1)
    }

    /// What the session left.
    pub(super) fn what_is_left(&self) -> String {
        self.left.as_ref().and_then(LeftJson::describe).unwrap_or_default()
    }

    fn end(&self, pid: Option<u32>) -> String {
        let death = self.death.as_ref().map(|death| death.describe_in_full(pid));
        DeathJson::describe_end(death, self.end_reason)
    }

    /// Explains why entries are missing.
    fn missing(&self) -> String {
        let missing = &self.missing;
        let count = missing.count.map(|count| count.to_string()).unwrap_or_default();
        let message = missing.message.as_deref();
        match missing.reason {
            GapReason::RetentionSize | GapReason::RetentionAge => {
                format!("{count} older entries were removed")
            }
            GapReason::NotRunning => {
                let from = missing.from.as_deref().and_then(unix_ns).map(local_time).unwrap_or_default();
                format!("{} from {from}", message.unwrap_or("observer did not run"))
            }
            reason @ (GapReason::QueueFull
            | GapReason::DiskFull
            | GapReason::WriteFailed
            | GapReason::TooLarge
            | GapReason::Rejected) => format!("{count} entries lost: {reason}"),
            reason @ (GapReason::Corrupt
            | GapReason::NewerSchema
            | GapReason::OlderSchema
            | GapReason::Restored
            | GapReason::Lost
            | GapReason::MirrorAhead) => {
                let lost = if count.is_empty() { count } else { format!(" ({count} entries in no mirror)") };
                format!("a new journal begins: {reason}: {}{lost}", message.unwrap_or_default())
            }
            GapReason::Unknown => {
                format!(
                    "{count} entries are missing: {}",
                    message.unwrap_or("another version of observer says why")
                )
            }
        }
    }
}

/// Date and time in this machine's time zone.
pub fn local_time(unix_ns: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => "?".into(),
    }
}

//! A session as a row of `observer top`: what its columns show, and the order of rows.

use std::cmp::Ordering;

use super::event::{LastDeath, RowId, Scope, SeenSession};
use crate::api::cost::CostJson;
use crate::api::death::DeathJson;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;
use crate::text::bytes::{Text, from_json, to_line, to_one_line};
use crate::text::size::size;
use crate::text::time::{age_s, span};

/// The kernel keeps the times of a terminal with a resolution of 8 s: within twice that, output may be of now.
const RECENT_OUTPUT_S: u64 = 16;
/// CPU use from which a session counts as busy, tenths of a percent of one CPU.
const BUSY_PERMILLE: u64 = 50;

/// How much attention a text deserves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Notice,
    Bad,
    Faint,
    Strong,
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopColumn {
    Host,
    Name,
    State,
    Up,
    Starts,
    Cpu,
    Memory,
    Quiet,
    Death,
    Program,
    Home,
}

/// Whether a session does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SessionActivity {
    Busy,
    /// Its terminal had no input and no output for so long, s.
    Quiet(u64),
    Unknown,
}

/// A session with what is known of it beside its JSON.
#[derive(Clone, Debug, Default)]
pub(super) struct TopRow {
    pub(super) seen: SeenSession,
    /// CPU use between the last two answers, tenths of a percent of one CPU.
    pub(super) cpu_permille: Option<u64>,
    /// How a primary ended last.
    pub(super) death: Option<LastDeath>,
    /// When a frame changed it last, boot time in ns.
    pub(super) changed_at_ns: u64,
    /// When its cost was read, boot time in ns; 0: never.
    cost_at_ns: u64,
}

impl TopColumn {
    /// Its header.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Host => "HOST",
            Self::Name => "NAME",
            Self::State => "STATE",
            Self::Up => "UP",
            Self::Starts => "STARTS",
            Self::Cpu => "CPU",
            Self::Memory => "MEMORY",
            Self::Quiet => "QUIET",
            Self::Death => "LAST DEATH",
            Self::Program => "PROGRAM",
            Self::Home => "HOME",
        }
    }
}

impl LastDeath {
    /// The end of `session`, if it has ended.
    pub(super) fn of(session: &SessionJson<'_>) -> Option<Self> {
        let death = session.session_death.as_ref();
        let words = death.map(|death| death.describe_in_full(Some(session.primary.pid)));
        let cause = DeathJson::describe_end(words, session.end_reason);
        let at = death.map_or(&session.since, |death| &death.at);
        (session.state == SessionState::Ended && !cause.is_empty())
            .then(|| Self { at: at.clone(), cause: to_one_line(&cause).into_owned() })
    }
}

impl TopRow {
    /// A row of a session whose former primary ended so.
    pub(super) fn new(death: Option<LastDeath>) -> Self {
        Self { death, ..Self::default() }
    }

    /// A row of `seen`, which was read at `at_ns`. `before`: its row until then.
    pub(super) fn listed(seen: SeenSession, at_ns: u64, before: Option<Self>) -> Self {
        let death = LastDeath::of(&seen.session);
        let Some(before) = before else {
            return Self { seen, death, cost_at_ns: at_ns, ..Self::default() };
        };
        let mut row = Self {
            cpu_permille: cpu_use(&before, &seen.session, at_ns),
            death: death.or(before.death),
            changed_at_ns: before.changed_at_ns,
            cost_at_ns: at_ns,
            seen,
        };
        // A frame that came in between is newer than the answer.
        if before.changed_at_ns > at_ns && before.seen.session.primary.key == row.seen.session.primary.key {
            let read = std::mem::replace(&mut row.seen, before.seen).session;
            row.seen.session.cost = read.cost;
            row.seen.session.tty_input_at = read.tty_input_at;
            row.seen.session.tty_output_at = read.tty_output_at;
        }
        row
    }

    /// Returns the row after a frame: the session is as in `seen` since `at_ns`. Fields that only answers have stay.
    pub(super) fn changed(&mut self, mut seen: SeenSession, at_ns: u64) {
        let before = &self.seen.session;
        if before.primary.key == seen.session.primary.key && !seen.has_ended() {
            seen.session.cost = before.cost;
            seen.session.tty_input_at.clone_from(&before.tty_input_at);
            seen.session.tty_output_at.clone_from(&before.tty_output_at);
        } else {
            self.cpu_permille = None;
            self.cost_at_ns = 0;
        }
        self.death = LastDeath::of(&seen.session).or_else(|| self.death.take());
        self.changed_at_ns = at_ns;
        self.seen = seen;
    }

    pub(super) fn id(&self) -> RowId {
        self.seen.id()
    }

    /// Whether it is the session with this identity.
    pub(super) fn is(&self, id: &RowId) -> bool {
        let SeenSession { host_id, session, .. } = &self.seen;
        session.home.as_bytes() == id.home
            && *host_id == id.host_id
            && (session.home_mnt_ns, session.primary.uid, session.instance)
                == (id.mnt_ns, id.uid, id.instance)
    }

    /// The order of rows that are equal in the column by which they are sorted.
    fn names(&self) -> (&[u8], &str, &[u8], u32, u32, Option<u32>) {
        let SeenSession { host, session, .. } = &self.seen;
        let SessionJson { name, home, instance, home_mnt_ns, primary, .. } = session;
        (name.as_bytes(), host, home.as_bytes(), primary.uid, *instance, *home_mnt_ns)
    }

    /// Name, home, program and host, in lower case: what a filter is looked for in.
    pub(super) fn searched(&self) -> String {
        let session = &self.seen.session;
        let texts = [&session.name, &session.home, session.primary.shown_program()];
        let words = texts.map(shown).join("\n");
        format!("{words}\n{}", self.host()).to_lowercase()
    }

    pub(super) fn host(&self) -> String {
        to_line(&from_json(&self.seen.host)).into_owned()
    }

    /// CPU time of the session, ms.
    pub(super) fn cpu_ms(&self) -> Option<u64> {
        self.cost().map(cpu_ms)
    }

    /// What it used until now, or until its end.
    pub(super) fn cost(&self) -> Option<&CostJson> {
        let of_death = || self.seen.session.session_death.as_ref().and_then(|death| death.cost.as_ref());
        self.seen.session.cost.as_ref().or_else(of_death)
    }

    /// How long the primary runs, or ran, s.
    pub(super) fn up_s(&self, now_ns: i128) -> Option<u64> {
        let session = &self.seen.session;
        match (&session.session_death, session.state) {
            (Some(death), _) => death.lifetime_ms.map(|ms| ms / 1000),
            (None, SessionState::Ended) => None,
            (None, _) => Some(age_s(&session.primary.started_at, now_ns)),
        }
    }

    /// Whether it does something.
    pub(super) fn activity(&self, now_ns: i128) -> SessionActivity {
        let session = &self.seen.session;
        if session.state == SessionState::Ended {
            return SessionActivity::Unknown;
        }
        let age = |at: &Option<String>| at.as_ref().map(|at| age_s(at, now_ns));
        let output = age(&session.tty_output_at);
        let is_busy = self.cpu_permille.is_some_and(|permille| permille >= BUSY_PERMILLE)
            || output.is_some_and(|age| age < RECENT_OUTPUT_S);
        let quiet = || [output, age(&session.tty_input_at)].into_iter().flatten().min();
        if is_busy {
            SessionActivity::Busy
        } else {
            quiet().map_or(SessionActivity::Unknown, SessionActivity::Quiet)
        }
    }

    /// The state in words. `is_host_away`: nobody can say.
    pub(super) fn state(&self, is_host_away: bool) -> (String, Tone) {
        let session = &self.seen.session;
        let others = match session.roots {
            0 | 1 => String::new(),
            roots => format!(" +{}", roots - 1),
        };
        match session.state {
            SessionState::Ended => ("ended".into(), Tone::Faint),
            SessionState::Unknown => ("unknown".into(), Tone::Faint),
            _ if is_host_away => ("unknown".into(), Tone::Faint),
            _ if session.primary.stopped => (format!("stopped{others}"), Tone::Notice),
            _ if session.foreign == Some(true) => (format!("foreign{others}"), Tone::Notice),
            SessionState::Live => (format!("live{others}"), Tone::Good),
            state => (format!("{state}{others}"), Tone::Notice),
        }
    }

    /// The text of a column.
    pub(super) fn cell(&self, column: TopColumn, now_ns: i128, is_host_away: bool) -> (String, Tone) {
        let session = &self.seen.session;
        let unknown = || ("-".to_owned(), Tone::Faint);
        match column {
            TopColumn::Host => (self.host(), Tone::Plain),
            TopColumn::Name => (shown(&session.name), Tone::Strong),
            TopColumn::State => self.state(is_host_away),
            TopColumn::Up => self.up_s(now_ns).map_or_else(unknown, |s| (span(s), Tone::Plain)),
            TopColumn::Starts => (session.starts_counted(), Tone::Plain),
            TopColumn::Cpu => {
                self.cpu_permille.map_or_else(unknown, |permille| (percent(permille), Tone::Plain))
            }
            TopColumn::Memory => {
                let bytes = self.cost().and_then(|cost| cost.max_rss_bytes);
                bytes.map_or_else(unknown, |bytes| (size(bytes), Tone::Plain))
            }
            TopColumn::Quiet => match self.activity(now_ns) {
                SessionActivity::Busy => ("busy".into(), Tone::Good),
                SessionActivity::Quiet(s) => (span(s), Tone::Plain),
                SessionActivity::Unknown => unknown(),
            },
            TopColumn::Death => match &self.death {
                Some(death) => {
                    (format!("{} ago: {}", span(age_s(&death.at, now_ns)), death.cause), Tone::Plain)
                }
                None => unknown(),
            },
            TopColumn::Program => (shown(session.primary.shown_program()), Tone::Plain),
            TopColumn::Home => (shown(&session.home), Tone::Plain),
        }
    }

    /// The order of two rows by a column; what is not known comes last. Of equal ones it is that of their names.
    pub(super) fn compare(&self, other: &Self, column: TopColumn, now_ns: i128) -> Ordering {
        // Large numbers first: who sorts by them looks for those.
        let large = |a: Option<u64>, b: Option<u64>| b.cmp(&a);
        let memory = |row: &Self| row.cost().and_then(|cost| cost.max_rss_bytes);
        let starts = |row: &Self| u64::try_from(row.seen.session.starts.len()).ok();
        let order = match column {
            TopColumn::Name => Ordering::Equal,
            TopColumn::Host => self.seen.host.cmp(&other.seen.host),
            TopColumn::State => self.state(false).0.cmp(&other.state(false).0),
            TopColumn::Up => large(self.up_s(now_ns), other.up_s(now_ns)),
            TopColumn::Starts => large(starts(self), starts(other)),
            TopColumn::Cpu => large(self.cpu_permille, other.cpu_permille),
            TopColumn::Memory => large(memory(self), memory(other)),
            TopColumn::Quiet => self.activity(now_ns).cmp(&other.activity(now_ns)),
            // The latest first: RFC 3339 in UTC has the order of the moments.
            TopColumn::Death => {
                let at = |row: &Self| row.death.as_ref().map(|death| death.at.clone());
                at(other).cmp(&at(self))
            }
            TopColumn::Program => {
                let program = |row: &Self| shown(row.seen.session.primary.shown_program());
                program(self).cmp(&program(other))
            }
            TopColumn::Home => Ordering::Equal,
        };
        order.then_with(|| self.names().cmp(&other.names()))
    }
}

/// The columns that there may be, from left to right.
pub(super) fn columns(scope: Scope) -> &'static [TopColumn] {
    use TopColumn::{Cpu, Death, Home, Host, Memory, Name, Program, Quiet, Starts, State, Up};
    match scope {
        Scope::Local => &[Name, State, Up, Starts, Cpu, Memory, Quiet, Death, Program, Home],
        Scope::Fleet => &[Host, Name, State, Up, Starts, Death, Program, Home],
    }
}

/// The column by which this key sorts.
pub(super) fn column_of(key: char, scope: Scope) -> Option<TopColumn> {
    let column = match key {
        'n' => TopColumn::Name,
        't' => TopColumn::State,
        'u' => TopColumn::Up,
        's' => TopColumn::Starts,
        'c' => TopColumn::Cpu,
        'm' => TopColumn::Memory,
        'b' => TopColumn::Quiet,
        'd' => TopColumn::Death,
        'h' => TopColumn::Host,
        _ => return None,
    };
    columns(scope).contains(&column).then_some(column)
}

/// The text for a line of the screen.
pub(super) fn shown(text: &Text<'_>) -> String {
    to_line(text.as_bytes()).into_owned()
}

fn cpu_ms(cost: &CostJson) -> u64 {
    cost.cpu_ms.saturating_add(cost.cpu_children_ms)
}

/// CPU use between the answer of `before` and the one at `at_ns`; `None`: it is not of the same process, or not known.
fn cpu_use(before: &TopRow, session: &SessionJson<'_>, at_ns: u64) -> Option<u64> {
    if before.seen.session.primary.key != session.primary.key || before.cost_at_ns == 0 {
        return None;
    }
    let spent_ms = cpu_ms(session.cost.as_ref()?).saturating_sub(before.cpu_ms()?);
    let elapsed_us = at_ns.checked_sub(before.cost_at_ns)? / 1_000;
    spent_ms.saturating_mul(1_000_000).checked_div(elapsed_us)
}

/// `0.4%`, `12%`, `230%`.
pub(super) fn percent(permille: u64) -> String {
    match permille {
        0 => "0%".into(),
        1..100 => format!("{}.{}%", permille / 10, permille % 10),
        _ => format!("{}%", permille / 10),
    }
}

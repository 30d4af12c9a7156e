//! Starts of a session that are written together.

use std::borrow::Cow;

use observer_core::death::DeathKind;
use serde::{Deserialize, Serialize};

use super::death::DeathJson;
use crate::text::time::time_of_day;

/// Starts that have no entry of their own, because the session started more than ten times within ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartsJson<'a> {
    /// How many starts.
    pub count: u64,
    /// When the first of them was, RFC 3339.
    pub first: Cow<'a, str>,
    /// When the last of them was.
    pub last: Cow<'a, str>,
    /// The deaths among them, by kind.
    pub deaths: DeathCountsJson,
    /// The last of those deaths.
    pub last_death: Option<DeathJson<'a>>,
}

/// How many primaries died in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeathCountsJson {
    /// By exit(2).
    pub exited: u64,
    /// By a signal.
    pub signaled: u64,
    /// By the kernel, for lack of memory.
    pub oom_killed: u64,
    /// Without a record.
    pub unobserved: u64,
}

impl DeathCountsJson {
    /// Counts a death.
    pub fn add(&mut self, kind: &DeathKind) {
        let count = match kind {
            DeathKind::Exited { .. } => &mut self.exited,
            DeathKind::Signaled { .. } => &mut self.signaled,
            DeathKind::OomKilled => &mut self.oom_killed,
            DeathKind::Unobserved { .. } => &mut self.unobserved,
        };
        *count += 1;
    }
}

impl RestartsJson<'_> {
    /// A description for people.
    pub fn describe(&self) -> String {
        let Self { count, first, last, deaths, last_death } = self;
        let DeathCountsJson { exited, signaled, oom_killed, unobserved } = *deaths;
        let mut text = format!("{count} starts from {} to {}", time_of_day(first), time_of_day(last));
        for (count, how) in [
            (exited, "exited"),
            (signaled, "were killed"),
            (oom_killed, "were killed for lack of memory"),
            (unobserved, "died unobserved"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {how}"));
            }
        }
        match last_death {
            Some(death) => format!("{text}, the last: {}", death.describe()),
            None => text,
        }
    }
}

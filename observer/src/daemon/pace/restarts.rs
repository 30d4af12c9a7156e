//! Sessions that start again and again: after ten starts within ten seconds the starts are counted, and written together.

use std::collections::VecDeque;

use observer_core::death::Death;
use observer_core::{BootTime, ProcessKey};

use crate::api::death::DeathJson;
use crate::api::restarts::{DeathCountsJson, RestartsJson};
use crate::text::time::rfc3339;

/// Starts of a session within [`WINDOW_NS`] that are written one by one.
const STARTS_WRITTEN_MAX: usize = 10;
/// See [`STARTS_WRITTEN_MAX`], ns.
pub(super) const WINDOW_NS: u64 = 10_000_000_000;

/// Starts that have no entry of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// How many.
    pub count: u64,
    /// When the first and the last of them was.
    pub between: Option<(BootTime, BootTime)>,
    /// The deaths among them.
    pub deaths: DeathCountsJson,
    /// The last of those deaths, and whose it was.
    pub last_death: Option<(ProcessKey, Death)>,
}

impl Restarts {
    /// As JSON; `None`: only an end was not written.
    pub fn json(&self, wall_offset_ns: i64, boot_id: &str) -> Option<RestartsJson<'static>> {
        let (first, last) = self.between?;
        let last_death = self.last_death.as_ref();
        Some(RestartsJson {
            count: self.count,
            first: rfc3339(first, wall_offset_ns).into(),
            last: rfc3339(last, wall_offset_ns).into(),
            deaths: self.deaths,
            last_death: last_death
                .map(|(key, death)| DeathJson::new(death, key.start_boottime, wall_offset_ns, boot_id)),
        })
    }

    /// Counts a start.
    pub fn add_start(&mut self, at: BootTime) {
        self.count += 1;
        self.between = Some((self.between.map_or(at, |(first, _)| first), at));
    }

    /// Counts a death.
    pub fn add_death(&mut self, key: ProcessKey, death: Death) {
        self.deaths.add(&death.kind);
        self.last_death = Some((key, death));
    }
}

/// The last starts of one session.
#[derive(Debug, Default)]
pub(super) struct RecentStarts(VecDeque<BootTime>);

impl RecentStarts {
    /// Adds a start. Returns whether there were more within the window than are written one by one.
    pub(super) fn add(&mut self, at: BootTime) -> bool {
        let is_many = self.are_many(at);
        self.0.push_back(at);
        if self.0.len() > STARTS_WRITTEN_MAX {
            self.0.pop_front();
        }
        is_many
    }

    /// Whether as many starts as are written one by one were within the window before `at`.
    pub(super) fn are_many(&self, at: BootTime) -> bool {
        self.0.len() >= STARTS_WRITTEN_MAX && self.0.front().is_some_and(|&first| at.since(first) < WINDOW_NS)
    }
}

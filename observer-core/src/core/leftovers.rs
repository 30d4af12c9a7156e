//! What sessions left: processes that were born in a session and outlive it.
//!
//! When a primary ends, its children by birth are marked with its session; when a marked process ends, its children are. What
//! is below a marked process was born in the same session, unless it belongs to one that lives. So an end costs as much as the
//! process has children, and nothing is kept of a session once the last process is gone that it left.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::core::Core;
use crate::input::{KnownBirth, KnownLeft, KnownSession};
use crate::limits::{BIRTHS_KNOWN_MAX, LEFT_KEYS_MAX};
use crate::model::change::Sink;
use crate::model::death::LeftProcesses;
use crate::model::ids::{BootTime, ProcessKey, Tgid};
use crate::model::left::{FormerSession, Leftover};
use crate::model::process::Bytes;
use crate::model::session::State;
use crate::processes::entry::ProcessEntry;
use crate::sessions::by_age::age;

impl Core {
    /// Returns the live processes that were born in a session which is over, the oldest first. What is in a session that lives
    /// is none of them.
    pub fn leftovers(&self) -> Vec<Leftover<'_>> {
        let mut entries: Vec<&ProcessEntry> = self.table.iter().collect();
        entries.sort_unstable_by_key(|entry| age(entry.process.key));
        let above_sessions = self.above_sessions();
        let mut former_by_tgid: BTreeMap<Tgid, &Arc<FormerSession>> = BTreeMap::new();
        let mut found = Vec::new();
        // Whoever is above another is older.
        for entry in entries {
            let process = &entry.process;
            if self.holds_session(process.key) {
                continue;
            }
            let above = process.lineage.and_then(|above| former_by_tgid.get(&above.tgid).copied());
            let Some(former) = entry.left_of.as_ref().or(above) else { continue };
            former_by_tgid.insert(process.key.tgid, former);
            if !self.open_deaths.has(process.key) {
                let runs_session = above_sessions.contains(&process.key);
                found.push(Leftover { process, former, rss_pages: entry.rss_pages, runs_session });
            }
        }
        found
    }

    /// Returns what is above the sessions that live.
    fn above_sessions(&self) -> BTreeSet<ProcessKey> {
        let mut above = BTreeSet::new();
        for (session, _) in self.sessions.iter(&self.table) {
            let Some(primary) = self.table.get(session.primary) else { continue };
            let ancestors = self.table.ancestors(primary).map(|ancestor| ancestor.process.key);
            // What is above one that is known is known.
            ancestors.take_while(|&key| above.insert(key)).for_each(drop);
        }
        above
    }

    /// Returns the session of the primary `key`, which ends at `at`. `None`: it is the primary of none.
    pub(super) fn former_session(&self, key: ProcessKey, at: BootTime) -> Option<Arc<FormerSession>> {
        let home = self.sessions.homes.home_of_primary(key)?;
        let session = &self.sessions.homes.slot(home)?.session;
        Some(session.former(&self.table.get(key)?.process, at))
    }

    /// Returns what a primary leaves that ended at `at` and has the live descendants `below`. `None`: nobody could say which of
    /// them outlived it, because they may have ended with it.
    pub(super) fn left_by(
        &mut self,
        at: BootTime,
        below: &[ProcessKey],
        sink: &mut dyn Sink,
    ) -> Option<LeftProcesses> {
        let mut keys = self.born_in_no_other(below);
        let pages = if keys.is_empty() { Vec::new() } else { sink.resident_pages(&keys, at)? };
        let rss_pages = pages.iter().flatten().sum();
        // Those that have ended meanwhile are not left.
        let mut lives = pages.iter().map(Option::is_some);
        keys.retain(|_| lives.next().unwrap_or(false));
        // A live process has some.
        let rss_pages = Some(rss_pages).filter(|&pages| pages != 0 || keys.is_empty());
        let processes = u32::try_from(keys.len()).ok()?;
        self.counters.left_unnamed += keys.len().saturating_sub(LEFT_KEYS_MAX) as u64;
        keys.truncate(LEFT_KEYS_MAX);
        Some(LeftProcesses { processes, rss_pages, keys: keys.into() })
    }

    /// Returns those of `below`, in which those above come before those below, that are of no other session: neither of one that
    /// lives, nor left by one within.
    fn born_in_no_other(&self, below: &[ProcessKey]) -> Vec<ProcessKey> {
        let mut others: BTreeSet<ProcessKey> = BTreeSet::new();
        let mut found = Vec::new();
        for &key in below {
            let Some(entry) = self.table.get(key) else { continue };
            let is_below_other = entry.process.lineage.is_some_and(|above| others.contains(&above));
            if is_below_other || entry.left_of.is_some() || self.holds_session(key) {
                others.insert(key);
            } else if !self.open_deaths.has(key) {
                found.push(key);
            }
        }
        found
    }

    /// Whether a process is the primary of a session that lives, or its wrapper.
    fn holds_session(&self, key: ProcessKey) -> bool {
        !self.sessions.homes.held_by(key).is_empty()
    }

    /// Marks what a session left before the daemon was started again, as far as it lives.
    pub(super) fn resume_left(&mut self, left: &KnownLeft<'_>) {
        let lives = |key: &ProcessKey| self.table.get(*key).is_some();
        let keys: BTreeSet<ProcessKey> =
            left.processes.iter().copied().take(LEFT_KEYS_MAX).filter(lives).collect();
        if keys.is_empty() {
            return;
        }
        let former = self.known_former(left);
        // What is below another one of them has its mark.
        let is_top = |key: &&ProcessKey| {
            let above = self.table.get(**key).and_then(|entry| entry.process.lineage);
            above.is_none_or(|above| !keys.contains(&above))
        };
        let tops: Vec<ProcessKey> = keys.iter().filter(is_top).copied().collect();
        self.table.leave(&tops, Some(&former));
    }

    /// Puts processes below the ancestors by birth that they had before the daemon was started again. What was born below a
    /// primary that ended since, or before, is left by its session.
    pub(super) fn resume_births(
        &mut self,
        at: BootTime,
        known: &[KnownSession<'_>],
        left: &[KnownLeft<'_>],
        births: &[KnownBirth],
        sink: &mut dyn Sink,
    ) {
        if births.is_empty() {
            return;
        }
        let ended = known.iter().map(|session| KnownLeft {
            home: session.home,
            name: session.name,
            foreign: None,
            primary: session.primary,
            ended_at: if session.state == State::Ended { session.since } else { at },
            wall_offset_ns: session.wall_offset_ns,
            processes: &[],
        });
        // The journal's own account of an end comes first.
        let ended = ended.chain(left.iter().copied());
        let former_by_primary: BTreeMap<ProcessKey, KnownLeft<'_>> =
            ended.map(|session| (session.primary, session)).collect();
        let mut made: BTreeMap<ProcessKey, Arc<FormerSession>> = BTreeMap::new();
        for &KnownBirth { key, above } in births.iter().take(BIRTHS_KNOWN_MAX) {
            if self.table.get(key).is_none() {
                continue;
            }
            if self.table.get(above).is_some() {
                self.relink(at, key, above, sink);
            } else if let Some(session) = former_by_primary.get(&above) {
                let former = made.entry(above).or_insert_with(|| self.known_former(session));
                self.table.leave(&[key], Some(former));
            }
        }
    }

    fn known_former(&self, left: &KnownLeft<'_>) -> Arc<FormerSession> {
        Arc::new(FormerSession {
            home: self.sessions.homes.intern(left.home.clone()),
            name: Bytes::from(left.name),
            foreign: left.foreign,
            primary: left.primary,
            ended_at: left.ended_at,
            wall_offset_ns: left.wall_offset_ns,
        })
    }

    /// Returns what the kernel will not tell another daemon of births in sessions: processes whose nearest ancestor by birth is
    /// not their parent, or is the primary of a session, and those that sessions left. At most
    /// [`BIRTHS_KNOWN_MAX`], the oldest first; the others are counted.
    pub fn births(&self) -> (Vec<KnownBirth>, usize) {
        let mut entries: Vec<&ProcessEntry> = self.table.iter().collect();
        entries.sort_unstable_by_key(|entry| age(entry.process.key));
        let (mut inside, mut births) = (BTreeSet::new(), Vec::new());
        for entry in entries {
            let process = &entry.process;
            let above = process.lineage.filter(|above| inside.contains(above));
            if self.holds_session(process.key) || entry.left_of.is_some() || above.is_some() {
                inside.insert(process.key);
            }
            let is_told = |above: &ProcessKey| process.parent == *above && !self.holds_session(*above);
            let former = entry.left_of.as_ref().map(|former| former.primary);
            let above = former.or(above.filter(|above| !is_told(above)));
            births.extend(above.map(|above| KnownBirth { key: process.key, above }));
        }
        let surplus = births.len().saturating_sub(BIRTHS_KNOWN_MAX);
        births.truncate(BIRTHS_KNOWN_MAX);
        (births, surplus)
    }
}

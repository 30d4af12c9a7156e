//! What sessions have used until now: what the map has, and the CPU time that the kernel gives for a live process.

use std::collections::BTreeSet;

use observer_core::cost::Cost;
use observer_core::session::State;
use observer_core::{BootTime, Core, ProcessKey, Tgid};

use crate::clock;

/// Live descendants of one session whose CPU time is read; the cost of a session with more is not known.
const DESCENDANTS_MAX: usize = 512;
/// CPU times that are read for one answer, at about a microsecond each.
const CLOCKS_MAX: usize = 4096;
/// After this time no more are read, ns: that of a process with thousands of threads takes longer.
const TIME_MAX_NS: u64 = 20_000_000;

/// Returns the processes that the answer to `list` is about: the primaries of live sessions, and the descendants whose cost it
/// has. Looks at [`CLOCKS_MAX`] descendants at most.
pub fn listed(core: &Core) -> BTreeSet<Tgid> {
    let (mut tgids, mut left) = (BTreeSet::new(), CLOCKS_MAX);
    for (session, _) in core.sessions().filter(|(session, _)| session.state != State::Ended) {
        tgids.insert(session.primary.tgid);
        let most = DESCENDANTS_MAX.min(left);
        let descendants = core.descendants(session.primary, most);
        left -= descendants.as_ref().map_or(most, Vec::len);
        tgids.extend(descendants.into_iter().flatten().map(|key| key.tgid));
    }
    tgids
}

/// Reads the costs of the sessions of one answer.
pub struct CostReader<'a> {
    core: &'a Core,
    left: usize,
    until: BootTime,
}

impl<'a> CostReader<'a> {
    /// A reader for the processes of `core`, which was just brought up to date.
    pub fn new(core: &'a Core) -> Self {
        Self { core, left: CLOCKS_MAX, until: clock::boottime().after(TIME_MAX_NS) }
    }

    /// What a live process and its descendants have used. `None` where that is not known: it has too many descendants, other
    /// sessions of the answer took all readings, or it ended meanwhile.
    pub fn read(&mut self, key: ProcessKey) -> Option<Cost> {
        let most = DESCENDANTS_MAX.min(self.left.checked_sub(1)?);
        if clock::boottime() > self.until {
            return None;
        }
        let so_far = self.core.cost_so_far(key, most);
        self.left -= 1 + so_far.as_ref().map_or(most, |so_far| so_far.descendants.len());
        let so_far = so_far?;
        let cpu_ns = clock::cpu_ns(key.tgid.0)?;
        // One that ended meanwhile is counted with its next event.
        let live_ns: u64 = so_far.descendants.iter().filter_map(|key| clock::cpu_ns(key.tgid.0)).sum();
        let known = so_far.known;
        Some(Cost { cpu_ns, children_cpu_ns: known.children_cpu_ns.saturating_add(live_ns), ..known })
    }
}

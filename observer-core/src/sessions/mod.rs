//! Maps each home to its primary, the process that represents it.
//!
//! `admission` matches rules against processes; `candidates` keeps the processes that rules admit to each
//! home; `look` finds them all for the first time; `roots` finds those that are no helpers and have no other
//! candidate above them, for all candidates of a home at once with `lineages`, of which `stops` are the processes that may
//! decide, and `landmarks` (with `terminal_maps`) the nearest of them; `choice` chooses the primary among the roots; `instances` gives each root a session of
//! its own where the rule says so; `election` makes it the primary and reports changes; `successors` finds
//! what goes on in the place of a primary below others; `homes` keeps the result, with `run_program` what ran, and
//! `ended_sessions` those that ended, as many as are kept;
//! `membership` finds the session to which a process belongs; `labels` labels sessions by environments;
//! `panes` keeps which processes decide about the panes of primaries; `settling` delays processes that move
//! between homes; `passed_over` keeps primaries that are where they could be no session; `left_out` keeps processes for which their homes have
//! too many candidates; `resume` restores what was known before the daemon was started again, with the primaries where
//! `places` puts them; `reload` applies other rules; `fitting` finds the
//! rules that admit primaries to their homes then; `relinked` looks again at processes whose ancestors changed;
//! `ownership` asks whose the homes are; `undecided` finds those of which that is not known; `unread` finds
//! what may be sessions of processes whose arguments are not known;
//! `user_sessions` and `room` bound how many one user has; `explain` says why a process is a session or is not.

mod admission;
pub(crate) mod by_age;
mod candidates;
mod choice;
pub(crate) mod claims;
mod context;
mod election;
mod ended_sessions;
pub(crate) mod explain;
mod fitting;
pub(crate) mod homes;
mod instances;
mod labels;
mod landmarks;
mod lapsed;
mod left_out;
mod lineages;
mod lone_roots;
mod look;
mod membership;
mod ownership;
pub(crate) mod panes;
mod passed_over;
mod places;
mod relinked;
mod reload;
mod resume;
mod room;
pub(crate) mod roots;
mod run_program;
mod settling;
mod stops;
mod successors;
mod terminal_maps;
mod undecided;
mod unread;
mod user_sessions;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

pub(crate) use context::{IgnoreList, SessionContext};

use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::Process;
use crate::model::session::{Home, Session};
use crate::processes::table::ProcessTable;
use crate::sessions::by_age::ByAge;
use crate::sessions::claims::ChecksUnderWay;
use crate::sessions::homes::{HomeState, Homes};
use crate::sessions::left_out::LeftOut;
use crate::sessions::panes::FollowedPanes;
use crate::sessions::passed_over::PassedOver;
use crate::sessions::settling::Settling;

/// The candidates, homes and sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub homes: Homes,
    /// The panes of primaries and wrappers.
    pub panes: FollowedPanes,
    /// The processes in the claims of homes, each with those homes.
    claimed: BTreeMap<ProcessKey, Vec<Arc<Home>>>,
    checks_under_way: ChecksUnderWay,
    /// The owner of a home that the edge has just reported, while those that claim it are considered.
    owner_answer: Option<(Arc<Home>, Option<u32>)>,
    /// Processes that moved into another home, and become candidates there if they stay.
    settling: Settling,
    /// Primaries that are where they could be no session.
    passed_over: PassedOver,
    /// Processes that a rule admits to homes with too many candidates.
    left_out: LeftOut,
    /// Homes that left processes out, whose roots are others since these were considered again.
    changed_roots: BTreeSet<Arc<Home>>,
    /// Homes whose session was reported since [`Self::forget_reported`], so that one change is reported once.
    reported: Vec<Arc<Home>>,
    /// Processes whose descendants may have become helpers, or ceased to be.
    relinked: ByAge,
    /// No election takes place, because more candidates are being found, or known sessions are awaited.
    is_looking: bool,
}

impl Sessions {
    /// Forgets which sessions were reported. To be called before each event that the sessions follow.
    pub fn forget_reported(&mut self) {
        self.reported.clear();
    }

    /// Returns whether no election takes place, for the check of invariants.
    pub fn is_looking(&self) -> bool {
        self.is_looking
    }

    /// When a tick is due.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let has_room = !self.is_looking && self.homes.of_users.has_room();
        let unfinished = (!self.relinked.is_empty() || has_room).then_some(BootTime(0));
        let check =
            self.homes.next_check().zip(self.checks_under_way.free_from()).map(|(due, free)| due.max(free));
        let homes_due = [self.homes.next_due().map(|(at, _)| at), check];
        let due = [unfinished, self.settling.next_due()].into_iter().chain(homes_due);
        due.flatten().min()
    }

    /// Returns the processes that moved into another home and have not stayed long enough to be candidates
    /// there, each with the time at which it will have.
    pub fn settling(&self) -> impl Iterator<Item = (ProcessKey, BootTime)> {
        self.settling.iter()
    }

    /// Returns each claim of a process.
    pub fn claimed(&self) -> impl Iterator<Item = (&ProcessKey, &Arc<Home>)> {
        self.claimed.iter().flat_map(|(key, homes)| homes.iter().map(move |home| (key, home)))
    }

    /// Returns the homes whose owner is being read again, for the check of invariants.
    pub fn checks_under_way(&self) -> impl Iterator<Item = &Arc<Home>> {
        self.checks_under_way.homes()
    }

    /// Returns every session in the order of homes, each with its primary as last known.
    pub fn iter<'a>(&'a self, table: &'a ProcessTable) -> impl Iterator<Item = (&'a Session, &'a Process)> {
        self.homes.by_home.values().filter_map(|state| with_primary(table, state))
    }

    /// Returns the session of `home` with its primary as last known.
    pub fn get<'a>(&'a self, table: &'a ProcessTable, home: &Home) -> Option<(&'a Session, &'a Process)> {
        with_primary(table, self.homes.by_home.get(home)?)
    }
}

fn with_primary<'a>(table: &'a ProcessTable, state: &'a HomeState) -> Option<(&'a Session, &'a Process)> {
    let slot = state.slot.as_ref().filter(|slot| !slot.is_recorded)?;
    let process = match &slot.last_primary {
        Some(last) => last,
        None => &table.get(slot.session.primary)?.process,
    };
    Some((&slot.session, process))
}

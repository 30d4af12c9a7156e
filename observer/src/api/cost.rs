//! What a process and those below it used, as JSON.

use nix::unistd::{SysconfVar, sysconf};
use observer_core::cost::Cost;
use serde::{Deserialize, Serialize};

const NS_A_MS: u64 = 1_000_000;

/// What a process and its descendants used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostJson {
    /// CPU time of the process, ms.
    pub cpu_ms: u64,
    /// CPU time of its descendants, ms.
    pub cpu_children_ms: u64,
    /// The most memory that one of them had at a time, bytes; null where it is not known.
    pub max_rss_bytes: Option<u64>,
    /// Descendants that were born; null where births may have been missed.
    pub processes: Option<u32>,
}

impl CostJson {
    /// The JSON of a cost.
    pub fn new(cost: &Cost) -> Self {
        Self {
            cpu_ms: cost.cpu_ns / NS_A_MS,
            cpu_children_ms: cost.children_cpu_ns / NS_A_MS,
            max_rss_bytes: bytes_of_pages(cost.max_rss_pages).filter(|&bytes| bytes != 0),
            processes: cost.processes,
        }
    }
}

/// The size of so many pages, bytes; `None` where the system does not tell how large a page is.
pub fn bytes_of_pages(pages: u64) -> Option<u64> {
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    pages.checked_mul(u64::try_from(page_bytes).ok()?)
}

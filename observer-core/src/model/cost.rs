//! What a process used, and those below it.

use alloc::vec::Vec;

use crate::model::ids::ProcessKey;

/// What a process used of processor and memory, as a record or a row has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// CPU time of its threads, ns. What the last of them ran since its last tick is missing.
    pub cpu_ns: u64,
    /// CPU time of the children that it waited for, and of those that these waited for, ns.
    pub children_cpu_ns: u64,
    /// The most pages of memory that it had at a time; 0 where that is not known.
    pub max_rss_pages: u64,
}

impl From<ProcessUsage> for Cost {
    /// The cost of a process of whose descendants nothing is known but what the kernel counted.
    fn from(own: ProcessUsage) -> Self {
        let ProcessUsage { cpu_ns, children_cpu_ns, max_rss_pages } = own;
        Self { cpu_ns, children_cpu_ns, max_rss_pages, processes: None }
    }
}

/// What is known of the cost of a live process without reading its clock, and the processes whose clocks are to be read for the
/// rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostSoFar {
    /// The cost without the CPU time of the process and of its live descendants.
    pub known: Cost,
    /// Its live descendants.
    pub descendants: Vec<ProcessKey>,
}

/// What a process used until now or until its end, and its descendants by birth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// CPU time of its threads, ns.
    pub cpu_ns: u64,
    /// CPU time of its descendants, ns, whether anybody waited for them or not. What those used that ended unobserved is
    /// missing; of a process that is older than the map, also what those used that ended before it and that
    /// nobody waited for.
    pub children_cpu_ns: u64,
    /// The most pages of memory that one process had at a time: it, or a descendant that ended. 0 where that is not known.
    pub max_rss_pages: u64,
    /// Descendants that were born. `None` where births may have been missed: it is older than the map, or records were lost
    /// since its birth.
    pub processes: Option<u32>,
}

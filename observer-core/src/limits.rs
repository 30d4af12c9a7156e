//! Every bound and delay of the core, in one place. docs/limits.md explains them to operators; where one bites, a
//! field of [`Counters`](crate::CoreCounters) says so.

/// Passes asked for because of hints, re-reads and reparenting happen at most once in this time, ns.
pub const PASS_INTERVAL_NS: u64 = 50_000_000;

/// After a pass that failed part-way the next waits at least this long, ns.
pub const PASS_RETRY_NS: u64 = 1_000_000_000;

/// A process absent from a pass gets this long for its exit record to come out of the ring before a second pass is
/// asked for, ns. More than the 20 ms that a record may linger there.
pub const ABSENT_SETTLE_NS: u64 = 30_000_000;

/// What a pass found different counts as drift only if no record explains it within this time, ns.
pub const DRIFT_SETTLE_NS: u64 = 1_000_000_000;

/// Differences that wait for their record; beyond it a difference counts as drift at once
/// (`Counters::suspects_dropped`).
pub const SUSPECTS_MAX: usize = 4096;

/// How long the dead are remembered, so that a late row or record does not resurrect them, ns.
pub const TOMBSTONE_NS: u64 = 10_000_000_000;

/// The dead that are remembered at most; the oldest go first (`Counters::tombstones_dropped`, if younger than
/// [`TOMBSTONE_NS`]). 24 bytes each.
pub const TOMBSTONES_MAX: usize = 65_536;

/// A process that moves into another home becomes a candidate there when it has stayed for this long, ns.
pub const SETTLE_NS: u64 = 1_000_000_000;

/// User-mode helpers between birth and exec that are remembered.
pub const UNEXECED_HELPERS_MAX: usize = 256;

/// Passes after which a process that still has a dead parent is left as it is (`Counters::parents_unresolved`).
pub const REPARENT_PASSES_MAX: u8 = 64;

/// Passes asked for in a row because the path of the same process came out torn.
pub const TORN_REREADS_MAX: u8 = 8;

/// Ended sessions kept; the oldest go (`Counters::sessions_dropped`).
pub const ENDED_SESSIONS_MAX: usize = 4096;

/// Homes of dead ancestors that a process remembers; the oldest goes (`Counters::helper_of_dropped`).
pub const HELPER_OF_MAX: usize = 16;

/// Start times kept of a session; the oldest goes.
pub const STARTS_MAX: usize = 64;

/// Ancestors visited to decide whether a process is a root; beyond it the walk ends as if at the top.
pub const LINEAGE_STEPS_MAX: usize = 4096;

/// Bytes of a session's name; a longer one is cut.
pub const NAME_MAX: usize = 4096;

/// Bytes that a row of the map may take, argv and paths aside.
pub const PROCESS_BYTES_MAX: usize = 1024;

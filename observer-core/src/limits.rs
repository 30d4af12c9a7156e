//! Every bound and delay of the core. docs/limits.md explains them to operators. Where something was dropped
//! because of a bound, a field of [`CoreCounters`](crate::CoreCounters) counts it.

/// At most one pass in this time is requested because of hints, fields to be read again and reparenting, ns.
pub const PASS_INTERVAL_NS: u64 = 50_000_000;

/// The next pass after one that failed part-way is requested no sooner than this, ns.
pub const PASS_RETRY_NS: u64 = 1_000_000_000;

/// How long the exit record of a process that a pass did not show may take to come out of the ring before a
/// second pass is requested, ns. This is more than the 20 ms for which a record may stay in the ring.
pub const ABSENT_SETTLE_NS: u64 = 30_000_000;

/// A difference that a pass found counts as drift if no record explains it within this time, ns.
pub const DRIFT_SETTLE_NS: u64 = 1_000_000_000;

/// The number of processes whose differences may wait for their record. Further differences count as drift at
/// once (`CoreCounters::suspects_dropped`).
pub const SUSPECTS_MAX: usize = 4096;

/// How long ended processes are remembered, so that a late row or record does not put them into the map
/// again, ns.
pub const TOMBSTONE_NS: u64 = 10_000_000_000;

/// Strings that were made lately, so that processes of one program share them.
pub const RECENT_SLOTS: usize = 512;

/// The length up to which they are kept, bytes.
pub const RECENT_BYTES_MAX: usize = 256;

/// The number of ended processes that are remembered, at 24 bytes each. The oldest are forgotten first
/// (`CoreCounters::tombstones_dropped` counts those younger than [`TOMBSTONE_NS`]).
pub const TOMBSTONES_MAX: usize = 65_536;

/// The number of processes that ended, and whose release by the kernel may make the CPU time of their session more exact.
pub const UNRELEASED_MAX: usize = 8192;

/// The number of ancestors that are looked at for a candidate, to which the release of an ended process matters.
pub const RELEASE_STEPS_MAX: usize = 32;

/// The number of live descendants up to which those of a candidate that ends are counted.
pub const DESCENDANTS_COUNTED_MAX: usize = 1024;

/// The same for any other process.
pub const DESCENDANTS_OF_OTHERS_MAX: usize = 32;

/// Descendants that are counted in a second, of all processes that end.
pub const DESCENDANTS_A_SECOND_MAX: usize = 65_536;

/// A process that moves into another home becomes a candidate there when it has stayed for this long, ns. What
/// outlives the candidate that started it may be the primary after the same time.
pub const SETTLE_NS: u64 = 1_000_000_000;

/// Processes that become candidates of the homes in which they have settled, in one input. The others follow in the next.
pub const SETTLED_A_TICK_MAX: usize = 64;

/// How often the owner of a home is read again on which a session or a refusal depends, ns.
pub const OWNER_CHECK_NS: u64 = 5_000_000_000;

/// The number of homes of one user that are read that often. With more, each is read less often.
pub const OWNER_CHECKS_A_USER: u64 = 100;

/// The same of all users together.
pub const OWNER_CHECKS_OF_ALL: u64 = 1_000;

/// Owners that are read again at a time, and at most of one user, whether they are answered or not.
pub const OWNER_CHECKS_AT_ONCE_MAX: usize = 2;

/// After this time without an answer another owner is read, ns.
pub const OWNER_STUCK_NS: u64 = 5_000_000_000;

/// The number of reads without an answer beyond which no owner is read again.
pub const OWNER_CHECKS_STUCK_MAX: usize = 64;

/// Homes whose turn to be read again is looked at in one input, and processes that one answer admits or refuses. The
/// others follow in the next.
pub const OWNERS_A_TURN_MAX: usize = 64;

/// The number of candidates of one home beyond which no helper becomes one, the number of roots that run a program beyond
/// which no program becomes one, and the number of those that run none beyond which no wrapper does
/// (`CoreCounters::candidates_left_out`). They are considered again when half of what they count as are gone, at most
/// [`RELINKED_A_TURN_MAX`] in vain, or when what is above them changes.
pub const CANDIDATES_A_HOME_MAX: usize = 128;

/// The number of candidates of one home beyond which nothing becomes one.
pub const CANDIDATES_IN_ALL_MAX: usize = 4 * CANDIDATES_A_HOME_MAX;

/// Sessions of a user in one home. Beyond that, programs that could have one are listed in the first session, as its other
/// roots.
pub const INSTANCES_MAX: u32 = 64;

/// Live sessions of one user. Beyond that, a home in which one would begin has none until another one has ended
/// (`CoreCounters::sessions_left_out`).
pub const SESSIONS_A_USER_MAX: usize = 4096;

/// Candidates of homes beyond that bound, of one user, that the answer to a list names. Of others it names the user alone, and
/// nothing that is not found is certainly no session of that user.
pub const OVER_LIMIT_SHOWN_MAX: usize = 1024;

/// Processes whose place among the candidates is looked at again in one input. The others follow in the next.
pub const RELINKED_A_TURN_MAX: usize = 64;

/// Processes of a user in directories with too long a path that an answer looks at. With more, that user may have sessions of which
/// nobody knows what they are called.
pub const LONG_PATHS_A_USER_MAX: usize = 64;

/// Processes of a user that a rule may admit, which depends on arguments that are not known, and that an answer looks at. With
/// more, that user may have sessions of which nobody knows what they are called.
pub const UNREAD_A_USER_MAX: usize = 1024;

/// The length of a label's value, bytes. A longer one labels nothing.
pub const LABEL_BYTES_MAX: usize = 256;

/// The number of labels that a configuration may name.
pub const LABELS_MAX: usize = 16;

/// The number of processes born in a session that are looked at for its labels when it begins.
pub const LABELLING_PROCESSES_MAX: usize = 256;

/// The number of launchers of the same program, one below the other, that stand aside.
pub const LAUNCHERS_MAX: usize = 8;

/// The number of user-mode helpers between birth and exec that are remembered.
pub const UNEXECED_HELPERS_MAX: usize = 256;

/// The number of passes after which a process that still has a dead parent keeps it
/// (`CoreCounters::parents_unresolved`).
pub const REPARENT_PASSES_MAX: u8 = 64;

/// The number of passes that may show a process as about to end while a gap is open for it. After them it hangs in its exit, and
/// the gap may close.
pub const ENDING_PASSES_MAX: u8 = 64;

/// How often a pass looks whether a process that hangs in its exit is gone, ns.
pub const HANGING_PASS_NS: u64 = 1_000_000_000;

/// The number of passes in a row that are requested because the path of the same process was torn.
pub const TORN_REREADS_MAX: u8 = 8;

/// The number of ended sessions that are kept. The oldest are forgotten first
/// (`CoreCounters::sessions_dropped`).
pub const ENDED_SESSIONS_MAX: usize = 4096;

/// The number of signals that are kept of a process until it ends, each with another number or sender. The oldest is
/// forgotten first (`CoreCounters::signals_forgotten`).
pub const SIGNALS_KEPT_MAX: usize = 4;

/// How long before the end a signal that asked for it has to do with it: 10 minutes.
pub const POLITE_SIGNAL_NS: u64 = 600_000_000_000;

/// How long after the first of them a process has sent the polite signals that together ask for the end, ns. Service managers
/// send them one right after the other.
pub const POLITE_BURST_NS: u64 = 1_000_000_000;

/// How long a death by the kernel's own SIGKILL waits for the mark that tells whether memory had run out, ns. The mark comes
/// from the CPU that sent the signal, a few microseconds after it, unless an interrupt or another virtual machine delays
/// that CPU.
pub const OOM_MARK_NS: u64 = 100_000_000;

/// How long the kernel's own kills are kept for a mark, and marks for the kills of processes that have the same memory, ns.
/// In between the kernel may print to a slow console.
pub const KERNEL_KILL_NS: u64 = 1_000_000_000;

/// The number of such kills that are kept, and of such marks. The oldest are forgotten first; their processes then count
/// as killed by the kernel, for no known reason (`CoreCounters::kernel_kills_forgotten`).
pub const KERNEL_KILLS_MAX: usize = 1024;

/// The number of deaths that wait for a mark. The oldest no longer wait if there are more
/// (`CoreCounters::deaths_hurried`).
pub const OPEN_DEATHS_MAX: usize = 1024;

/// How long after the end of a session it is counted what it left, ns: so long, what ends with it has time to end.
pub const LEFT_SETTLE_NS: u64 = 500_000_000;

/// The number of sessions that wait to be counted. Beyond that, the last of the user who has most is not counted
/// (`CoreCounters::left_uncounted`).
pub const LEFT_COUNTS_MAX: usize = 256;

/// The number of processes left by a session that are named when they are counted, so that a daemon which is started again
/// knows them. Further ones are counted (`CoreCounters::left_unnamed`).
pub const LEFT_KEYS_MAX: usize = 64;

/// The number of processes born in sessions, or below what runs in a home beside one, of which a daemon that ends leaves to the
/// next one where they were born.
pub const BIRTHS_KNOWN_MAX: usize = 4096;

/// The number of other roots that are named in a session. The youngest are left out; the number of all is kept.
pub const OTHERS_MAX: usize = 16;

/// An exec of a primary that follows its last start by less than this belongs to that start: interpreters and
/// launchers replace themselves by the program that they were called for.
pub const STARTING_NS: u64 = 1_000_000_000;

/// The number of start times that are kept of a session. The oldest is forgotten first.
pub const STARTS_MAX: usize = 64;

/// The number of ancestors that are visited to decide whether a process is a root. The walk ends there as if
/// it had reached the top.
pub const LINEAGE_STEPS_MAX: usize = 256;

/// The number of terminals, one within the other, that are looked through for the pane of a process. Within more of them it
/// has no pane.
pub const TERMINALS_MAX: usize = 16;

/// The number of processes that were started by a server of screen and are looked at to find out whether it has several
/// windows.
pub const SCREEN_WINDOWS_MAX: usize = 64;

/// The length of a session's name, bytes. A longer name is cut.
pub const NAME_MAX: usize = 4096;

/// The size of a process in the map without its argv and paths, bytes. It is asserted when the crate is
/// compiled.
pub const PROCESS_BYTES_MAX: usize = 1024;

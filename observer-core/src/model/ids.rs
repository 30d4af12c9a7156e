//! Identifiers and time, as newtypes that cannot be mixed up.

use core::fmt;

/// Boot time in ns: CLOCK_BOOTTIME, which goes on during suspend and in which `start_boottime` is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Returns the time `ns` later, saturating.
    pub const fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Returns the ns from `earlier` to this time; 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The id of a thread group in the initial pid namespace, which operators call PID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tgid(pub u32);

impl fmt::Display for Tgid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a process on one boot. A tgid alone is reused; this pair is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// The id of its thread group.
    pub tgid: Tgid,
    /// `start_boottime` of the leader.
    pub start_boottime: BootTime,
}

impl ProcessKey {
    /// Returns the key of the process `tgid` that started at `start_boottime_ns`.
    pub const fn new(tgid: u32, start_boottime_ns: u64) -> Self {
        Self { tgid: Tgid(tgid), start_boottime: BootTime(start_boottime_ns) }
    }
}

//! Identifiers and time. Newtypes, so that what must not mix cannot.

use core::fmt;

/// Boot time in ns (CLOCK_BOOTTIME: the domain of `start_boottime`; goes on during suspend).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// This moment plus `ns`, saturating.
    pub const fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// ns from `earlier` to this moment; 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A thread group's id in the initial pid namespace: what operators call PID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tgid(pub u32);

impl fmt::Display for Tgid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a process on one boot: a tgid alone is reused, this pair is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// Thread group.
    pub tgid: Tgid,
    /// `start_boottime` of its leader, ns.
    pub start_boottime: BootTime,
}

impl ProcessKey {
    /// The key of `tgid` started at `start_boottime_ns`.
    pub const fn new(tgid: u32, start_boottime_ns: u64) -> Self {
        Self { tgid: Tgid(tgid), start_boottime: BootTime(start_boottime_ns) }
    }
}

//! Which fields of a process an input changed.

use core::ops::{BitOr, BitOrAssign};

/// A set of changed fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diff(u16);

impl Diff {
    /// Another program image.
    pub const EXEC: Self = Self(1 << 0);
    /// The identity of the directory.
    pub const CWD_ID: Self = Self(1 << 1);
    /// The path of the directory, or what is known of that path.
    pub const CWD: Self = Self(1 << 2);
    pub const COMM: Self = Self(1 << 3);
    pub const UIDS: Self = Self(1 << 4);
    pub const TTY: Self = Self(1 << 5);
    /// sid, pgid.
    pub const IDS: Self = Self(1 << 6);
    pub const PARENT: Self = Self(1 << 7);
    /// The cgroup, or what is known of its path.
    pub const CGROUP: Self = Self(1 << 8);
    /// exe, argv, environment or exec time of the same image.
    pub const IMAGE: Self = Self(1 << 9);
    pub const FS_SHARED: Self = Self(1 << 10);
    /// Not a field: a pass found a process of which no birth record came.
    pub const FOUND: Self = Self(1 << 11);
    /// Not a field: a pass did not find a process of which no exit record came.
    pub const VANISHED: Self = Self(1 << 12);

    /// The pane of a multiplexer, which follows from the fields of several processes.
    pub const PANE: Self = Self(1 << 13);
    /// argv or environment of the same image, which were not known or only as the process had left them.
    pub const ARGUMENTS: Self = Self(1 << 14);
    /// The identity of the cgroup.
    pub const CGROUP_ID: Self = Self(1 << 15);

    /// Fields of a process on which its own pane depends.
    pub const LOCATING: Self = Self(Self::EXEC.0 | Self::IMAGE.0 | Self::TTY.0 | Self::IDS.0);
    /// Both bits of a changed directory.
    pub const MOVED: Self = Self(Self::CWD_ID.0 | Self::CWD.0);
    /// Fields that have a record of their own on every kernel. A pass finds them different only if one was
    /// missed.
    pub const RECORDED: Self = Self(
        Self::EXEC.0
            | Self::CWD_ID.0
            | Self::COMM.0
            | Self::UIDS.0
            | Self::CGROUP_ID.0
            | Self::FOUND.0
            | Self::VANISHED.0,
    );
    /// Fields whose records are throttled while the ring is more than half full, or a user sends too many.
    pub const THROTTLED: Self = Self(Self::CWD_ID.0 | Self::COMM.0 | Self::UIDS.0 | Self::CGROUP_ID.0);

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn intersects(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    pub const fn intersection(self, bits: Self) -> Self {
        Self(self.0 & bits.0)
    }

    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    pub fn when(self, changed: bool) -> Self {
        if changed { self } else { Self(0) }
    }
}

impl BitOr for Diff {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Diff {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

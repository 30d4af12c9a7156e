//! How a process ended, as far as the kernel tells.

use crate::model::ids::BootTime;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathKind {
    /// By exit(2), with this code.
    Exited {
        /// 0 to 255.
        code: u8,
    },
    /// By a signal.
    Signaled {
        /// Its number.
        signal: u8,
        /// A core was dumped (or would have been: the kernel's flag).
        core_dumped: bool,
    },
    /// Nobody saw it: somewhere between two readings of the kernel.
    Unobserved {
        /// The last moment at which it was known to live.
        from: BootTime,
        /// The first at which it was known to be gone.
        to: BootTime,
    },
}

/// A death certificate, as far as the probes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// How.
    pub kind: DeathKind,
    /// What wait(2) would return; `None` where unobserved.
    pub raw_status: Option<u32>,
    /// When; for an unobserved death the end of the interval.
    pub at: BootTime,
}

impl Death {
    /// The certificate of a wait status.
    pub fn from_status(raw_status: u32, at: BootTime) -> Self {
        let signal = (raw_status & 0x7f) as u8;
        let kind = if signal == 0 {
            DeathKind::Exited { code: (raw_status >> 8) as u8 }
        } else {
            DeathKind::Signaled { signal, core_dumped: raw_status & 0x80 != 0 }
        };
        Self { kind, raw_status: Some(raw_status), at }
    }
}

//! How a process ended, as far as the kernel tells.

use crate::model::ids::BootTime;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathKind {
    /// It called exit(2) or returned from main.
    Exited {
        /// The exit code, 0 to 255.
        code: u8,
    },
    /// A signal killed it.
    Signaled {
        /// Number of the signal.
        signal: u8,
        /// The kernel's flag for a core dump, which is set also where a limit kept the dump from being
        /// written.
        core_dumped: bool,
    },
    /// No record of the end was received: it fell between two readings of the kernel.
    Unobserved {
        /// The last moment at which the process was known to live.
        from: BootTime,
        /// The first moment at which it was known to be gone.
        to: BootTime,
    },
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// How it ended.
    pub kind: DeathKind,
    /// The status that wait(2) returns; `None` where the end was not observed.
    pub raw_status: Option<u32>,
    /// When it ended; for an unobserved death the end of the interval.
    pub at: BootTime,
}

impl Death {
    /// Returns the death that a wait status describes.
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

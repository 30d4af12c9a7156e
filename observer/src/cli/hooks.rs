//! The value of `--hooks`, which `run` and `doctor` share.

use clap::ValueEnum;

use crate::kernel::HookChoice;

/// [`HookChoice`] as the command line spells it.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum HooksFlag {
    /// From kernel functions where this kernel attaches to them, else from system calls
    #[default]
    Auto,
    /// From kernel functions (fexit), or not at all
    Fexit,
    /// From system calls (tracepoints), or not at all
    Tracepoints,
}

impl From<HooksFlag> for HookChoice {
    fn from(flag: HooksFlag) -> Self {
        match flag {
            HooksFlag::Auto => Self::Auto,
            HooksFlag::Fexit => Self::Fexit,
            HooksFlag::Tracepoints => Self::Tracepoints,
        }
    }
}

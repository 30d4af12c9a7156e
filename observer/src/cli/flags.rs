//! The flag of the commands that load the kernel programs.

use std::path::PathBuf;

use clap::Args;

/// For commands that load the kernel programs.
#[derive(Args)]
pub struct BtfFlag {
    /// Take the kernel's layout from this file, not from /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "PATH")]
    pub btf: Option<PathBuf>,
}

//! What the programs are loaded with.

use std::path::{Path, PathBuf};

use super::attach::HookChoice;

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Size of the ring, bytes; [`is_ring_size`](observer_common::limits::is_ring_size).
    pub ring_bytes: u32,
    /// Whether to write the programs' own diagnostics (aya-log) to standard error.
    pub program_log: bool,
    /// Type information from which to take the kernel's layout, instead of the kernel's own.
    pub btf: Option<PathBuf>,
    /// Which hooks to attach.
    pub hooks: HookChoice,
    /// Whether records of execs have the environment of processes without a terminal.
    pub all_environments: bool,
}

impl KernelOptions {
    /// Options for a short run without diagnostics.
    pub fn brief(btf: Option<&Path>, hooks: HookChoice, ring_bytes: u32) -> Self {
        Self { ring_bytes, program_log: false, btf: btf.map(Path::to_owned), hooks, all_environments: false }
    }
}

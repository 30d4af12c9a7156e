//! This boot.

use anyhow::{Context, Result};

/// The kernel's id of this boot: boot times mean something only beside it.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {path}; mount the proc file system"))?;
    Ok(id.trim().to_owned())
}

//! The program of a former version, of which tests of upgrades start a daemon: `cargo xtask build --former` makes it.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::cache;

/// The last commit whose schema of the database is 1.0 and whose journal has version 2.
pub const COMMIT: &str = "8d9bc1fa0f62804462912a5ec667d0a93785e0f0";

/// Where the program is, or would be.
pub fn program() -> Result<PathBuf> {
    Ok(cache("observer-former")?.join(COMMIT).join("observer"))
}

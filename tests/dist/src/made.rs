//! What was made, and where it is.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::version::Version;

/// The name of the file with the sums of all others.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// What was made.
pub struct Dist {
    /// The version, as Debian orders it.
    pub(crate) version: Version,
    /// Where all of it is.
    pub(crate) directory: PathBuf,
    /// The package's files below a root directory.
    pub(crate) tree: PathBuf,
    /// The archive for other systems.
    pub(crate) archive: PathBuf,
    /// The package for Debian.
    pub(crate) deb: PathBuf,
    /// The same with a lower version, which upgrades are tried from.
    pub(crate) former: PathBuf,
    /// The same with a higher version, which upgrades are tried to.
    pub(crate) next: PathBuf,
}

impl Dist {
    /// For a person: what was made, with its sums.
    pub fn summary(&self) -> Result<String> {
        let sums = fs::read_to_string(self.directory.join(SUMS)).context("read the sums")?;
        Ok(format!("{sums}version {} in {}", self.version.debian, self.directory.display()))
    }
}

//! Programs of former versions, of which tests of upgrades start daemons: `cargo xtask build --former` makes them.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::cache;

/// The program of a former version.
#[derive(Debug)]
pub struct FormerProgram {
    /// The commit that it is built from.
    pub commit: &'static str,
    /// The revision of the schema that it makes.
    pub schema: &'static str,
}

/// The last one whose schema is 1.0 and whose journal has version 2.
pub const FIRST: FormerProgram =
    FormerProgram { commit: "8d9bc1fa0f62804462912a5ec667d0a93785e0f0", schema: "1.0" };
/// The last one before the present revision of the schema.
pub const LAST: FormerProgram =
    FormerProgram { commit: "a8a3c927a87ab77724b063c5112d749f2dd0778f", schema: "1.7" };
/// All of them.
pub const PROGRAMS: [&FormerProgram; 2] = [&FIRST, &LAST];

impl FormerProgram {
    /// Where the program is, or would be.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(cache("observer-former")?.join(self.commit).join("observer"))
    }
}

/// Whether all of them were built.
pub fn are_built() -> bool {
    PROGRAMS.iter().all(|former| former.path().is_ok_and(|path| path.exists()))
}

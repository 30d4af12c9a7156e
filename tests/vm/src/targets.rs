//! Names of test targets that runs treat differently, and where a built one is.

use std::path::PathBuf;

/// The target whose tests take very long under emulation.
pub(crate) const STORM: &str = "storm";
/// The target that is for a real systemd alone.
pub const SERVICE: &str = "service";
/// The target that measures what programs cost the verifier; its output is recorded.
pub(crate) const VERIFIER: &str = "verifier";

/// One test target.
pub struct Test {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub program: PathBuf,
}

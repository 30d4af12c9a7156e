//! The package in minimal Debian systems: installed, upgraded, removed and purged, without a running systemd.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use observer_harness::command;

use crate::made::Dist;

/// The releases that the package is for.
const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];
/// What is done in each.
const SCRIPT: &str = include_str!("roots.sh");

/// Tries the package in each release.
pub(crate) fn everywhere(dist: &Dist) -> Result<()> {
    for release in RELEASES {
        let root = observer_vm::debian_root(release)?;
        inside(&root, dist).with_context(|| format!("the package on Debian {release}"))?;
        eprintln!("xtask: the package is installed, upgraded, removed and purged on Debian {release}");
    }
    Ok(())
}

/// Runs the script in the root file system, which it does not change.
fn inside(root: &Path, dist: &Dist) -> Result<()> {
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--pipe", "--directory"]);
    nspawn.arg(root);
    for (file, name) in [(&dist.former, "former"), (&dist.deb, "observer"), (&dist.next, "next")] {
        nspawn.arg(format!("--bind-ro={}:/packages/{name}.deb", file.display()));
    }
    command::quiet(nspawn.args(["/bin/sh", "-c", SCRIPT]))
}

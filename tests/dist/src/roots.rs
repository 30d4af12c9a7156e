//! The package in minimal Debian systems: installed, upgraded, removed and purged, without a running systemd. The archive in one
//! of them: installed with the commands of README.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use observer_harness::command;

use crate::made::Dist;

/// The releases that the package is for.
const RELEASES: [&str; 3] = ["bullseye", "bookworm", "trixie"];
/// What is done in each.
const SCRIPT: &str = include_str!("roots.sh");
/// The release in which the archive is tried, what is done there, and the page that says how it is installed.
const ARCHIVE: (&str, &str) = ("bookworm", include_str!("archive.sh"));
const README: &str = include_str!("../../../README.md");
/// Before the commands that install the archive.
const INSTALLED_BY: &str = "On another system with systemd";

/// Tries the package in each release.
pub(crate) fn everywhere(dist: &Dist) -> Result<()> {
    for release in RELEASES {
        let root = observer_vm::debian_root(release)?;
        inside(&root, dist).with_context(|| format!("the package on Debian {release}"))?;
        eprintln!("xtask: the package is installed, upgraded, removed and purged on Debian {release}");
    }
    let (release, script) = ARCHIVE;
    let directory = tempfile::tempdir().context("make a directory for the commands")?;
    let commands = directory.path().join("install");
    fs::write(&commands, commands_of(README)?).context("write the commands of README")?;
    let name = dist.archive.file_name().and_then(|name| name.to_str()).context("the archive has no name")?;
    let mut nspawn = nspawn(&observer_vm::debian_root(release)?);
    nspawn.arg(format!("--bind-ro={}:/packages/{name}", dist.archive.display()));
    nspawn.arg(format!("--bind-ro={}:/packages/install", commands.display()));
    command::quiet(nspawn.args(["/bin/sh", "-c", script]))
        .with_context(|| format!("the archive on Debian {release}"))?;
    eprintln!("xtask: the archive is installed as README says on Debian {release}");
    Ok(())
}

/// The commands with which README installs the archive.
fn commands_of(readme: &str) -> Result<String> {
    let lines = readme.lines().skip_while(|line| !line.starts_with(INSTALLED_BY)).skip(1);
    let lines = lines.skip_while(|line| line.is_empty()).map_while(|line| line.strip_prefix("    "));
    let commands = lines.fold(String::new(), |commands, line| commands + line + "\n");
    // No systemd runs that could start it.
    let commands = commands.replace("enable --now", "enable");
    ensure!(commands.contains("tar "), "README.md does not say how the archive is installed: {commands:?}");
    Ok(commands)
}

/// Runs a command in the root file system, which it does not change.
fn nspawn(root: &Path) -> Command {
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--pipe", "--directory"]);
    nspawn.arg(root);
    nspawn
}

/// Runs the script in the root file system.
fn inside(root: &Path, dist: &Dist) -> Result<()> {
    let mut nspawn = nspawn(root);
    for (file, name) in [(&dist.former, "former"), (&dist.deb, "observer"), (&dist.next, "next")] {
        nspawn.arg(format!("--bind-ro={}:/packages/{name}.deb", file.display()));
    }
    command::quiet(nspawn.args(["/bin/sh", "-c", SCRIPT]))
}

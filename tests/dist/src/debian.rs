//! The package for Debian, made by debhelper from a tree of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use observer_harness::command;

use crate::version::Version;
use crate::{changelog, tree};
use observer_harness::workspace::Workspace;

/// Files that debhelper reads.
const FILES: [&str; 3] = ["control", "copyright", "observer.postrm"];
/// The first steps that `dh binary` has for a package without a build. The user is made before the service starts.
const FIRST: [&[&str]; 4] =
    [&["dh_installdocs"], &["dh_installchangelogs"], &["dh_installsysusers"], &["dh_installsystemd"]];
/// Those that follow.
const LAST: [&[&str]; 6] = [
    &["dh_compress", "-X.md", "-X.json"],
    &["dh_fixperms"],
    &["dh_installdeb"],
    &["dh_gencontrol"],
    &["dh_md5sums"],
    // Debian 11 reads no packages that are compressed by zstd.
    &["dh_builddeb", "--", "-Zxz"],
];
/// Where the unit goes, and where dh_installsystemd of Debian 12 looks for it: in no other place.
const UNIT: (&str, &str) = ("usr/lib/systemd", "lib/systemd");

/// Makes the package of this version below `work`, puts it into `directory` and returns its path.
pub(crate) fn build(
    workspace: &Workspace,
    work: &Path,
    files: &Path,
    version: &Version,
    directory: &Path,
) -> Result<PathBuf> {
    let debian = work.join("debian");
    fs::create_dir_all(&debian).with_context(|| format!("create {}", debian.display()))?;
    for name in FILES {
        let from = workspace.root.join("packaging/debian").join(name);
        fs::copy(&from, debian.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    let markdown = fs::read_to_string(workspace.root.join("CHANGELOG.md")).context("read CHANGELOG.md")?;
    tree::write(&debian.join("changelog"), &changelog::debian(&markdown, version)?)?;
    let root = debian.join("observer");
    command::quiet(Command::new("cp").arg("--archive").arg(files).arg(&root))?;
    let (unit, for_debhelper) = (root.join(UNIT.0), root.join(UNIT.1));
    fs::create_dir_all(root.join("lib")).context("create lib")?;
    fs::rename(&unit, &for_debhelper).with_context(|| format!("move {}", unit.display()))?;
    steps(&FIRST, work, version)?;
    fs::rename(&for_debhelper, &unit).with_context(|| format!("move {}", for_debhelper.display()))?;
    fs::remove_dir(root.join("lib")).context("remove lib")?;
    steps(&LAST, work, version)?;
    // It is written beside the directory of the package.
    let architecture = command::capture(Command::new("dpkg").arg("--print-architecture"))?;
    let name = format!("observer_{}_{}.deb", version.debian, architecture.trim());
    let (made, path) = (work.with_file_name(&name), directory.join(&name));
    fs::rename(&made, &path).with_context(|| format!("move {}", made.display()))?;
    Ok(path)
}

fn steps(steps: &[&[&str]], work: &Path, version: &Version) -> Result<()> {
    for step in steps {
        let (program, arguments) = step.split_first().context("a step without a program")?;
        let mut dh = Command::new(program);
        dh.current_dir(work).env("SOURCE_DATE_EPOCH", version.epoch.to_string()).env("LC_ALL", "C");
        command::quiet(dh.args(arguments))?;
    }
    Ok(())
}

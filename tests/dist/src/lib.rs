//! What a release consists of, in `target/dist`: a package for Debian, an archive for other systems, the
//! debug symbols, the list of dependencies, and the sums of all of these.

mod archive;
mod changelog;
mod check;
mod debian;
mod made;
mod page;
mod roots;
mod sbom;
mod sections;
mod tree;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use observer_harness::workspace::Workspace;
use observer_harness::{command, former};

use debian::Edition;
pub use made::Dist;
use made::SUMS;
use version::Version;

impl Dist {
    /// Checks what was made, without installing it.
    pub fn check(&self, workspace: &Workspace) -> Result<()> {
        check::everything(workspace, self)
    }

    /// Installs, upgrades and removes the package in a minimal Debian of each release that it is for, and installs the archive in
    /// one. Needs root.
    pub fn install_everywhere(&self) -> Result<()> {
        roots::everywhere(self)
    }
}

/// Makes everything from the release build, which must be there.
pub fn make(workspace: &Workspace) -> Result<Dist> {
    let (directory, work) = (workspace.target.join("dist"), workspace.target.join("dist-work"));
    for path in [&directory, &work] {
        if path.exists() {
            fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    }
    let version = Version::of(workspace)?;
    let name = format!("observer-{}-{}-linux", version.debian, std::env::consts::ARCH);
    let sbom = directory.join(format!("{name}.cdx.json"));
    sbom::write(workspace, &version, &sbom)?;
    let tree = work.join(&name);
    tree::lay_out(workspace, &tree, &sbom, &directory.join(format!("{name}.debug")))?;
    let made = |edition, name: &str, to: &Path| {
        debian::build(workspace, &work.join(name), &tree, (edition, &version), to)
    };
    let deb = made(Edition::Release, "deb", &directory)?;
    let former = made(Edition::Former, "former", &work)?;
    let next = made(Edition::Next, "next", &work)?;
    let mut for_tests = vec![(deb.clone(), "observer.deb"), (former.clone(), "former.deb")];
    if former::FIRST.path()?.exists() {
        for_tests.push((made(Edition::Earlier, "earlier", &work)?, observer_vm::EARLIER));
    }
    for_machines(workspace, &for_tests)?;
    let archive = directory.join(format!("{name}.tar.gz"));
    archive::pack(workspace, &tree, &work.join("archive"), &version, &archive)?;
    sum(&directory)?;
    Ok(Dist { version, directory, tree, archive, deb, former, next })
}

/// Copies the packages to where virtual machines and containers take them from.
fn for_machines(workspace: &Workspace, packages: &[(PathBuf, &str)]) -> Result<()> {
    let directory = workspace.target.join(observer_vm::PACKAGES);
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    for (from, name) in packages {
        fs::copy(from, directory.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

fn sum(directory: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        names.push(entry.with_context(|| format!("list {}", directory.display()))?.file_name());
    }
    names.sort();
    ensure!(!names.is_empty(), "nothing was made");
    let sums = command::capture(Command::new("sha256sum").current_dir(directory).arg("--").args(names))?;
    fs::write(directory.join(SUMS), sums).context("write the sums")
}

//! What a release consists of, in `target/dist`: a package for Debian, an archive for other systems, the
//! debug symbols, the list of dependencies, and the sums of all of these.

mod changelog;
mod check;
mod debian;
mod made;
mod page;
mod roots;
mod sections;
mod tree;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use observer_harness::command;
use observer_harness::workspace::Workspace;

use debian::Edition;
pub use made::Dist;
use made::SUMS;
use version::Version;

impl Dist {
    /// Checks what was made, without installing it.
    pub fn check(&self, workspace: &Workspace) -> Result<()> {
        check::everything(workspace, self)
    }

    /// Installs, upgrades and removes the package in a minimal Debian of each release that it is for. Needs root.
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
    list_dependencies(workspace, &version, &sbom)?;
    let tree = work.join(&name);
    tree::lay_out(workspace, &tree, &sbom, &directory.join(format!("{name}.debug")))?;
    let made = |edition, name: &str, to: &Path| {
        debian::build(workspace, &work.join(name), &tree, (edition, &version), to)
    };
    let deb = made(Edition::Release, "deb", &directory)?;
    let former = made(Edition::Former, "former", &work)?;
    let next = made(Edition::Next, "next", &work)?;
    for_machines(workspace, [(&deb, "observer.deb"), (&former, "former.deb")])?;
    archive(&tree, &version, &directory.join(format!("{name}.tar.gz")))?;
    sum(&directory)?;
    Ok(Dist { version, directory, tree, deb, former, next })
}

/// Copies the packages to where virtual machines and containers take them from.
fn for_machines(workspace: &Workspace, packages: [(&PathBuf, &str); 2]) -> Result<()> {
    let directory = workspace.target.join(observer_vm::PACKAGES);
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    for (from, name) in packages {
        fs::copy(from, directory.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

/// Writes the dependencies of the product to `file`, in CycloneDX' format.
fn list_dependencies(workspace: &Workspace, version: &Version, file: &Path) -> Result<()> {
    // The tool writes one file beside the manifest of each package of the workspace.
    const NAME: &str = "observer-dist";
    let written = format!("{NAME}.json");
    let mut cargo = workspace.cargo(&["cyclonedx", "--quiet", "--manifest-path", "observer/Cargo.toml"]);
    cargo.args(["--format", "json", "--spec-version", "1.5", "--no-build-deps", "--override-filename", NAME]);
    let made = command::quiet(cargo.env("SOURCE_DATE_EPOCH", version.epoch.to_string()));
    let text = fs::read_to_string(workspace.root.join("observer").join(&written));
    let manifests =
        command::capture(&mut workspace.cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let manifests: serde_json::Value =
        serde_json::from_str(&manifests).context("read the workspace's layout")?;
    let packages = manifests.get("packages").and_then(serde_json::Value::as_array);
    for manifest in
        packages.into_iter().flatten().filter_map(|package| package.get("manifest_path")?.as_str())
    {
        let _ = fs::remove_file(Path::new(manifest).with_file_name(&written));
    }
    made?;
    let text = text.context("read the list of dependencies")?;
    let root = workspace.root.to_string_lossy();
    fs::write(file, text.replace(&*root, "/observer")).with_context(|| format!("write {}", file.display()))
}

/// Packs the tree for systems that have no packages of Debian's kind.
fn archive(tree: &Path, version: &Version, file: &Path) -> Result<()> {
    let (above, name) = (tree.parent(), tree.file_name());
    let (above, name) = above.zip(name).context("the tree has no directory above it")?;
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--gzip").arg("--file").arg(file).arg("--directory").arg(above);
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", version.epoch)).arg(name);
    command::quiet(&mut tar)
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

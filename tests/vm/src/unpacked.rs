//! Packages of Debian whose files are kept in the cache, as the system that they are for would have them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::archive::Archive;
use crate::{cache, room};

/// Packages that are kept together.
pub(crate) struct Packages<'a> {
    /// The processor that they are for.
    pub(crate) arch: Arch,
    /// The directory in the cache.
    pub(crate) directory: String,
    /// What they are, for a person who waits for them.
    pub(crate) what: &'a str,
    /// Each with the release or the version that is taken.
    pub(crate) packages: Vec<String>,
}

impl Packages<'_> {
    /// Where their files are, if they were fetched; nothing is changed.
    pub(crate) fn present(&self) -> Option<PathBuf> {
        let path = cache::directory().ok()?.join(&self.directory);
        path.exists().then_some(path)
    }

    /// Where their files are, fetched from Debian's archive where they are not there yet.
    pub(crate) fn obtain(&self) -> Result<PathBuf> {
        if let Some(present) = self.present() {
            return Ok(present);
        }
        let (cache, _lock) = cache::locked()?;
        if let Some(present) = self.present() {
            return Ok(present);
        }
        let path = cache.join(&self.directory);
        let home = path.parent().context("a directory of the cache has no parent")?;
        fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
        room::check_room(home)?;
        eprintln!("vm: fetching {}", self.what);
        let partial = tempfile::tempdir_in(home).context("make a directory to unpack in")?;
        Archive::open(&cache, self.arch)?.unpack(&self.packages, partial.path())?;
        keep_links_inside(partial.path(), Path::new(""))?;
        fs::rename(partial.path(), &path).with_context(|| format!("rename {}", path.display()))?;
        Ok(path)
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

//! Which kernels, and where their images are: `CACHE/kernels/RELEASE/vmlinuz`.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arch::{Arch, LARGE_PAGES};
use crate::archive::Archive;
use crate::room::{NO_ROOM, check_room, more_room};

/// Packages tried for a series, newest first: superseded ones vanish from the archive.
const TRIES_MAX: usize = 3;
/// Images kept of a series.
const KEPT_MAX: usize = 2;
/// Before the release in a package's name; from 6.19 on the image is in the second kind.
const PREFIXES: [&str; 2] = ["linux-image-", "linux-binary-"];
/// Why the archive is not asked.
const OFFLINE: &str = "--offline was given";
/// Begins the name of a directory to unpack in.
const PARTIAL: &str = ".partial-";
/// A kernel to boot.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The processor that it is for.
    pub(crate) arch: Arch,
    /// As asked for: `6.1`.
    pub(crate) series: String,
    /// Its `uname -r`.
    pub(crate) release: String,
    /// Its image.
    pub(crate) image: PathBuf,
}

/// Checks a series that a person gave: numbers with dots between, and perhaps a size of pages.
pub(crate) fn series(text: &str) -> Result<String, String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.strip_suffix(LARGE_PAGES).unwrap_or(text).split('.').all(digits) {
        Ok(text.to_owned())
    } else {
        Err("give a kernel series like 6.1, 7 for the newest 7.x, or for arm64 6.12-16k with pages of 16 KiB"
            .into())
    }
}

/// The archive, and the names of its packages.
type Opened = (Archive, Vec<String>);

/// The newest kernel of each series: from the archive, or from the cache where that cannot be reached.
pub(crate) fn obtain(cache: &Path, arch: Arch, series: &[String], offline: bool) -> Result<Vec<Kernel>> {
    let home = cache.join("kernels");
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    forget_partial(&home)?;
    let archive = if offline { Err(OFFLINE.into()) } else { open(cache, arch) };
    let home = Home { path: home, arch };
    series.iter().map(|series| home.newest(series, archive.as_ref())).collect()
}

/// Otherwise why it cannot be used.
fn open(cache: &Path, arch: Arch) -> Result<Opened, String> {
    let opened = Archive::open(cache, arch).and_then(|archive| {
        let packages = archive.packages("linux-")?;
        Ok((archive, packages))
    });
    opened.map_err(|error| {
        let why = format!("{error:#}");
        eprintln!("vm: the archive cannot be used, so the cache must do: {why}");
        why
    })
}

/// Where the images for a processor are.
struct Home {
    path: PathBuf,
    arch: Arch,
}

impl Home {
    fn newest(&self, series: &str, archive: Result<&Opened, &String>) -> Result<Kernel> {
        let kernel = |release: &str, image| Kernel {
            arch: self.arch,
            series: series.into(),
            release: release.into(),
            image,
        };
        let (numbers, suffix) = self.arch.releases(series);
        let mut why = archive.err().cloned().unwrap_or_default();
        if let Ok((archive, packages)) = archive {
            for release in releases(packages, numbers, &suffix).iter().take(TRIES_MAX) {
                match self.fetch(release, archive, packages) {
                    Ok(image) => {
                        self.forget_older(series)?;
                        return Ok(kernel(release, image));
                    }
                    Err(error) => {
                        eprintln!("vm: {release}: {error:#}");
                        why = format!("{error:#}");
                    }
                }
            }
        }
        match self.cached(series)?.first() {
            Some(release) => Ok(kernel(release, self.path.join(release).join("vmlinuz"))),
            None => {
                bail!("no kernel {series}, neither from the archive nor in {}: {}", self.path.display(), {
                    remedy(&why, &format!("{}/{numbers}.0{suffix}/vmlinuz", self.path.display()))
                })
            }
        }
    }

    /// Releases of a series whose image is in the cache, newest first.
    fn cached(&self, series: &str) -> Result<Vec<String>> {
        let (numbers, suffix) = self.arch.releases(series);
        let entries = fs::read_dir(&self.path).with_context(|| format!("list {}", self.path.display()))?;
        let mut found: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|release| belongs(release, numbers) && release.ends_with(&suffix))
            .filter(|release| self.arch.is_whole_image(&self.path.join(release).join("vmlinuz")))
            .collect();
        found.sort_by(|a, b| by_version(b, a));
        Ok(found)
    }

    fn fetch(&self, release: &str, archive: &Archive, packages: &[String]) -> Result<PathBuf> {
        let directory = self.path.join(release);
        let image = directory.join("vmlinuz");
        if self.arch.is_whole_image(&image) {
            return Ok(image);
        }
        let names = PREFIXES.iter().rev().map(|prefix| format!("{prefix}{release}"));
        for package in names.filter(|name| packages.contains(name)) {
            check_room(&self.path)?;
            eprintln!("vm: fetching {package}");
            let unpacked = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&self.path);
            let unpacked = unpacked.context("make a directory to unpack in")?;
            archive.unpack(std::slice::from_ref(&package), unpacked.path())?;
            if let Some(found) = image_in(unpacked.path()) {
                if !self.arch.is_whole_image(&found) {
                    bail!("the image in package {package} is not whole, or not for {}", self.arch.rust());
                }
                // Else a machine that loses power might keep the name and not what it stands for.
                let written = fs::File::open(&found).and_then(|file| file.sync_all());
                written.with_context(|| format!("write {}", found.display()))?;
                fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
                fs::rename(&found, &image)
                    .with_context(|| format!("move the image to {}", image.display()))?;
                return Ok(image);
            }
        }
        bail!("no package of it has a kernel image")
    }

    fn forget_older(&self, series: &str) -> Result<()> {
        for release in self.cached(series)?.iter().skip(KEPT_MAX) {
            let path = self.path.join(release);
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }
}

/// What to do, by the messages of apt and the system.
fn remedy(why: &str, image: &str) -> String {
    let full = [NO_ROOM, "No space left on device", "Disk quota exceeded", "don't have enough free space"];
    if full.iter().any(|words| why.contains(words)) {
        return format!("the disk is full: {}", more_room());
    }
    if why == OFFLINE {
        return format!("run once without --offline, or put an image at {image}");
    }
    if why.is_empty() {
        return format!(
            "the archive has no such series: name another with --kernel, or put an image at {image}"
        );
    }
    format!(
        "the archive did not give it (its own message stands above): see that `apt-get update` works on this system, and \
         run it again; or put an image at {image} and use --offline"
    )
}

/// What a run that was killed while it unpacked left behind.
fn forget_partial(home: &Path) -> Result<()> {
    for entry in fs::read_dir(home).with_context(|| format!("list {}", home.display()))? {
        let path = entry.with_context(|| format!("list {}", home.display()))?.path();
        let partial = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL));
        if partial {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Releases of a series that packages exist for, newest first.
fn releases(packages: &[String], series: &str, suffix: &str) -> Vec<String> {
    let mut found: Vec<String> = packages
        .iter()
        .filter_map(|package| PREFIXES.iter().find_map(|prefix| package.strip_prefix(prefix)))
        .filter(|release| belongs(release, series) && release.ends_with(suffix))
        .map(str::to_owned)
        .collect();
    found.sort_by(|a, b| by_version(b, a));
    found.dedup();
    found
}

/// `6.1.0-56-cloud-amd64` is of series 6.1, `6.12.1…` and the metapackage `6.1-cloud-amd64` are not.
fn belongs(release: &str, series: &str) -> bool {
    release.strip_prefix(series).and_then(|rest| rest.strip_prefix('.')).is_some()
}

/// The image in an unpacked package: at boot/vmlinuz-*, from 6.19 on at usr/lib/modules/*/vmlinuz.
fn image_in(unpacked: &Path) -> Option<PathBuf> {
    let list = |path: PathBuf| fs::read_dir(path).ok();
    let children = |entries: Option<fs::ReadDir>| {
        entries.into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()))
    };
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    children(list(unpacked.join("boot"))).find(named).or_else(|| {
        children(list(unpacked.join("usr/lib/modules")))
            .map(|modules| modules.join("vmlinuz"))
            .find(|image| image.is_file())
    })
}

/// Numbers as numbers, the rest as text.
fn by_version(a: &str, b: &str) -> Ordering {
    parts(a).cmp(&parts(b))
}

fn parts(text: &str) -> Vec<(u64, &str)> {
    let mut rest = text;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let split = |rest: &str, digits: bool| {
            rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len())
        };
        let (number, after) = rest.split_at(split(rest, true));
        let (words, after) = after.split_at(split(after, false));
        parts.push((number.parse().unwrap_or(0), words));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::tests::image;

    const AMD64: &str = "-cloud-amd64";

    #[test]
    fn the_newest_release_of_a_series_comes_first() {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-headers-7.2.14-cloud-amd64",
            "linux-image-7.2.14-cloud-arm64",
            "linux-image-7.2.13+deb14-arm64-16k",
        ]
        .map(str::to_owned);
        assert_eq!(
            releases(&packages, "6.1", AMD64),
            ["6.1.0-56-cloud-amd64", "6.1.0-9-cloud-amd64", "6.1.0-0.deb11.52-cloud-amd64"]
        );
        assert_eq!(releases(&packages, "7", AMD64), ["7.2.13+deb14-cloud-amd64"]);
        assert!(releases(&packages, "5.10", AMD64).is_empty());
        for (series, release) in [("7", "7.2.14-cloud-arm64"), ("7-16k", "7.2.13+deb14-arm64-16k")] {
            let (numbers, suffix) = Arch::Arm64.releases(series);
            assert_eq!(releases(&packages, numbers, &suffix), [release]);
        }
    }

    #[test]
    fn what_a_killed_run_unpacked_is_forgotten() -> Result<()> {
        let home = tempfile::tempdir()?;
        let file = home.path().join("vmlinuz");
        fs::write(&file, image(2064))?;
        let partial = home.path().join(".partial-x");
        fs::create_dir_all(partial.join("boot"))?;
        forget_partial(home.path())?;
        assert!(!partial.exists() && file.exists(), "only what was being unpacked is forgotten");
        Ok(())
    }

    #[test]
    fn the_next_step_fits_the_fault() {
        for (why, what) in [
            ("apt-get: write: No space left on device", "OBSERVER_VM_CACHE"),
            (NO_ROOM, "the disk is full"),
            (OFFLINE, "run once without --offline"),
            ("Temporary failure resolving", "apt-get update"),
            ("", "name another with --kernel"),
        ] {
            let error = remedy(why, "/c/vmlinuz");
            assert!(error.contains(what), "{why}: {error}");
        }
    }

    #[test]
    fn without_an_archive_the_newest_image_of_the_cache_is_taken() -> Result<()> {
        let home = tempfile::tempdir()?;
        for release in ["6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "6.1.0-11-cloud-amd64"] {
            fs::create_dir(home.path().join(release))?;
        }
        for release in ["6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64"] {
            fs::write(home.path().join(release).join("vmlinuz"), image(2064))?;
        }
        let other = home.path().join("6.1.0-12-cloud-arm64");
        fs::create_dir(&other)?;
        fs::write(other.join("vmlinuz"), image(2064))?;
        let kernels = Home { path: home.path().into(), arch: Arch::X86_64 };
        assert_eq!(
            kernels.newest("6.1", Err(&OFFLINE.into()))?.release,
            "6.1.0-10-cloud-amd64",
            "11 has no image, and 12 is for another processor"
        );
        let error = kernels.newest("5.10", Err(&OFFLINE.into()));
        let error = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("run once without --offline"), "{error}");
        Ok(())
    }

    #[test]
    fn a_series_is_numbers() {
        assert!(series("6.1").is_ok() && series("7").is_ok() && series("6.12-16k").is_ok());
        for wrong in ["", "6.", "6.x", "../6", "-16k", "6.12-64k"] {
            assert!(series(wrong).is_err(), "{wrong:?}");
        }
    }
}

//! Which kernels, and where their images are: `CACHE/kernels/RELEASE/vmlinuz`.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::archive::Archive;

/// Packages tried for a series, newest first: superseded ones vanish from the archive.
const TRIES_MAX: usize = 3;
/// Images kept of a series.
const KEPT_MAX: usize = 2;
/// Before the release in a package's name; from 6.19 on the image is in the second kind.
const PREFIXES: [&str; 2] = ["linux-image-", "linux-binary-"];
const SUFFIX: &str = "-cloud-amd64";

/// A kernel to boot.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// As asked for: `6.1`.
    pub(crate) series: String,
    /// Its `uname -r`.
    pub(crate) release: String,
    /// Its image.
    pub(crate) image: PathBuf,
}

/// Checks a series that a person gave: numbers with dots between.
pub(crate) fn series(text: &str) -> Result<String, String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.split('.').all(digits) {
        Ok(text.to_owned())
    } else {
        Err("give a kernel series like 6.1, or 7 for the newest 7.x".into())
    }
}

/// The newest kernel of each series: from the archive, or from the cache where that cannot be reached.
pub(crate) fn obtain(cache: &Path, series: &[String], offline: bool) -> Result<Vec<Kernel>> {
    let home = cache.join("kernels");
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    let archive = if offline { None } else { open(cache) };
    series.iter().map(|series| newest(&home, series, archive.as_ref())).collect()
}

fn open(cache: &Path) -> Option<(Archive, Vec<String>)> {
    let opened = Archive::open(cache).and_then(|archive| {
        let packages = archive.packages("linux-")?;
        Ok((archive, packages))
    });
    opened
        .inspect_err(|error| eprintln!("vm: the archive cannot be used, so the cache must do: {error:#}"))
        .ok()
}

fn newest(home: &Path, series: &str, archive: Option<&(Archive, Vec<String>)>) -> Result<Kernel> {
    if let Some((archive, packages)) = archive {
        for release in releases(packages, series).iter().take(TRIES_MAX) {
            match fetch(home, release, archive, packages) {
                Ok(image) => {
                    forget_older(home, series)?;
                    return Ok(Kernel { series: series.into(), release: release.clone(), image });
                }
                Err(error) => eprintln!("vm: {release}: {error:#}"),
            }
        }
    }
    match cached(home, series)?.first() {
        Some(release) => {
            let image = home.join(release).join("vmlinuz");
            Ok(Kernel { series: series.into(), release: release.clone(), image })
        }
        None => bail!(
            "no kernel {series}: neither the archive has one (see above) nor {}; run without --offline where apt reaches \
             Debian's archive, or put an image at {}/{series}.0{SUFFIX}/vmlinuz",
            home.display(),
            home.display()
        ),
    }
}

/// Releases of a series that packages exist for, newest first.
fn releases(packages: &[String], series: &str) -> Vec<String> {
    let mut found: Vec<String> = packages
        .iter()
        .filter_map(|package| PREFIXES.iter().find_map(|prefix| package.strip_prefix(prefix)))
        .filter(|release| belongs(release, series) && release.ends_with(SUFFIX))
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

/// Releases of a series whose image is in the cache, newest first.
fn cached(home: &Path, series: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir(home).with_context(|| format!("list {}", home.display()))?;
    let mut found: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|release| belongs(release, series) && home.join(release).join("vmlinuz").is_file())
        .collect();
    found.sort_by(|a, b| by_version(b, a));
    Ok(found)
}

fn fetch(home: &Path, release: &str, archive: &Archive, packages: &[String]) -> Result<PathBuf> {
    let directory = home.join(release);
    let image = directory.join("vmlinuz");
    if image.is_file() {
        return Ok(image);
    }
    let names = PREFIXES.iter().rev().map(|prefix| format!("{prefix}{release}"));
    for package in names.filter(|name| packages.contains(name)) {
        eprintln!("vm: fetching {package}");
        let unpacked = tempfile::tempdir_in(home).context("make a directory to unpack in")?;
        archive.unpack(&package, unpacked.path())?;
        if let Some(found) = image_in(unpacked.path()) {
            fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
            fs::rename(&found, &image).with_context(|| format!("move the image to {}", image.display()))?;
            return Ok(image);
        }
    }
    bail!("no package of it has a kernel image")
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

fn forget_older(home: &Path, series: &str) -> Result<()> {
    for release in cached(home, series)?.iter().skip(KEPT_MAX) {
        let path = home.join(release);
        fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
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
        ]
        .map(str::to_owned);
        assert_eq!(
            releases(&packages, "6.1"),
            ["6.1.0-56-cloud-amd64", "6.1.0-9-cloud-amd64", "6.1.0-0.deb11.52-cloud-amd64"]
        );
        assert_eq!(releases(&packages, "7"), ["7.2.13+deb14-cloud-amd64"]);
        assert!(releases(&packages, "5.10").is_empty());
    }

    #[test]
    fn without_an_archive_the_newest_image_of_the_cache_is_taken() -> Result<()> {
        let home = tempfile::tempdir()?;
        for release in ["6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "6.1.0-11-cloud-amd64"] {
            fs::create_dir(home.path().join(release))?;
        }
        for release in ["6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64"] {
            fs::write(home.path().join(release).join("vmlinuz"), "")?;
        }
        assert_eq!(newest(home.path(), "6.1", None)?.release, "6.1.0-10-cloud-amd64", "11 has no image");
        let said = newest(home.path(), "5.10", None).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("run without --offline"), "{said}");
        Ok(())
    }

    #[test]
    fn a_series_is_numbers() {
        assert!(series("6.1").is_ok() && series("7").is_ok());
        for wrong in ["", "6.", "6.x", "../6"] {
            assert!(series(wrong).is_err(), "{wrong:?}");
        }
    }
}

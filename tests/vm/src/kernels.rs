//! Which kernels, and where their images are: `CACHE/kernels/RELEASE/vmlinuz`.

use std::cmp::Ordering;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::room::{NO_ROOM, check_room, more_room};

/// Packages tried for a series, newest first: superseded ones vanish from the archive.
const TRIES_MAX: usize = 3;
/// Images kept of a series.
const KEPT_MAX: usize = 2;
/// Before the release in a package's name; from 6.19 on the image is in the second kind.
const PREFIXES: [&str; 2] = ["linux-image-", "linux-binary-"];
const SUFFIX: &str = "-cloud-amd64";
/// Why the archive is not asked.
const OFFLINE: &str = "--offline was given";
/// Begins the name of a directory to unpack in.
const PARTIAL: &str = ".partial-";
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

/// The archive, and the names of its packages.
type Opened = (Archive, Vec<String>);

/// The newest kernel of each series: from the archive, or from the cache where that cannot be reached.
pub(crate) fn obtain(cache: &Path, series: &[String], offline: bool) -> Result<Vec<Kernel>> {
    let home = cache.join("kernels");
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    forget_partial(&home)?;
    let archive = if offline { Err(OFFLINE.into()) } else { open(cache) };
    series.iter().map(|series| newest(&home, series, archive.as_ref())).collect()
}

/// Otherwise why it cannot be used.
fn open(cache: &Path) -> Result<Opened, String> {
    let opened = Archive::open(cache).and_then(|archive| {
        let packages = archive.packages("linux-")?;
        Ok((archive, packages))
    });
    opened.map_err(|error| {
        let why = format!("{error:#}");
        eprintln!("vm: the archive cannot be used, so the cache must do: {why}");
        why
    })
}

fn newest(home: &Path, series: &str, archive: Result<&Opened, &String>) -> Result<Kernel> {
    let mut why = archive.err().cloned().unwrap_or_default();
    if let Ok((archive, packages)) = archive {
        for release in releases(packages, series).iter().take(TRIES_MAX) {
            match fetch(home, release, archive, packages) {
                Ok(image) => {
                    forget_older(home, series)?;
                    return Ok(Kernel { series: series.into(), release: release.clone(), image });
                }
                Err(error) => {
                    eprintln!("vm: {release}: {error:#}");
                    why = format!("{error:#}");
                }
            }
        }
    }
    match cached(home, series)?.first() {
        Some(release) => {
            let image = home.join(release).join("vmlinuz");
            Ok(Kernel { series: series.into(), release: release.clone(), image })
        }
        None => bail!("no kernel {series}, neither from the archive nor in {}: {}", home.display(), {
            remedy(&why, &format!("{}/{series}.0{SUFFIX}/vmlinuz", home.display()))
        }),
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

/// Whether a file is a kernel image to its last byte, by the boot protocol's header: the setup's size in sectors at 0x1f1, the
/// rest's in units of 16 bytes at 0x1f4, `HdrS` at 0x202. A signature may follow.
fn is_whole(image: &Path) -> bool {
    let mut header = [0_u8; 0x206];
    let read = fs::File::open(image).and_then(|mut file| {
        file.read_exact(&mut header)?;
        file.metadata()
    });
    let rest = u32::from_le_bytes([header[0x1f4], header[0x1f5], header[0x1f6], header[0x1f7]]);
    let needed = (u64::from(header[0x1f1]) + 1) * 512 + u64::from(rest) * 16;
    header.ends_with(b"HdrS") && read.is_ok_and(|metadata| metadata.len() >= needed)
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
        .filter(|release| belongs(release, series) && is_whole(&home.join(release).join("vmlinuz")))
        .collect();
    found.sort_by(|a, b| by_version(b, a));
    Ok(found)
}

fn fetch(home: &Path, release: &str, archive: &Archive, packages: &[String]) -> Result<PathBuf> {
    let directory = home.join(release);
    let image = directory.join("vmlinuz");
    if is_whole(&image) {
        return Ok(image);
    }
    let names = PREFIXES.iter().rev().map(|prefix| format!("{prefix}{release}"));
    for package in names.filter(|name| packages.contains(name)) {
        check_room(home)?;
        eprintln!("vm: fetching {package}");
        let unpacked = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(home);
        let unpacked = unpacked.context("make a directory to unpack in")?;
        archive.unpack(&package, unpacked.path())?;
        if let Some(found) = image_in(unpacked.path()) {
            if !is_whole(&found) {
                bail!("the image in package {package} is not whole, or for no x86-64");
            }
            // Else a machine that loses power might keep the name and not what it stands for.
            let written = fs::File::open(&found).and_then(|file| file.sync_all());
            written.with_context(|| format!("write {}", found.display()))?;
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

    /// Of a header that gives 2,064.
    fn image(bytes: usize) -> Vec<u8> {
        let mut header = [0; 0x206];
        header[0x1f1] = 3;
        header[0x1f4] = 1;
        header[0x202..].copy_from_slice(b"HdrS");
        let mut image = header.to_vec();
        image.resize(bytes, 0);
        image
    }

    #[test]
    fn what_a_killed_run_left_is_no_image() -> Result<()> {
        let home = tempfile::tempdir()?;
        let file = home.path().join("vmlinuz");
        for (bytes, whole) in
            [(image(2064), true), (image(2063), false), (vec![0; 2064], false), (Vec::new(), false)]
        {
            fs::write(&file, &bytes)?;
            assert_eq!(is_whole(&file), whole, "{} bytes", bytes.len());
        }
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
        assert_eq!(
            newest(home.path(), "6.1", Err(&OFFLINE.into()))?.release,
            "6.1.0-10-cloud-amd64",
            "11 has no image"
        );
        let error = newest(home.path(), "5.10", Err(&OFFLINE.into()))
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("run once without --offline"), "{error}");
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

//! Debian with a real systemd: made once, kept in the cache, booted as a machine or as a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::archive;
use crate::guest::{EARLIER, Guest};
use crate::initramfs::{self, Step, copy, copy_stripped, put};
use crate::room;
use crate::system::needed;
use crate::targets::SERVICE;
use observer_harness::{command, failure};

/// Says which system this is.
const RELEASE: &str = "/etc/os-release";
const PACKAGES: &str = "--include=systemd,systemd-sysv,dbus";
/// What nobody reads in there.
const LEFT_OUT: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
];
const INIT: &str = include_str!("../guest-files/init-systemd.sh");
const PLAN: &str = include_str!("../guest-files/plan.sh");
const TESTS: &str = include_str!("../guest-files/observer-tests.service");
/// Where [`TESTS`] stands.
const TESTS_AT: &str = "etc/systemd/system/observer-tests.service";
/// Has systemd start it, on the command line of a kernel or of the first process.
pub(crate) const START_TESTS: &str = "systemd.wants=observer-tests.service";

/// The root file system.
pub(crate) struct Rootfs {
    /// As a directory.
    pub(crate) directory: PathBuf,
    /// As a newc archive.
    archive: PathBuf,
}

impl Rootfs {
    /// Below `cache`; made where it is not there yet, by debootstrap, from the system's own archive.
    pub(crate) fn obtain(cache: &Path, offline: bool) -> Result<Self> {
        let home = cache.join("rootfs");
        fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        let suite = &suite()?;
        let rootfs = Self { directory: home.join(suite), archive: home.join(format!("{suite}.cpio")) };
        if !rootfs.directory.exists() {
            if offline {
                bail!("no {} yet: run once without --offline", rootfs.directory.display());
            }
            if !failure::is_root() {
                bail!("making {} takes root: run `cargo xtask vm` as root once", rootfs.directory.display());
            }
            release_root(cache, suite)?;
        }
        if !rootfs.archive.exists() {
            let leave_out = LEFT_OUT.map(Path::new);
            in_one_step(&rootfs.archive, |file| initramfs::pack(&rootfs.directory, file, &leave_out))?;
        }
        Ok(rootfs)
    }

    /// Writes a machine's archive to `file`: this, and over it what is to be tested.
    pub(crate) fn write(&self, file: &Path, guest: &Guest, steps: &[Step], marker: &str) -> Result<()> {
        let directory = tempfile::tempdir().context("make a directory for the guest's files")?;
        let root = directory.path();
        overlay(root, guest, steps, marker)?;
        initramfs::executable(root, "init", INIT)?;
        fs::copy(&self.archive, file).with_context(|| format!("copy {}", self.archive.display()))?;
        initramfs::append(root, file)
    }
}

/// The root file system of a release of Debian with systemd, made where it is not there yet.
pub(crate) fn release_root(cache: &Path, release: &str) -> Result<PathBuf> {
    let home = cache.join("rootfs");
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    let directory = home.join(release);
    if !directory.exists() {
        room::check_room(&home)?;
        in_one_step(&directory, |directory| debootstrap(release, directory))?;
    }
    Ok(directory)
}

/// What is laid over the root file system: the packages of the product, which tests install, and what is to be run.
pub(crate) fn overlay(root: &Path, guest: &Guest, steps: &[Step], marker: &str) -> Result<()> {
    copy(&needed("busybox")?, &root.join("usr/bin/busybox"))?;
    copy_stripped(guest.arch, &guest.puppet, &root.join("vm/puppet"))?;
    let earlier = guest.has_earlier().then_some(EARLIER);
    for file in ["observer.deb", "former.deb"].into_iter().chain(earlier) {
        copy(&guest.packages.join(file), &root.join("vm/packages").join(file))?;
    }
    for test in guest.tests.iter().filter(|test| test.name == SERVICE) {
        let to = root.join(initramfs::test_path(&test.name).trim_start_matches('/'));
        copy_stripped(guest.arch, &test.program, &to)?;
    }
    put(root, "vm/marker", &format!("{marker}\n"))?;
    put(root, "vm/plan", &initramfs::plan(steps)?)?;
    put(root, "vm/plan.sh", PLAN)?;
    put(root, TESTS_AT, TESTS)
}

/// Files of the overlay, as the container is to see them: paths from its root.
pub(crate) const OVERLAY: [&str; 3] = ["usr/bin/busybox", "vm", TESTS_AT];

/// The Debian that runs here, and therefore has the libraries of what is built here.
fn suite() -> Result<String> {
    let text = fs::read_to_string(RELEASE).with_context(|| format!("read {RELEASE}"))?;
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    match (value("ID"), value("VERSION_CODENAME")) {
        (Some("debian"), Some(suite)) => Ok(suite.to_owned()),
        _ => bail!(
            "{RELEASE} names no release of Debian: the tests of the unit run in one whose libraries are this machine's; run \
             them on a Debian, or `cargo xtask vm --way own,tracepoints`"
        ),
    }
}

fn debootstrap(suite: &str, directory: &Path) -> Result<()> {
    eprintln!("vm: making a Debian {suite} with systemd (a minute)");
    let address = archive::address()?;
    // It mounts /proc and /sys in there. In a mount namespace of its own they are gone with it even if it is killed, and
    // the next run can remove what is half done.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "debootstrap", "--variant=minbase", PACKAGES, suite])
        .arg(directory)
        .arg(address);
    command::quiet(&mut command)
}

/// Makes `path` under another name first: what is there under its own is whole.
fn in_one_step(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = path.with_extension("partial");
    if partial.is_dir() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    make(&partial)?;
    fs::rename(&partial, path).with_context(|| format!("rename {}", partial.display()))
}

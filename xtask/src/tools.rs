//! The tools that `cargo install` builds, each in a fixed version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use observer_harness::command;

/// A program that `cargo install` builds, in a fixed version.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    /// How long that takes on two CPUs.
    takes: &'static str,
    /// Changes of cargo's release profile.
    profile: &'static [(&'static str, &'static str)],
    /// Who says which version is there.
    version_by: VersionBy,
}

/// Who says which version of a tool is there.
#[derive(Clone, Copy)]
enum VersionBy {
    /// The tool itself, by `--version`.
    Itself,
    /// Cargo, which installed it: as a command of cargo it has no option for that.
    Cargo,
}

/// For what runs for a second a time: it is built fast rather than made fast.
const BUILT_FAST: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
];

/// Turns LLVM bitcode into a BPF object. Pinned: the verifier's verdict depends on the code that it emits.
pub(crate) const LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.10.3",
    takes: "about 70 s",
    profile: &[],
    version_by: VersionBy::Itself,
};

/// Holds the dependencies to `deny.toml`. Pinned: another version may have other rules.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    takes: "some minutes",
    profile: &BUILT_FAST,
    version_by: VersionBy::Itself,
};

/// Writes the list of the dependencies into the program, where scanners look for it.
pub(crate) const AUDITABLE: Tool = Tool {
    name: "cargo-auditable",
    version: "0.7.7",
    takes: "about 20 s",
    profile: &BUILT_FAST,
    version_by: VersionBy::Cargo,
};

/// Writes the list of the dependencies as a document.
pub(crate) const CYCLONEDX: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    takes: "about 70 s",
    profile: &BUILT_FAST,
    version_by: VersionBy::Cargo,
};

enum Installed {
    Present(PathBuf),
    /// There, with another version or failing to start.
    Other(String),
    Absent,
}

impl Tool {
    fn installed(&self) -> Installed {
        let Some(path) = command::find(self.name) else { return Installed::Absent };
        let found = match self.version_by {
            VersionBy::Itself => command::capture(Command::new(&path).arg("--version")),
            VersionBy::Cargo => command::capture(command::cargo(Path::new("/")).args(["install", "--list"]))
                .map(|list| listed(&list, self.name).unwrap_or_else(|| "not installed by cargo".to_owned())),
        };
        match found {
            Ok(version) if version.trim() == format!("{} {}", self.name, self.version) => {
                Installed::Present(path)
            }
            Ok(version) => Installed::Other(format!("{} is {}", path.display(), version.trim())),
            Err(error) => Installed::Other(format!("{error:#}")),
        }
    }

    /// Where the program is; nothing is changed.
    pub(crate) fn ready(&self) -> Result<PathBuf> {
        match self.installed() {
            Installed::Present(path) => Ok(path),
            _ => bail!("no {} {}: run cargo xtask setup", self.name, self.version),
        }
    }

    /// Installs the program unless it is there, and prints a line about it.
    pub(crate) fn install(&self) -> Result<PathBuf> {
        let Self { name, version, takes, profile, .. } = self;
        match self.installed() {
            Installed::Present(path) => {
                eprintln!("setup: {name} {version}: present");
                return Ok(path);
            }
            Installed::Other(found) => eprintln!("setup: {name} {version}: installing ({takes}; {found})"),
            Installed::Absent => eprintln!("setup: {name} {version}: installing ({takes})"),
        }
        let arguments = ["install", name, "--version", version, "--locked", "--force"];
        let mut install = command::cargo(Path::new("/"));
        // Not in the workspace: its configuration and toolchain file are not the tool's.
        install.current_dir("/").envs(profile.iter().copied()).args(arguments);
        command::quiet(&mut install).with_context(|| {
            format!(
                "install {name}: needs crates.io and a C compiler; to try by hand: cargo install {name} --version \
                 {version} --locked"
            )
        })?;
        match self.installed() {
            Installed::Present(path) => Ok(path),
            Installed::Other(found) => bail!(
                "{name} {version} was installed, but comes after another on PATH: {found}; remove that one"
            ),
            Installed::Absent => bail!(
                "{name} was installed, but not to where programs are looked for: add cargo's bin directory to PATH"
            ),
        }
    }
}

/// The name and version of a tool, from the lines `NAME vVERSION:` of `cargo install --list`.
fn listed(list: &str, name: &str) -> Option<String> {
    let rests = list.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(" v"));
    rests.map(|rest| format!("{name} {}", rest.trim_end_matches(':'))).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_which_version_of_a_command_it_installed() {
        let list = "cargo-deny v0.20.2:\n    cargo-deny\nx v1.0.0 (/src/x):\n    x\nx-y v2.0.0:\n    x-y\n";
        assert_eq!(listed(list, "cargo-deny").as_deref(), Some("cargo-deny 0.20.2"));
        assert_eq!(listed(list, "x-y").as_deref(), Some("x-y 2.0.0"));
        assert_eq!(listed(list, "cargo-auditable"), None);
    }
}

//! Debian's package manager, as far as setup needs it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{command, failure};

/// The command that installs `packages`, for a person to run as root.
pub fn install_line(packages: &[&str]) -> String {
    format!("apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Whether this system has apt.
pub fn present() -> bool {
    command::find("apt-get").is_some() && command::find("apt-cache").is_some()
}

/// Whether the package lists know all of `packages`. A machine that never fetched its lists knows none: as root,
/// they are fetched and asked again.
pub fn offers(packages: &[&str]) -> bool {
    present() && (known(packages) || (failure::is_root() && update().is_ok() && known(packages)))
}

/// Installs `packages`, from lists fetched anew if those at hand are too old to be served.
pub fn install(packages: &[&str]) -> Result<()> {
    if !present() {
        bail!("no apt-get here: install {} with this system's package manager", packages.join(", "));
    }
    if !failure::is_root() {
        bail!("run as root: {}", install_line(packages));
    }
    if known(packages) && command::quiet(&mut install_command(packages)).is_ok() {
        return Ok(());
    }
    update()?;
    command::quiet(&mut install_command(packages))
}

fn known(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        command::capture(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package]))
            .is_ok_and(|text| has_candidate(&text))
    })
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|version| version.trim() != "(none)")
}

fn update() -> Result<()> {
    command::quiet(Command::new("apt-get").args(["-o", "DPkg::Lock::Timeout=120", "-qq", "update"]))
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=120", "-qq", "-y", "--no-install-recommends", "install"])
        .args(packages);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_offered_only_with_a_candidate() {
        assert!(has_candidate("strace:\n  Installed: (none)\n  Candidate: 6.1-0.1\n"));
        assert!(!has_candidate("strace:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""), "apt-cache prints nothing about an unknown package");
    }

    #[test]
    fn the_line_for_a_person_names_every_package() {
        assert_eq!(install_line(&["a", "b"]), "apt-get install --no-install-recommends a b");
    }
}

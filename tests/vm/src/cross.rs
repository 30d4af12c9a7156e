//! What builds programs for a processor that is not this machine's: Debian's compiler, the standard library of its
//! version, and a C compiler that links. The standard library stays in the cache, so the system keeps its one architecture.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use observer_harness::workspace::Workspace;
use observer_harness::{apt, command};

use crate::arch::Arch;
use crate::sysroot::Sysroot;
use crate::unpacked::Packages;

/// Debian's compiler, and the packages that have it and the standard library.
const RUSTC: &str = "/usr/bin/rustc";
const RUSTC_PACKAGE: &str = "rustc-web";
const LIBRARY_PACKAGE: &str = "libstd-rust-web-dev";

/// The means to build for a processor.
pub struct Cross {
    arch: Arch,
    /// Where the standard library is.
    library: PathBuf,
    /// The C library to link with.
    sysroot: Sysroot,
}

impl Cross {
    /// The means, as far as they are installed; nothing is changed.
    pub fn ready(arch: Arch) -> Result<Self> {
        let setup = format!("run cargo xtask setup --target {}", arch.rust());
        ensure!(command::find(&gcc(arch)).is_some(), "no {} on PATH: {setup}", gcc(arch));
        let library = library(arch)?.present().with_context(|| format!("no standard library: {setup}"))?;
        let sysroot =
            Sysroot::present(arch).with_context(|| format!("no C library to link with: {setup}"))?;
        Ok(Self { arch, library, sysroot })
    }

    /// The means; what is missing is installed or fetched.
    pub fn obtain(arch: Arch) -> Result<Self> {
        if command::find(&gcc(arch)).is_none() {
            // The latter has the headers for libraries in C.
            let packages = [format!("gcc-{}", arch.triplet()), format!("libc6-dev-{}-cross", arch.debian())];
            eprintln!("setup: {}: installing (packages {})", gcc(arch), packages.join(", "));
            apt::install(&packages.each_ref().map(String::as_str))?;
        }
        library(arch)?.obtain()?;
        Sysroot::obtain(arch)?;
        Self::ready(arch)
    }

    /// The target directory, apart from that of this machine's builds, which have another compiler.
    pub fn directory(&self, workspace: &Workspace) -> PathBuf {
        workspace.target.join(self.arch.debian())
    }

    /// Where cargo leaves what it builds there in a profile.
    pub fn built(&self, workspace: &Workspace, profile: &str) -> PathBuf {
        self.directory(workspace).join(self.arch.target()).join(profile)
    }

    /// Flags of rustc: where the standard library is, and what links.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--sysroot={}", self.library.join("usr").display())];
        flags.push(format!("-Clinker={}", gcc(self.arch)));
        flags.extend(self.sysroot.link_arguments().iter().map(|argument| format!("-Clink-arg={argument}")));
        flags
    }

    /// Has a command of cargo, which must name no target yet, build for the processor.
    pub fn apply(&self, workspace: &Workspace, cargo: &mut Command, flags: &[String]) {
        let target = self.arch.target();
        cargo.arg("--target").arg(&target).arg("--target-dir").arg(self.directory(workspace));
        cargo.env("RUSTC", RUSTC).env(format!("CC_{}", target.replace('-', "_")), gcc(self.arch));
        cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    }

    /// The program of this name of the tools that belong to the C compiler: `strip`, `objdump`.
    pub fn tool(arch: Arch, name: &str) -> String {
        if Some(arch) == Arch::of_this_machine() { name.into() } else { format!("{}-{name}", arch.triplet()) }
    }
}

fn gcc(arch: Arch) -> String {
    format!("{}-gcc", arch.triplet())
}

/// The standard library, of the version that the compiler has.
fn library(arch: Arch) -> Result<Packages<'static>> {
    if !Path::new(RUSTC).exists() {
        bail!("no {RUSTC}, which builds for other processors: install Debian's package {RUSTC_PACKAGE}");
    }
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Version}", RUSTC_PACKAGE]);
    let version = command::capture(&mut query)?;
    Ok(Packages {
        arch,
        directory: format!("rust/{}{}", version.trim(), arch.apart()),
        what: "Rust's standard library for another processor",
        packages: vec![format!("{LIBRARY_PACKAGE}={}", version.trim())],
    })
}

//! `cargo xtask build`: the kernel programs, then the program that carries them.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;
use observer_vm::{Arch, Cross, Sysroot};

use crate::former;
use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::{self, Workspace};
use observer_harness::command;

/// Build the kernel programs and target/release/observer.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program in the dev profile: target/debug/observer. The kernel programs are always optimised: the
    /// verifier takes no others.
    #[arg(long)]
    debug: bool,
    /// Instead, the programs of former versions, for the tests of upgrades, which `cargo xtask test` runs from then on. They are
    /// built once and kept in the cache (~/.cache/observer-former).
    #[arg(long, conflicts_with = "debug")]
    former: bool,
    /// The program for this processor: target/arm64/aarch64-unknown-linux-gnu/release/observer. `cargo xtask setup --target` installs
    /// what that needs.
    #[arg(long, conflicts_with_all = ["debug", "former"], value_enum)]
    target: Option<Arch>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let toolchain = Toolchain::ready()?;
    if arguments.former {
        for program in former::build(workspace, &toolchain)? {
            eprintln!("xtask: built {}", program.display());
        }
    } else if arguments.debug {
        kernel_programs(workspace, &toolchain)?;
        // With the features of the whole workspace, as the tests are built.
        command::run(&mut workspace.cargo(&["build", "--bin", "observer"]))?;
        eprintln!("xtask: built {}", workspace.target.join("debug/observer").display());
    } else {
        let binary = match arguments.target.and_then(other) {
            None => release(workspace, &toolchain)?,
            Some(arch) => release_for(workspace, &toolchain, arch)?,
        };
        eprintln!("xtask: built {}", binary.display());
    }
    Ok(())
}

/// The processor, if it is not this machine's.
pub(crate) fn other(arch: Arch) -> Option<Arch> {
    (Some(arch) != Arch::of_this_machine()).then_some(arch)
}

/// Builds everything for another processor in the release profile; returns where the program is.
pub(crate) fn release_for(workspace: &Workspace, toolchain: &Toolchain, arch: Arch) -> Result<PathBuf> {
    let cross = Cross::ready(arch)?;
    kernel_programs(workspace, toolchain)?;
    let mut cargo = workspace.cargo(&["auditable", "build"]);
    cargo.args(["--release", "--package", "observer", "--bin", "observer"]);
    let mut flags = cross.flags();
    flags.extend(workspace::without_directories(&workspace.root));
    cross.apply(workspace, &mut cargo, &flags);
    command::run(&mut cargo)?;
    Ok(cross.built(workspace, "release").join("observer"))
}

/// Builds everything in the release profile; returns where the program is.
pub(crate) fn release(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    kernel_programs(workspace, toolchain)?;
    let product = ["--release", "--package", "observer", "--bin", "observer", "--"];
    let mut cargo = workspace.cargo(&["auditable", "rustc"]);
    cargo.args(product);
    // The package has this very program, so it is linked for the oldest system that the package is for.
    let sysroot = Arch::of_this_machine().and_then(Sysroot::present);
    let link = sysroot.iter().flat_map(Sysroot::link_arguments);
    cargo.args(link.map(|argument| format!("-Clink-arg={argument}")));
    without_directories(&mut cargo, workspace);
    command::run(&mut cargo)?;
    Ok(workspace.release_binary())
}

/// Has a release build name no directory of the machine that builds it. All release builds have the same flags: libraries are
/// built for each set of flags.
pub(crate) fn without_directories(command: &mut Command, workspace: &Workspace) {
    let mut flags = flags_of_environment();
    flags.extend(workspace::without_directories(&workspace.root));
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
}

/// The flags that the caller has for rustc.
fn flags_of_environment() -> Vec<String> {
    let split = |name: &str, at: char| {
        let value = env::var(name).ok()?;
        Some(value.split(at).filter(|flag| !flag.is_empty()).map(str::to_owned).collect())
    };
    split("CARGO_ENCODED_RUSTFLAGS", '\x1f').or_else(|| split("RUSTFLAGS", ' ')).unwrap_or_default()
}

/// Builds the kernel programs alone, and puts them where the product's build looks for them.
pub(crate) fn kernel_programs(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    // A target directory of their own: other flags and another compiler would have the host's builds thrown
    // away at each turn.
    let directory = workspace.root.join("target/bpf-build");
    command::run(&mut toolchain.build_command(&workspace.root, &directory))
        .context("build the kernel programs")?;
    let built = directory.join(TARGET).join("release/observer-ebpf");
    let object = workspace.bpf_object();
    let bytes = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    let bytes = without_debug_sections(&bytes).with_context(|| format!("strip {}", built.display()))?;
    write_if_changed(&bytes, &object).with_context(|| format!("write {}", object.display()))
}

/// Returns the object without what only a debugger reads, which is most of it. The kernel takes types and lines from
/// the sections of BTF.
fn without_debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    for section in &mut builder.sections {
        let name = section.name.to_vec();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // The linker keeps the names of sections among those of symbols.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// Leaves `to` alone when it holds these bytes: its age decides whether the program is built again. Otherwise
/// replaces it in one step.
fn write_if_changed(bytes: &[u8], to: &Path) -> Result<()> {
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let directory = to.parent().context("no directory to copy into")?;
    fs::create_dir_all(directory)?;
    let readable_by_all = fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().permissions(readable_by_all).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.persist(to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_with_the_same_bytes_keeps_its_age() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let to = directory.path().join("bpf/observer.bpf.o");
        write_if_changed(b"one", &to)?;
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::options().write(true).open(&to)?.set_modified(old)?;

        write_if_changed(b"one", &to)?;
        assert_eq!(fs::metadata(&to)?.modified()?, old);

        write_if_changed(b"two", &to)?;
        assert_eq!(fs::read_to_string(&to)?, "two");
        assert_ne!(fs::metadata(&to)?.modified()?, old);
        assert_eq!(fs::read_dir(directory.path().join("bpf"))?.count(), 1, "no temporary file is left");
        Ok(())
    }
}

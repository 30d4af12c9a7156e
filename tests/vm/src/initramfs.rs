//! The guest's file system: busybox, the system's own programs that tests call (with their libraries), and what is to
//! be tested. One uncompressed newc archive.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Arch;
use crate::cross::Cross;
use crate::guest::Guest;
use crate::system::System;
use observer_harness::command;

/// Where the guest has what is tested.
pub(crate) const HOME: &str = "/vm";
const INIT: &str = include_str!("../guest-files/init.sh");
const PLAN: &str = include_str!("../guest-files/plan.sh");
/// Programs that tests call and whose behaviour is part of the test: busybox's differ.
const PROGRAMS: [&str; 16] = [
    "bash", "cat", "date", "env", "install", "nice", "script", "setpriv", "setsid", "sh", "sleep", "stdbuf",
    "timeout", "tmux", "true", "unshare",
];
/// Data of theirs.
const DATA: [&str; 4] =
    ["/usr/lib/locale/C.utf8", "/lib/terminfo/l/linux", "/lib/terminfo/x/xterm", "/lib/terminfo/s/screen"];
const DIRECTORIES: [&str; 20] = [
    "bin", "busybox", "dev", "etc", "lib", "lib64", "mnt", "newroot", "proc", "root", "run", "sbin", "srv",
    "sys", "tmp", "usr/bin", "usr/lib", "var/lib", "var/tmp", "vm/deps",
];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";

/// One line of the guest's plan: a name for the report, a limit in seconds, and a command.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) limit_s: u32,
    pub(crate) command: Vec<String>,
}

/// Where the guest has a test target's program.
pub(crate) fn test_path(name: &str) -> String {
    format!("{HOME}/deps/{name}")
}

/// Writes the archive to `file`.
pub(crate) fn write(file: &Path, guest: &Guest, steps: &[Step], marker: &str) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory for the guest's files")?;
    let root = directory.path();
    let mut programs = base(root, &guest.system)?;
    for (from, to) in [(&guest.observer, "observer"), (&guest.puppet, "puppet")] {
        copy_stripped(guest.arch, from, &root.join("vm").join(to))?;
        programs.push(from.clone());
    }
    for test in &guest.tests {
        let to = root.join(test_path(&test.name).trim_start_matches('/'));
        copy_stripped(guest.arch, &test.program, &to)?;
        programs.push(test.program.clone());
    }
    for (library, to) in guest.system.libraries(&programs)? {
        copy(&library, &below(root, &to))?;
    }
    put(root, "vm/marker", &format!("{marker}\n"))?;
    put(root, "vm/plan", &plan(steps)?)?;
    put(root, "vm/plan.sh", PLAN)?;
    pack(root, file, &[])
}

/// The plan as the guest reads it.
pub(crate) fn plan(steps: &[Step]) -> Result<String> {
    let mut text = String::new();
    for step in steps {
        let words = step.command.iter().chain([&step.name]);
        // The guest's shell takes a line apart at blanks, and expands the rest.
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '=' | ':' | ',' | '+');
        for word in words {
            ensure!(
                !word.is_empty() && word.chars().all(plain),
                "{word:?} is no part of a test's name: give letters, digits, _ and ::"
            );
        }
        text.push_str(&format!("{} {} {}\n", step.name, step.limit_s, step.command.join(" ")));
    }
    Ok(text)
}

/// The guest's own files and the system's programs, which are returned.
fn base(root: &Path, system: &System) -> Result<Vec<PathBuf>> {
    for directory in DIRECTORIES {
        let path = root.join(directory);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    for open in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(open), fs::Permissions::from_mode(0o1777))
            .with_context(|| format!("open {open} to all"))?;
    }
    put(root, "etc/passwd", PASSWD)?;
    put(root, "etc/group", GROUP)?;
    put(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
    put(root, "etc/os-release", "ID=observer-vm\nNAME=\"observer's test machine\"\n")?;
    executable(root, "init", INIT)?;
    copy(&system.program("busybox")?, &root.join("bin/busybox"))?;
    let mut programs = Vec::new();
    for name in PROGRAMS {
        let program = system.program(name)?;
        copy(&program, &root.join("usr/bin").join(name))?;
        // Scripts and tests name some by the old directory.
        symlink(format!("/usr/bin/{name}"), root.join("bin").join(name))
            .with_context(|| format!("link {name}"))?;
        programs.push(program);
    }
    for path in DATA {
        copy_all(Path::new(path), root)?;
    }
    Ok(programs)
}

/// The place of an absolute path in a tree.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The file or directory `path` of this system at the same place below `root`. What is not there is left out.
fn copy_all(path: &Path, root: &Path) -> Result<()> {
    let to = below(root, path);
    if path.is_dir() {
        fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
        for entry in fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
            copy_all(&entry.with_context(|| format!("list {}", path.display()))?.path(), root)?;
        }
    } else if path.exists() {
        copy(path, &to)?;
    }
    Ok(())
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    fs::copy(from, to).map(drop).with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

/// A program without what only a debugger reads: the guest has its files in memory.
pub(crate) fn copy_stripped(arch: Arch, from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    command::quiet(Command::new(Cross::tool(arch, "strip")).arg("-o").arg(to).arg(from))
}

pub(crate) fn put(root: &Path, name: &str, text: &str) -> Result<()> {
    let path = root.join(name);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write the guest's {name}"))
}

pub(crate) fn executable(root: &Path, name: &str, text: &str) -> Result<()> {
    put(root, name, text)?;
    fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make the guest's {name} executable"))
}

/// Writes everything below `root` to `file`, but for what is below `left_out`.
pub(crate) fn pack(root: &Path, file: &Path, left_out: &[&Path]) -> Result<()> {
    let archive = fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
    pack_to(root, archive, left_out)
}

/// Adds everything below `root` to the archive `file`: newc archives may follow each other, and of two files with one name the last counts.
pub(crate) fn append(root: &Path, file: &Path) -> Result<()> {
    let archive = fs::File::options().append(true).open(file);
    pack_to(root, archive.with_context(|| format!("open {}", file.display()))?, &[])
}

fn pack_to(root: &Path, archive: fs::File, left_out: &[&Path]) -> Result<()> {
    let mut names = Vec::new();
    list(root, Path::new(""), left_out, &mut names)?;
    let mut cpio = Command::new("cpio")
        .current_dir(root)
        .args(["--create", "--format=newc", "--null", "--quiet", "--owner=+0:+0"])
        .stdin(Stdio::piped())
        .stdout(archive)
        .spawn()
        .context("start cpio (cargo xtask setup installs it)")?;
    let mut input = cpio.stdin.take().context("cpio's input is not piped")?;
    input.write_all(&names).context("name the guest's files to cpio")?;
    drop(input);
    let status = cpio.wait().context("wait for cpio")?;
    if !status.success() {
        bail!("cpio failed ({status}); its own message stands above");
    }
    Ok(())
}

/// Every path below `root`, a directory before what it holds, each ended by a NUL.
fn list(root: &Path, below: &Path, left_out: &[&Path], names: &mut Vec<u8>) -> Result<()> {
    let here = root.join(below);
    for entry in fs::read_dir(&here).with_context(|| format!("list {}", here.display()))? {
        let entry = entry.with_context(|| format!("list {}", here.display()))?;
        let path = below.join(entry.file_name());
        if left_out.contains(&path.as_path()) {
            continue;
        }
        names.extend_from_slice(path.as_os_str().as_encoded_bytes());
        names.push(0);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(root, &path, left_out, names)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_the_guests_shell_would_expand_is_refused() {
        let step =
            |word: &str| Step { name: "t".into(), limit_s: 9, command: vec!["run".into(), word.into()] };
        assert_eq!(plan(&[step("cwd::a_b")]).ok().as_deref(), Some("t 9 run cwd::a_b\n"));
        for wrong in ["", "$(x)", "a b", "*", "a\nb"] {
            assert!(plan(&[step(wrong)]).is_err(), "{wrong:?}");
        }
    }
}

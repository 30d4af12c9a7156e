//! The files of the package below a root directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use observer_harness::command;

use crate::page;
use crate::version::{Version, date};
use observer_harness::workspace::Workspace;

/// Says what is packaged besides what is made here.
const FILES: &str = "packaging/files";
const CONFIGURATION: &str = "packaging/observer.toml";
/// Where each shell looks for the completions of a package.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/observer"),
    ("zsh", "usr/share/zsh/vendor-completions/_observer"),
    ("fish", "usr/share/fish/vendor_completions.d/observer.fish"),
];
/// Where the program is.
pub(crate) const PROGRAM: &str = "usr/bin/observer";
/// Where the list of dependencies is.
pub(crate) const SBOM: &str = "usr/share/doc/observer/observer.cdx.json";

/// Lays the files out below `tree`. The program's debug symbols go to the file `debug`.
pub(crate) fn lay_out(workspace: &Workspace, tree: &Path, sbom: &Path, debug: &Path) -> Result<()> {
    let binary = workspace.release_binary();
    strip(&binary, &above(&tree.join(PROGRAM))?, debug)?;
    let pages = tree.join("usr/share/man/man1");
    fs::create_dir_all(&pages).with_context(|| format!("create {}", pages.display()))?;
    command::quiet(Command::new(&binary).arg("man").arg(&pages))?;
    write_page(workspace, &tree.join("usr/share/man/man5/observer.toml.5"))?;
    for (shell, path) in COMPLETIONS {
        let script = command::capture(Command::new(&binary).args(["completions", shell]))?;
        write(&tree.join(path), &script)?;
    }
    copy(sbom, &tree.join(SBOM))?;
    copy_listed(workspace, tree)?;
    set_modes(tree)
}

/// Copies what is packaged besides what is made.
pub(crate) fn copy_listed(workspace: &Workspace, tree: &Path) -> Result<()> {
    let list = workspace.root.join(FILES);
    let list = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    for (from, to) in listed(&list)? {
        for file in matching(&workspace.root, from)? {
            let name = file.file_name().with_context(|| format!("{from} has no name"))?;
            let to = if to.ends_with('/') { tree.join(to).join(name) } else { tree.join(to) };
            copy(&file, &to)?;
        }
    }
    Ok(())
}

fn write_page(workspace: &Workspace, file: &Path) -> Result<()> {
    let toml = fs::read_to_string(workspace.root.join(CONFIGURATION)).context("read the configuration")?;
    let version = Version::of(workspace)?;
    write(file, &page::page(&toml, &version.debian, &date(version.epoch, "+%Y-%m-%d")?))
}

/// Copies the program without what a debugger reads, which goes to `debug`: gdb finds it by the program's build id, or beside
/// the program.
fn strip(binary: &Path, to: &Path, debug: &Path) -> Result<()> {
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--only-keep-debug", "--compress-debug-sections"]).arg(binary).arg(debug);
    command::quiet(&mut objcopy)?;
    command::quiet(Command::new("strip").args(["--strip-all", "-o"]).arg(to).arg(binary))?;
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(debug);
    command::quiet(Command::new("objcopy").arg(link).arg(to))
}

/// The lines of the list: what, and where it goes.
fn listed(list: &str) -> Result<Vec<(&str, &str)>> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [from, to] = words.as_slice() else {
                bail!("{FILES}: {line:?} is not two words: write what is packaged, and where it goes");
            };
            ensure!(!to.starts_with('/'), "{FILES}: {to}: write the path without the first /");
            Ok((*from, *to))
        })
        .collect()
}

/// The file of this name, or the files that match the `*` in the last part of it, in the order of their names.
fn matching(root: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let path = root.join(pattern);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let Some((begin, end)) = name.split_once('*') else {
        ensure!(path.is_file(), "{FILES}: {pattern} is no file");
        return Ok(vec![path]);
    };
    let directory = path.parent().with_context(|| format!("{pattern} has no directory"))?;
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let fits = name.strip_prefix(begin).is_some_and(|rest| rest.ends_with(end));
        file.is_file() && fits && !name.starts_with('.')
    });
    files.sort();
    Ok(files)
}

/// Every path below `directory` without it, in order.
pub(crate) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut unread = vec![directory.to_path_buf()];
    while let Some(here) = unread.pop() {
        for entry in fs::read_dir(&here).with_context(|| format!("list {}", here.display()))? {
            let path = entry.with_context(|| format!("list {}", here.display()))?.path();
            if path.is_dir() {
                unread.push(path);
            } else {
                files.push(path.strip_prefix(directory).unwrap_or(&path).to_path_buf());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Sets the modes of all files, whatever the umask of the builder.
pub(crate) fn set_modes(tree: &Path) -> Result<()> {
    let set = |path: &Path, mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, permissions).with_context(|| format!("set the mode of {}", path.display()))
    };
    set(tree, 0o755)?;
    for file in files_below(tree)? {
        for directory in file.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            set(&tree.join(directory), 0o755)?;
        }
        set(&tree.join(&file), if file == Path::new(PROGRAM) { 0o755 } else { 0o644 })?;
    }
    Ok(())
}

fn above(path: &Path) -> Result<PathBuf> {
    let directory = path.parent().with_context(|| format!("{} has no directory", path.display()))?;
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(path.to_path_buf())
}

/// Copies a file, and makes the directories above it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let to = above(to)?;
    fs::copy(from, &to).map(drop).with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

/// Writes a file, and the directories above it.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(above(path)?, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_has_two_words() {
        let found = listed("# a\n\nx/y.toml  etc/x/\n").ok();
        assert_eq!(found, Some(vec![("x/y.toml", "etc/x/")]));
        for wrong in ["x", "x y z", "x /etc/"] {
            assert!(listed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_glob_may_match_nothing_and_a_file_must_be_there() -> Result<()> {
        let root = tempfile::tempdir()?;
        for name in ["b.md", "a.md", "c.txt", ".d.md"] {
            write(&root.path().join("docs").join(name), "")?;
        }
        let found = matching(root.path(), "docs/*.md")?;
        assert_eq!(found, [root.path().join("docs/a.md"), root.path().join("docs/b.md")]);
        assert!(matching(root.path(), "none/*")?.is_empty());
        assert!(matching(root.path(), "docs/e.md").is_err());
        Ok(())
    }
}

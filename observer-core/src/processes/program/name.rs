//! Names of programs in paths, modules and classes. Each name is a part of what it is found in.

use alloc::vec::Vec;

use crate::processes::program::language::Language;

/// File names that say nothing of the program. Its package's directory does.
const GENERIC_FILES: [&str; 10] =
    ["__init__", "__main__", "app", "application", "bin", "cli", "index", "main", "mod", "server"];

/// Last parts of modules that say nothing of the program.
const GENERIC_MODULES: [&str; 3] = ["__main__", "cli", "main"];

/// Directories within a package, which say nothing of it either.
const GENERIC_DIRS: [&str; 24] = [
    ".", ".bin", "bin", "build", "cjs", "cli", "cmd", "current", "debug", "dist", "esm", "lib", "lib64",
    "libexec", "local", "main", "out", "release", "releases", "scripts", "share", "src", "target",
    "versions",
];

/// Directories that hold packages.
const PACKAGE_DIRS: [&str; 3] = ["node_modules", "site-packages", "dist-packages"];

/// Returns the last component of a path, or `None` if that names no file.
pub(super) fn base(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().rposition(|&byte| byte != b'/')? + 1;
    let path = path.get(..end)?;
    let base = path.rsplit(|&byte| byte == b'/').next()?;
    (!matches!(base, b"" | b"." | b"..")).then_some(base)
}

/// Returns the path without the mark that the kernel adds to that of a deleted file.
pub(super) fn without_deleted(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}

/// Returns whether a path leads to what another one names, through a link in procfs.
pub(super) fn is_in_procfs(path: &[u8]) -> bool {
    path.strip_prefix(b"/").and_then(|path| path.split(|&byte| byte == b'/').next()) == Some(b"proc")
}

/// Returns whether a path stands for an open file, such as `/dev/fd/63` of `bash <(command)`.
pub(super) fn is_descriptor(path: &[u8]) -> bool {
    path.starts_with(b"/dev/fd/")
        || path == b"/dev/stdin"
        || (is_in_procfs(path) && path.rsplit(|&byte| byte == b'/').nth(1) == Some(b"fd"))
}

/// Returns whether the name can be a file's and is no title or message.
pub(super) fn is_plain(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte >= 0x80 || b"._+-".contains(&byte))
}

/// What separates the parts of the name of an executable.
const SEPARATORS: &[u8] = b"._+-";

/// Returns whether a name has several parts.
pub(super) fn has_parts(name: &[u8]) -> bool {
    name.iter().any(|byte| SEPARATORS.contains(byte))
}

/// Returns whether `part` stands in `name` between its ends or separators, as `emacs` in `emacs-gtk`.
pub(super) fn is_part(part: &[u8], name: &[u8]) -> bool {
    let separates = |byte: Option<&u8>| byte.is_none_or(|byte| SEPARATORS.contains(byte));
    !part.is_empty()
        && name.windows(part.len()).enumerate().any(|(at, window)| {
            window == part
                && separates(at.checked_sub(1).and_then(|before| name.get(before)))
                && separates(name.get(at + part.len()))
        })
}

/// The separators in a name up to which its parts are listed.
const SEPARATORS_MAX: usize = 7;

/// Returns every part of a name, as [`is_part`] finds them; `None` if there are too many.
pub(super) fn parts(name: &[u8]) -> Option<Vec<&[u8]>> {
    let places = name.iter().enumerate().filter(|(_, byte)| SEPARATORS.contains(byte)).map(|(at, _)| at);
    let places: Vec<usize> = places.take(SEPARATORS_MAX + 1).collect();
    if places.len() > SEPARATORS_MAX {
        return None;
    }
    let begins = core::iter::once(0).chain(places.iter().map(|at| at + 1));
    let ends = || places.iter().copied().chain([name.len()]);
    let parts = begins.flat_map(|begin| ends().filter_map(move |end| name.get(begin..end)));
    Some(parts.filter(|part| !part.is_empty()).collect())
}

/// Returns whether a file name is a version, such as `2.0.14` or `v1.2-rc1`.
pub(super) fn is_version(base: &[u8]) -> bool {
    let number = base.strip_prefix(b"v").unwrap_or(base);
    let number = number.split(|byte| b"-+".contains(byte)).next().unwrap_or_default();
    number.first().is_some_and(u8::is_ascii_digit)
        && number.contains(&b'.')
        && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Returns the name under which Nix hides a program behind a wrapper: `foo` of `.foo-wrapped`.
pub(super) fn unwrapped(base: &[u8]) -> &[u8] {
    let inner = base.strip_prefix(b".").and_then(|base| base.strip_suffix(b"-wrapped"));
    inner.filter(|inner| !inner.is_empty()).unwrap_or(base)
}

/// Returns the name of an executable: its file name, or its package's where the file is named by a version.
pub(super) fn executable(path: &[u8]) -> Option<&[u8]> {
    let base = base(path)?;
    if is_version(base) {
        return package(path).or(Some(base));
    }
    Some(unwrapped(base))
}

/// Returns the name of a script: its file name without the language's extension, or its package's where the
/// file name is generic. A script of a shell keeps its whole file name. `None`: the path names no file.
pub(super) fn script<'a>(path: &'a [u8], language: &Language) -> Option<&'a [u8]> {
    if is_descriptor(path) {
        return None;
    }
    let path = specified(path);
    let base = unwrapped(base(path)?);
    let stem = language.extensions.iter().find_map(|extension| {
        let stem = base.strip_suffix(extension.as_bytes())?.strip_suffix(b".")?;
        (!stem.is_empty()).then_some(stem)
    });
    let stem = stem.unwrap_or(base);
    if !language.is_shell && is_generic(stem) {
        return package(path).or(Some(stem));
    }
    Some(stem)
}

/// Returns the path in a specifier of Deno or Bun: without the registry and the version, or without a URL's
/// query.
fn specified(path: &[u8]) -> &[u8] {
    let registry = [b"npm:".as_slice(), b"jsr:"].into_iter().find_map(|registry| path.strip_prefix(registry));
    if let Some(package) = registry {
        let version = package.iter().skip(1).position(|&byte| byte == b'@');
        return version.and_then(|at| package.get(..=at)).unwrap_or(package);
    }
    if path.windows(3).any(|window| window == b"://") {
        return path.split(|byte| b"?#".contains(byte)).next().unwrap_or(path);
    }
    path
}

/// Returns the name of a module, without last parts that are generic: `aider` of `aider.__main__`. Of a Java
/// module with its class, the module.
pub(super) fn module(module: &[u8]) -> Option<&[u8]> {
    let mut name = module.split(|&byte| byte == b'/').next()?;
    while let Some(dot) = name.iter().rposition(|&byte| byte == b'.') {
        let (before, last) = (name.get(..dot)?, name.get(dot + 1..)?);
        if before.is_empty() || !GENERIC_MODULES.iter().any(|generic| generic.as_bytes() == last) {
            break;
        }
        name = before;
    }
    (!name.is_empty()).then_some(name)
}

/// Returns the name of a class without its package, or the package's last part where the class's is generic.
pub(super) fn class(class: &[u8]) -> Option<&[u8]> {
    let class = class.rsplit(|&byte| byte == b'/').next()?;
    let mut parts = class.rsplit(|&byte| byte == b'.').filter(|part| !part.is_empty());
    let last = parts.next()?;
    // Kotlin makes the class MainKt of Main.kt.
    let is_generic = is_generic(last.strip_suffix(b"Kt").unwrap_or(last));
    parts.next().filter(|_| is_generic).or(Some(last))
}

/// Returns the program's name in a title that a process gave itself: its first word, without a path. `None` if
/// that is no name.
pub(super) fn title(title: &[u8]) -> Option<&[u8]> {
    let word = title.split(|byte| b" :".contains(byte)).next()?;
    base(word).filter(|name| is_plain(name))
}

fn is_generic(stem: &[u8]) -> bool {
    GENERIC_FILES.iter().any(|generic| generic.as_bytes().eq_ignore_ascii_case(stem))
}

/// Returns the name of the package that a file belongs to: the directory below `node_modules` or the like, else
/// the nearest one with a telling name. Neither a top directory nor a user's own counts.
fn package(path: &[u8]) -> Option<&[u8]> {
    let is_holder = |dir: &[u8]| PACKAGE_DIRS.iter().any(|holder| holder.as_bytes() == dir);
    let mut below: [Option<&[u8]>; 2] = [None, None];
    for (_, dir) in parents(path) {
        if is_holder(dir) {
            let [scope, inner] = below;
            return if scope.is_some_and(|scope| scope.starts_with(b"@")) { inner.or(scope) } else { scope };
        }
        below = [Some(dir), below[0]];
    }
    for (above, dir) in parents(path) {
        if dir == b".." || above == Some(b"") || above == Some(b"/home") {
            return None;
        }
        let is_telling = !dir.is_empty()
            && !is_version(dir)
            && !GENERIC_DIRS.iter().any(|generic| generic.as_bytes().eq_ignore_ascii_case(dir));
        if is_telling {
            return Some(dir);
        }
    }
    None
}

/// Returns the directories of a file, the nearest first, each with the path above it.
fn parents(path: &[u8]) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
    let cut = |path: &[u8]| path.iter().rposition(|&byte| byte == b'/');
    let mut rest = cut(path).and_then(|at| path.get(..at));
    core::iter::from_fn(move || {
        let dir = rest?;
        let at = cut(dir);
        rest = at.and_then(|at| dir.get(..at));
        Some((rest, at.map_or(dir, |at| dir.get(at + 1..).unwrap_or_default())))
    })
}

//! What holds of the package, without installing it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use observer_harness::command;

use crate::made::{Dist, SUMS};
use crate::{archive, tree};
use observer_harness::workspace::Workspace;

/// The C library of the oldest Debian that the package is for, Debian 11.
const GLIBC_MAX: (u32, u32) = (2, 31);
/// The section in which scanners look for the dependencies.
const DEPENDENCIES: &str = ".dep-v0";
/// The libraries of the packages that `Depends:` names: libc6 and libgcc-s1.
const LIBRARIES: [&str; 7] = [
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
];
/// Files that debhelper adds.
const ADDED: [&str; 2] = ["usr/share/doc/observer/changelog.gz", "usr/share/doc/observer/copyright"];
/// What a package without these would not be for.
const NEEDED: [&str; 13] = [
    "usr/bin/observer",
    "usr/lib/systemd/system/observer.service",
    "usr/lib/sysusers.d/observer.conf",
    "usr/share/bash-completion/completions/observer",
    "usr/share/doc/observer/observer.cdx.json",
    "usr/share/fish/vendor_completions.d/observer.fish",
    "usr/share/observer/alerts/observer.rules.yml",
    "usr/share/observer/dashboards/observer-metrics.json",
    "usr/share/observer/dashboards/observer-postgres.json",
    "usr/share/man/man1/observer-rules-check.1.gz",
    "usr/share/man/man5/observer.toml.5.gz",
    "usr/share/observer/observer.toml",
    "usr/share/zsh/vendor-completions/_observer",
];
/// Libraries that the product and its kernel programs have, and one that only tests have.
const LISTED: [&str; 6] = ["rusqlite", "aya", "ring", "observer-ebpf", "aya-ebpf", "aya-log-ebpf"];
const NOT_LISTED: &str = "proptest";

/// Runs every check.
pub(crate) fn everything(workspace: &Workspace, dist: &Dist) -> Result<()> {
    contents(dist).context("what is in the package")?;
    links(&dist.tree).context("the links of the documents")?;
    archived(dist).context("what is in the archive")?;
    fields(dist).context("the package's fields")?;
    scripts(dist).context("the package's scripts")?;
    program(workspace, dist).context("the program in the package")?;
    pages(dist).context("the man pages")?;
    completions(dist).context("the completions")?;
    dependencies(workspace, dist).context("the list of dependencies")?;
    command::quiet(Command::new("sha256sum").current_dir(&dist.directory).args(["--check", "--strict", SUMS]))
        .context("the sums")
}

/// One line of a package's list of files.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    mode: &'a str,
    owner: &'a str,
    path: &'a str,
}

/// `MODE OWNER/GROUP SIZE DATE TIME ./PATH`
fn entries(list: &str) -> Vec<Entry<'_>> {
    let entry = |line| {
        let mut words = str::split_whitespace(line);
        let (mode, owner) = (words.next()?, words.next()?);
        let path = words.nth(3)?;
        Some(Entry { mode, owner, path: path.strip_prefix("./").unwrap_or(path) })
    };
    list.lines().filter_map(entry).collect()
}

/// The files in a list, all of which must belong to `root` and have the modes that they are installed with.
fn files(list: &str, root: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for Entry { mode, owner, path } in entries(list) {
        ensure!(owner == root, "{path} belongs to {owner}");
        let expected = match path {
            tree::PROGRAM => "-rwxr-xr-x",
            path if path.is_empty() || path.ends_with('/') => "drwxr-xr-x",
            _ => "-rw-r--r--",
        };
        ensure!(mode == expected, "{path} has the mode {mode} and not {expected}");
        if !path.is_empty() && !path.ends_with('/') {
            found.insert(path.to_owned());
        }
    }
    Ok(found)
}

fn contents(dist: &Dist) -> Result<()> {
    let list = command::capture(Command::new("dpkg-deb").arg("--contents").arg(&dist.deb))?;
    let found = files(&list, "root/root")?;
    let mut expected: BTreeSet<_> = ADDED.map(str::to_owned).into();
    for file in tree::files_below(&dist.tree)? {
        let path = file.to_str().context("a path that is no text")?;
        let end = if path.starts_with("usr/share/man/") { ".gz" } else { "" };
        expected.insert(format!("{path}{end}"));
    }
    ensure!(found == expected, "differs from what was laid out: {:?}", found.symmetric_difference(&expected));
    for path in NEEDED {
        ensure!(found.contains(path), "{path} is missing");
    }
    Ok(())
}

/// Every relative link of a document in `tree` leads to a file in it.
fn links(tree: &Path) -> Result<()> {
    let (mut dead, mut found) = (Vec::new(), 0_usize);
    for file in tree::files_below(tree)? {
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text =
            fs::read_to_string(tree.join(&file)).with_context(|| format!("read {}", file.display()))?;
        for target in targets(&text) {
            found += 1;
            let path = from(&file, target);
            if path.is_none_or(|path| !tree.join(path).exists()) {
                dead.push(format!("{}: {target}", file.display()));
            }
        }
    }
    ensure!(dead.is_empty(), "add to packaging/files what these lead to: {}", dead.join(", "));
    ensure!(found > 0, "no document has a link: adapt tests/dist/src/check.rs");
    Ok(())
}

/// The files to which the links of a document lead, without those of the network and those within the document.
fn targets(markdown: &str) -> Vec<&str> {
    let ends = markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let ends = ends.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    ends.filter_map(|target| target.split('#').next()).filter(|path| !path.is_empty()).collect()
}

/// The path to which `target` leads from `file`; `None` where it leads out of the tree.
fn from(file: &Path, target: &str) -> Option<PathBuf> {
    let mut path = file.parent()?.to_path_buf();
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn archived(dist: &Dist) -> Result<()> {
    let mut tar = Command::new("tar");
    // Without the directory that all of it is in, as README has it unpacked.
    tar.args([
        "--list",
        "--verbose",
        "--numeric-owner",
        "--show-transformed-names",
        "--transform=s,^[^/]*/,,",
    ]);
    let list = command::capture(tar.arg("--file").arg(&dist.archive))?;
    let found = files(&list, "0/0")?;
    let mut expected: BTreeSet<_> = archive::ADDED.map(|(_, to)| to.to_owned()).into();
    for file in tree::files_below(&dist.tree)? {
        expected.insert(file.to_str().context("a path that is no text")?.to_owned());
    }
    ensure!(found == expected, "differs from what was laid out: {:?}", found.symmetric_difference(&expected));
    Ok(())
}

fn field(deb: &Path, name: &str) -> Result<String> {
    let text = command::capture(Command::new("dpkg-deb").arg("--field").arg(deb).arg(name))?;
    Ok(text.trim().to_owned())
}

fn fields(dist: &Dist) -> Result<()> {
    let version = field(&dist.deb, "Version")?;
    ensure!(version == dist.version.debian, "the version is {version}");
    for (lower, higher) in [(&dist.former, &dist.deb), (&dist.deb, &dist.next)] {
        let (lower, higher) = (field(lower, "Version")?, field(higher, "Version")?);
        command::quiet(Command::new("dpkg").args(["--compare-versions", &lower, "lt", &higher]))
            .with_context(|| format!("{lower} is not lower than {higher}"))?;
    }
    ensure!(field(&dist.deb, "Package")? == "observer", "the package has another name");
    let depends = field(&dist.deb, "Depends")?;
    let libc = depends.split(", ").find_map(|one| one.strip_prefix("libc6 (>= ")?.strip_suffix(')'));
    let libc = libc.and_then(glibc_version).with_context(|| format!("no version of libc6 in: {depends}"))?;
    ensure!(libc == GLIBC_MAX, "Depends: {depends}: libc6 is not {GLIBC_MAX:?}");
    for package in ["libgcc-s1", "systemd "] {
        ensure!(depends.contains(package), "Depends: {depends}: {package} is missing");
    }
    let control = tempfile::tempdir()?;
    command::quiet(Command::new("dpkg-deb").arg("--control").arg(&dist.deb).arg(control.path()))?;
    let conffiles = fs::read_to_string(control.path().join("conffiles")).unwrap_or_default();
    ensure!(conffiles.is_empty(), "at upgrades, dpkg asks about: {conffiles}");
    Ok(())
}

fn scripts(dist: &Dist) -> Result<()> {
    let control = tempfile::tempdir()?;
    command::quiet(Command::new("dpkg-deb").arg("--control").arg(&dist.deb).arg(control.path()))?;
    for (name, parts) in [
        (
            "postinst",
            ["/etc/observer/observer.toml", "systemd-sysusers", "deb-systemd-helper", "deb-systemd-invoke"]
                .as_slice(),
        ),
        ("prerm", &["deb-systemd-invoke"]),
        ("postrm", &["/var/lib/observer", "deb-systemd-helper"]),
    ] {
        let path = control.path().join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
        command::quiet(Command::new("sh").arg("-n").arg(&path))?;
        ensure!(text.contains("set -e"), "{name} goes on after an error");
        ensure!(!text.contains("#DEBHELPER#"), "{name} lacks what debhelper writes");
        for part in parts {
            ensure!(text.contains(part), "{name} does not use {part}");
        }
    }
    let postinst = fs::read_to_string(control.path().join("postinst")).context("read postinst")?;
    let start = postinst.find("deb-systemd-invoke");
    for (part, what) in [("systemd-sysusers", "user"), ("/etc/observer/observer.toml", "configuration")] {
        ensure!(postinst.find(part) < start, "the service starts before its {what} is there");
    }
    Ok(())
}

fn glibc_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '~']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The newest version of the C library whose symbols a program needs, by `objdump -T`.
fn newest_glibc(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1);
    versions.filter_map(|rest| glibc_version(rest.split(')').next()?.trim())).max()
}

/// The libraries that a program needs, by `readelf --dynamic`: `(NEEDED) Shared library: [NAME]`.
fn libraries(dynamic: &str) -> Vec<&str> {
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    needed.filter_map(|line| line.split_once('[')?.1.strip_suffix(']')).collect()
}

fn program(workspace: &Workspace, dist: &Dist) -> Result<()> {
    let program = dist.tree.join(tree::PROGRAM);
    let symbols = command::capture(Command::new("objdump").arg("--dynamic-syms").arg(&program))?;
    let newest = newest_glibc(&symbols).context("it uses no symbol of the C library")?;
    ensure!(newest <= GLIBC_MAX, "it needs glibc {newest:?}, and Debian 11 has {GLIBC_MAX:?}: {symbols}");
    let dynamic = command::capture(Command::new("readelf").args(["--wide", "--dynamic"]).arg(&program))?;
    let libraries = libraries(&dynamic);
    ensure!(libraries.contains(&"libc.so.6"), "it needs no C library: {dynamic}");
    for library in libraries {
        ensure!(
            LIBRARIES.contains(&library),
            "it needs {library}, of which packaging/debian/control says nothing"
        );
    }
    let sections = command::capture(Command::new("readelf").args(["--wide", "--sections"]).arg(&program))?;
    for section in [DEPENDENCIES, ".gnu_debuglink", ".note.gnu.build-id"] {
        ensure!(sections.contains(section), "it has no section {section}");
    }
    for section in [".symtab", ".debug_info"] {
        ensure!(!sections.contains(section), "it is not stripped: it has the section {section}");
    }
    let bytes = fs::read(&program).context("read the program")?;
    let home = std::env::var("HOME").ok().filter(|home| home.len() > 1).map(|home| format!("{home}/"));
    for path in home.into_iter().chain([format!("{}/", workspace.root.display())]) {
        let found = bytes.windows(path.len()).position(|window| window == path.as_bytes());
        if let Some(at) = found {
            let text = bytes.get(at..).unwrap_or_default().iter().take(80).copied().collect::<Vec<_>>();
            bail!("it names a directory of this machine: {}", String::from_utf8_lossy(&text));
        }
    }
    let version = command::capture(Command::new(&program).arg("--version"))?;
    ensure!(
        version.trim() == concat!("observer ", env!("CARGO_PKG_VERSION")),
        "it says that it is {version}"
    );
    Ok(())
}

fn pages(dist: &Dist) -> Result<()> {
    let man = dist.tree.join("usr/share/man");
    for page in tree::files_below(&man)? {
        let mut mandoc = Command::new("mandoc");
        let text = command::capture(mandoc.args(["-T", "html", "-W", "error,stop"]).arg(man.join(&page)))?;
        ensure!(text.contains("NAME") && text.contains("observer"), "{} shows: {text}", page.display());
    }
    Ok(())
}

fn completions(dist: &Dist) -> Result<()> {
    let share = dist.tree.join("usr/share");
    command::quiet(Command::new("bash").arg("-n").arg(share.join("bash-completion/completions/observer")))?;
    for (path, part) in [
        ("zsh/vendor-completions/_observer", "#compdef observer"),
        ("fish/vendor_completions.d/observer.fish", "complete -c observer"),
    ] {
        let text = fs::read_to_string(share.join(path)).with_context(|| format!("read {path}"))?;
        ensure!(text.contains(part) && text.contains("leftovers"), "{path} completes nothing");
    }
    Ok(())
}

fn dependencies(workspace: &Workspace, dist: &Dist) -> Result<()> {
    let text = fs::read_to_string(dist.tree.join(tree::SBOM)).context("read it")?;
    ensure!(!text.contains(&*workspace.root.to_string_lossy()), "it names a directory of this machine");
    let list: serde_json::Value = serde_json::from_str(&text).context("parse it")?;
    let text = |pointer: &str| list.pointer(pointer).and_then(serde_json::Value::as_str);
    ensure!(text("/bomFormat") == Some("CycloneDX"), "it is no list of CycloneDX");
    ensure!(text("/metadata/component/name") == Some("observer"), "it is of another program");
    let components = list.get("components").and_then(serde_json::Value::as_array);
    let names: BTreeSet<_> =
        components.into_iter().flatten().filter_map(|one| one.get("name")?.as_str()).collect();
    for name in LISTED {
        ensure!(names.contains(name), "{name} is missing");
    }
    ensure!(!names.contains(NOT_LISTED), "{NOT_LISTED} is in it, which only tests use");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_counts_and_not_the_last_one() {
        let symbols = "0 w DF *UND* 0 (GLIBC_2.30) gettid\n0 DF *UND* 0 (GLIBC_2.4) __stack_chk_fail\n0 DF *UND* 0 \
                       (GLIBC_2.2.5) read\n0 DF *UND* 0 (GCC_3.0) _Unwind_Resume\n";
        assert_eq!(newest_glibc(symbols), Some((2, 30)));
        assert_eq!(newest_glibc("none"), None);
        assert!((2, 4) < GLIBC_MAX && (2, 34) > GLIBC_MAX);
        assert_eq!(glibc_version("2.31-13+deb11u1"), Some((2, 31)));
    }

    #[test]
    fn a_link_that_leads_to_nothing_in_the_package_is_found() -> Result<()> {
        let tree = tempfile::tempdir()?;
        let page =
            "[a](../README.md#install), ![b](pictures/b.svg), [c](#here), [d](https://example.org/x).\n";
        tree::write(&tree.path().join("doc/docs/a.md"), page)?;
        tree::write(&tree.path().join("doc/README.md"), "[a](docs/a.md)\n[b](./docs/a.md)\n")?;
        let error = links(tree.path()).err().map(|error| error.to_string());
        let expected = "add to packaging/files what these lead to: doc/docs/a.md: pictures/b.svg";
        assert_eq!(error.as_deref(), Some(expected));
        tree::write(&tree.path().join("doc/docs/pictures/b.svg"), "")?;
        links(tree.path())?;
        tree::write(&tree.path().join("doc/docs/c.md"), "[out](../../../README.md)\n")?;
        assert!(links(tree.path()).is_err());
        Ok(())
    }

    #[test]
    fn the_packaged_documents_of_the_repository_link_to_packaged_files() -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let workspace = Workspace { target: root.join("target"), root };
        let tree = tempfile::tempdir()?;
        tree::copy_listed(&workspace, tree.path())?;
        links(tree.path())
    }

    #[test]
    fn a_line_of_a_package_has_a_mode_an_owner_and_a_path() {
        let list = "drwxr-xr-x root/root         0 2026-11-29 16:40 ./\n-rw-r--r-- root/root  12 2026-11-29 16:40 ./etc/x\n";
        let entry = |mode, path| Entry { mode, owner: "root/root", path };
        assert_eq!(entries(list), [entry("drwxr-xr-x", ""), entry("-rw-r--r--", "etc/x")]);
    }
}

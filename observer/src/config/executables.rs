//! Warnings about paths of executables that the kernel reports for no process of this host.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use observer_core::rule::Pattern as _;
use toml::Spanned;

use super::fault::{ConfigFault, OneOrMore};
use super::resolve::{RESOLVE_MAX, within};
use crate::text::bytes::quoted;
use crate::text::glob::{Glob, is_literal, split_literal};

/// What begins a script.
const SCRIPT: [u8; 2] = *b"#!";

/// What a path of `exe` is on this host, where the kernel reports it for no process.
#[derive(Debug, PartialEq, Eq)]
enum Unreported {
    /// Symbolic links lead to this path, or the path is written in another way.
    Link(String),
    /// An interpreter runs it, and is the executable.
    Script,
    Directory,
}

/// Warnings about the values of `exe` that no process of this host has. Values on a file system that does not answer have none.
pub fn unreported_executables(field: Option<&Spanned<OneOrMore>>) -> Vec<ConfigFault> {
    let values = field.map(OneOrMore::placed).unwrap_or_default();
    let globs: Vec<String> = values.iter().map(|value| value.get_ref().clone()).collect();
    if globs.is_empty() {
        return Vec::new();
    }
    let looked_up = within(RESOLVE_MAX, {
        let globs = globs.clone();
        move || globs.iter().map(|glob| unreported(glob)).collect::<Vec<_>>()
    });
    let looked_up = looked_up.unwrap_or_default();
    let is_named = |target: &str| {
        globs.iter().any(|glob| Glob::path(glob).is_ok_and(|glob| glob.is_match(target.as_bytes())))
    };
    let found = values.into_iter().zip(looked_up).filter_map(|(value, found)| match found? {
        Unreported::Link(target) if is_named(&target) => None,
        found => Some(ConfigFault { span: Some(value.span()), message: message(value.get_ref(), &found) }),
    });
    found.collect()
}

fn message(value: &str, found: &Unreported) -> String {
    let (why, next) = match found {
        Unreported::Link(target) => (
            format!("the kernel reports where symbolic links lead, here {}", quoted(target)),
            "write that, or both where containers have a file at this path".to_owned(),
        ),
        Unreported::Script => (
            "it is a script, and the kernel reports its interpreter".to_owned(),
            "use `program`, or `argv`".to_owned(),
        ),
        Unreported::Directory => {
            let below = format!("{}/**", value.trim_end_matches('/'));
            ("it is a directory".to_owned(), format!("write {} for what is below it", quoted(&below)))
        }
    };
    format!("{} is the executable of no process on this host, because {why}: {next}", quoted(value))
}

/// What is known of the path, or of the directory before the first wildcard. It may block on a file system.
fn unreported(glob: &str) -> Option<Unreported> {
    let (literal, wild) = split_literal(glob);
    if !literal.starts_with('/') {
        return None;
    }
    let found = std::fs::canonicalize(literal).ok()?;
    let target = format!("{}{wild}", found.to_str()?.trim_end_matches('/'));
    if !is_literal(glob) {
        return (target != glob).then_some(Unreported::Link(target));
    }
    match found.metadata().ok()? {
        it if it.is_dir() => Some(Unreported::Directory),
        it if it.is_file() && is_script(&found) => Some(Unreported::Script),
        it if it.is_file() => (target != glob).then_some(Unreported::Link(target)),
        _ => None,
    }
}

fn is_script(file: &Path) -> bool {
    let begin = |mut file: File| {
        let mut begin = [0; SCRIPT.len()];
        file.read_exact(&mut begin).map(|()| begin)
    };
    // It may have become a FIFO or a terminal since its kind was read.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file);
    opened.and_then(begin).is_ok_and(|begin| begin == SCRIPT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn values(values: &str) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Section {
            exe: Spanned<OneOrMore>,
        }
        let section: Section = toml::from_str(&format!("exe = {values}")).unwrap();
        unreported_executables(Some(&section.exe)).into_iter().map(|it| it.message).collect()
    }

    #[test]
    fn an_executable_is_reported_by_the_path_that_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        let at = |path: &str| base.join(path).into_os_string().into_string().unwrap();
        std::fs::create_dir(at("v2")).unwrap();
        std::fs::write(at("v2/tool"), b"\x7fELF").unwrap();
        std::fs::write(at("v2/empty"), b"").unwrap();
        std::fs::write(at("v2/agent.js"), b"#!/usr/bin/env node\n").unwrap();
        symlink(at("v2"), at("current")).unwrap();
        symlink(at("v2/tool"), at("tool")).unwrap();
        symlink(at("v2/agent.js"), at("agent")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        let expected = [
            ("tool", Unreported::Link(at("v2/tool"))),
            ("current/tool", Unreported::Link(at("v2/tool"))),
            ("v2//tool", Unreported::Link(at("v2/tool"))),
            ("current/*", Unreported::Link(at("v2/*"))),
            ("agent", Unreported::Script),
            ("v2/agent.js", Unreported::Script),
            ("v2", Unreported::Directory),
            ("v2/", Unreported::Directory),
        ];
        for (path, found) in expected {
            assert_eq!(unreported(&at(path)), Some(found), "{path}");
        }
        for fine in ["v2/tool", "v2/empty", "v2/*", "v2/**", "dangling", "missing", "missing/*"] {
            assert_eq!(unreported(&at(fine)), None, "{fine}");
        }
        for fine in ["/**", "/*", "/dev/null", "{/a,/b}"] {
            assert_eq!(unreported(fine), None, "{fine}");
        }
        assert_eq!(values(&format!("['{}', '{}']", at("tool"), at("v2/*"))), [""; 0], "the target is named");
        assert_eq!(
            values(&format!("['{}', '{}']", at("v2/tool"), at("tool"))),
            [""; 0],
            "and so it is in any order"
        );
    }

    #[test]
    fn a_warning_names_what_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        let base = base.to_str().unwrap();
        std::fs::write(format!("{base}/tool"), b"\x7fELF").unwrap();
        symlink(format!("{base}/tool"), format!("{base}/link")).unwrap();
        assert_eq!(
            values(&format!("'{base}/link'")),
            [format!(
                "\"{base}/link\" is the executable of no process on this host, because the kernel reports where symbolic \
                 links lead, here \"{base}/tool\": write that, or both where containers have a file at this path"
            )]
        );
        assert_eq!(
            values(&format!("'{base}/'")),
            [format!(
                "\"{base}/\" is the executable of no process on this host, because it is a directory: write \
                 \"{base}/**\" for what is below it"
            )]
        );
        std::fs::write(format!("{base}/tool"), "#!/bin/sh\n").unwrap();
        assert_eq!(
            values(&format!("['/nowhere/x', '{base}/link']")),
            [format!(
                "\"{base}/link\" is the executable of no process on this host, because it is a script, and the kernel \
                 reports its interpreter: use `program`, or `argv`"
            )]
        );
    }
}

//! Which files may mention which names, which attributes a crate has, and which crates it may depend on.
//!
//! Clippy states what it can (`clippy.toml` of each crate), cargo-deny the rest of the dependencies (`deny.toml`).

use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Package};
use observer_harness::workspace::Workspace;

use crate::source::{Crate, Source, packages};

/// Names that only some files of a directory may use.
struct Rule {
    /// What holds, as a sentence.
    says: &'static str,
    /// Directory that it holds for.
    within: &'static str,
    /// Any of these, at the start of a word.
    names: &'static [&'static str],
    /// Files or directories that may use them, relative to `within`. Where there are any, one of them must: a rule
    /// about names that nothing uses proves nothing.
    only: &'static [&'static str],
}

const RULES: [Rule; 7] = [
    Rule {
        says: "only emit.rs touches the ring (maps.rs declares it)",
        within: "observer-ebpf/src",
        names: &["RING"],
        only: &["emit.rs", "maps.rs"],
    },
    Rule {
        says: "only task.rs reads task_struct and signal_struct",
        within: "observer-ebpf/src",
        names: &["offset!(task_", "offset!(signal_"],
        only: &["task.rs"],
    },
    Rule {
        says: "offsets are read by the macro in access.rs (maps.rs declares them)",
        within: "observer-ebpf/src",
        names: &["OFFSETS"],
        only: &["access.rs", "maps.rs"],
    },
    Rule {
        // clippy.toml forbids the functions that signal; these are the system calls by number.
        says: "nobody is signalled by a pid, and nobody is traced",
        within: "observer/src",
        names: &[
            "tgkill",
            "tkill",
            "rt_sigqueueinfo",
            "rt_tgsigqueueinfo",
            "SYS_kill",
            "SYS_tgkill",
            "SYS_tkill",
            "SYS_rt_sigqueueinfo",
            "SYS_rt_tgsigqueueinfo",
            "SYS_ptrace",
            "SYS_process_vm_writev",
        ],
        only: &[],
    },
    Rule {
        says: "only a verified pidfd is signalled, and by no part of the daemon",
        within: "observer/src",
        names: &["pidfd_send_signal", "SYS_pidfd_send_signal"],
        only: &["cli/signal/pidfd.rs"],
    },
    Rule {
        says: "only commands know the command line",
        within: "observer/src",
        names: &["clap"],
        only: &["cli"],
    },
    Rule {
        says: "the core and the record layouts know no std",
        within: "observer-co",
        names: &["std::", "extern crate std"],
        only: &[],
    },
];

/// Attributes that the compiler turns into proofs, and the crates that must have them.
const ATTRIBUTES: [(&str, &[&str]); 3] = [
    ("observer-core/src/lib.rs", &["#![no_std]", "#![forbid(unsafe_code)]"]),
    ("observer-common/src/lib.rs", &["#![no_std]", "#![forbid(unsafe_code)]"]),
    ("observer-ebpf/src/main.rs", &["#![no_std]"]),
];

/// What a crate may depend on, outside its tests.
const DEPENDENCIES: [(&str, &[&str]); 2] =
    [("observer-core", &["observer-common"]), ("observer-common", &[])];

pub(crate) fn check(workspace: &Workspace, product: &[Crate]) -> Result<Vec<String>> {
    let sources: Vec<_> = product.iter().flat_map(|krate| &krate.sources).collect();
    let mut findings: Vec<_> = RULES.iter().flat_map(|rule| rule.check(&sources)).collect();
    for (path, attributes) in ATTRIBUTES {
        let source = sources.iter().find(|source| source.path == Path::new(path));
        let code = source.map(|source| source.code()).unwrap_or_default();
        for attribute in attributes {
            // The opening bracket of a group stands for the group.
            let tokens = attribute.replace([')', ']'], "");
            if !code.iter().any(|line| line.code.contains(&tokens)) {
                findings.push(format!("{path}: must begin with {attribute}"));
            }
        }
    }
    let packages = packages(workspace)?;
    for (name, allowed) in DEPENDENCIES {
        let package = packages.iter().find(|package| package.name.as_str() == name);
        let package =
            package.with_context(|| format!("the workspace has no package {name}: see Cargo.toml"))?;
        findings.extend(foreign_dependencies(package, allowed).map(|dependency| {
            format!(
                "{name}/Cargo.toml: depends on {dependency}; allowed are {allowed:?}: it has to stay pure"
            )
        }));
    }
    Ok(findings)
}

impl Rule {
    fn check(&self, sources: &[&Source]) -> Vec<String> {
        let mut findings = Vec::new();
        let mut used_where_allowed = self.only.is_empty();
        for source in sources {
            let path = source.path.to_string_lossy();
            let Some(below) = path.strip_prefix(self.within) else { continue };
            let below = below.trim_start_matches('/');
            let allowed = self.only.iter().any(|only| Path::new(below).starts_with(only));
            for line in source.code() {
                let Some(name) = self.names.iter().find(|name| mentions(&line.code, name)) else { continue };
                if allowed {
                    used_where_allowed = true;
                } else {
                    findings.push(format!("{path}:{}: `{name}`: {}", line.number, self.says));
                }
            }
        }
        if !used_where_allowed {
            findings.push(format!(
                "{}: no file in {:?} uses any of {:?}: the names changed, and so must the rule in \
                 tests/checks/src/layers.rs ({})",
                self.within, self.only, self.names, self.says
            ));
        }
        findings
    }
}

/// Whether `line` has `name` at the start of a word: `RING` is in `RING.output` and `RING_SIZE`, not in `STRING`.
fn mentions(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The names of ordinary dependencies that are not allowed.
fn foreign_dependencies<'a>(package: &'a Package, allowed: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let ordinary = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    ordinary.map(|dependency| dependency.name.as_str()).filter(|name| !allowed.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::source;
    use serde_json::json;

    const RULE: Rule = Rule { says: "x", within: "e/src", names: &["RING"], only: &["emit.rs"] };

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| source(path, text)).collect();
        RULE.check(&sources.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_name_outside_its_file_is_found_by_line() {
        let found = found(&[
            ("e/src/emit.rs", "fn f() { RING.output() }"),
            ("e/src/hooks/a.rs", "// RING\nfn f() {\nlet x = RING; }"),
        ]);
        assert_eq!(found, ["e/src/hooks/a.rs:3: `RING`: x"]);
    }

    #[test]
    fn a_rule_about_names_that_nothing_uses_is_a_finding() {
        let found = found(&[("e/src/emit.rs", "const STRING: u8 = 1;"), ("other/src/a.rs", "use x::RING;")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found.iter().all(|finding| finding.contains("so must the rule")), "{found:?}");
    }

    #[test]
    fn only_ordinary_dependencies_count() {
        let dependency = |name: &str, kind: Option<&str>| json!({"name": name, "kind": kind, "req": "*", "optional": false, "uses_default_features": true, "features": []});
        let dependencies = [("observer-common", None), ("serde", None), ("proptest", Some("dev"))]
            .map(|(n, k)| dependency(n, k));
        let package = json!({"name": "p", "version": "0.1.0", "id": "p", "manifest_path": "/p/Cargo.toml",
            "targets": [], "features": {}, "dependencies": dependencies});
        let package: Package = serde_json::from_value(package).expect("a package");
        assert_eq!(foreign_dependencies(&package, &["observer-common"]).collect::<Vec<_>>(), ["serde"]);
    }
}

//! The list of dependencies in CycloneDX' format: of the program, and of the kernel programs that it carries.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use observer_harness::command;
use observer_harness::workspace::Workspace;
use serde_json::{Value, json};

use crate::version::Version;

/// The packages of the program and of the kernel programs, whose directories have their names.
const PRODUCT: &str = "observer";
const PROGRAMS: &str = "observer-ebpf";
/// The tool writes a file with this name beside the manifest of each package of the workspace.
const WRITTEN: &str = "observer-dist";

/// Writes the list to `file`.
pub(crate) fn write(workspace: &Workspace, version: &Version, file: &Path) -> Result<()> {
    let written = format!("{WRITTEN}.json");
    let manifest = format!("{PRODUCT}/Cargo.toml");
    let mut cargo = workspace.cargo(&["cyclonedx", "--quiet", "--manifest-path", &manifest]);
    cargo.args(["--format", "json", "--spec-version", "1.5", "--no-build-deps"]);
    cargo.args(["--override-filename", WRITTEN]);
    let made = command::quiet(cargo.env("SOURCE_DATE_EPOCH", version.epoch.to_string()));
    let [product, programs] =
        [PRODUCT, PROGRAMS].map(|package| fs::read_to_string(workspace.root.join(package).join(&written)));
    let manifests =
        command::capture(&mut workspace.cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let manifests: Value = serde_json::from_str(&manifests).context("read the workspace's layout")?;
    let packages = manifests.get("packages").and_then(Value::as_array);
    for manifest in
        packages.into_iter().flatten().filter_map(|package| package.get("manifest_path")?.as_str())
    {
        let _ = fs::remove_file(Path::new(manifest).with_file_name(&written));
    }
    made?;
    let parsed = |text: std::io::Result<String>, package: &str| -> Result<Value> {
        let text = text.with_context(|| format!("read the list of dependencies of {package}"))?;
        serde_json::from_str(&text).with_context(|| format!("parse the list of dependencies of {package}"))
    };
    let mut list = parsed(product, PRODUCT)?;
    add(&mut list, &parsed(programs, PROGRAMS)?).context("the list of dependencies has another form")?;
    let text = serde_json::to_string_pretty(&list).context("write the list of dependencies")?;
    let root = workspace.root.to_string_lossy();
    fs::write(file, text.replace(&*root, "/observer") + "\n")
        .with_context(|| format!("write {}", file.display()))
}

/// Adds a program that the product of `list` carries, and what that depends on; `None` where one of them has another form.
fn add(list: &mut Value, carried: &Value) -> Option<()> {
    let program = carried.pointer("/metadata/component")?;
    let reference = reference(program)?.to_owned();
    let product = list.pointer("/metadata/component/bom-ref")?.as_str()?.to_owned();
    let components = list.get_mut("components")?.as_array_mut()?;
    let known: BTreeSet<String> =
        components.iter().filter_map(|it| self::reference(it)).map(str::to_owned).collect();
    let others = carried.get("components")?.as_array()?;
    let new =
        others.iter().chain([program]).filter(|it| self::reference(it).is_some_and(|it| !known.contains(it)));
    components.extend(new.cloned());
    let edges = list.get_mut("dependencies")?.as_array_mut()?;
    for edge in carried.get("dependencies")?.as_array()? {
        add_edge(edges, edge.get("ref")?.as_str()?, &targets(edge));
    }
    add_edge(edges, &product, &BTreeSet::from([reference]));
    Some(())
}

fn reference(component: &Value) -> Option<&str> {
    component.get("bom-ref")?.as_str()
}

/// What a package depends on.
fn targets(edge: &Value) -> BTreeSet<String> {
    let targets = edge.get("dependsOn").and_then(Value::as_array);
    targets.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Adds that the package `from` depends on these.
fn add_edge(edges: &mut Vec<Value>, from: &str, to: &BTreeSet<String>) {
    let present = edges.iter().position(|edge| edge.get("ref").is_some_and(|it| it == from));
    let all = present.and_then(|at| edges.get(at)).map(targets).unwrap_or_default();
    let all: BTreeSet<_> = all.union(to).collect();
    let edge = json!({"ref": from, "dependsOn": all});
    match present.and_then(|at| edges.get_mut(at)) {
        Some(present) => *present = edge,
        None => edges.push(edge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_carried_program_depends_on_is_added_once() {
        let component = |name: &str| json!({"bom-ref": name, "name": name});
        let mut list = json!({
            "metadata": {"component": component("product")},
            "components": [component("aya"), component("common")],
            "dependencies": [
                {"ref": "product", "dependsOn": ["aya", "common"]},
                {"ref": "aya"},
                {"ref": "common"},
            ],
        });
        let carried = json!({
            "metadata": {"component": component("programs")},
            "components": [component("common"), component("aya-ebpf"), component("bits")],
            "dependencies": [
                {"ref": "programs", "dependsOn": ["aya-ebpf", "common"]},
                {"ref": "aya-ebpf", "dependsOn": ["bits"]},
                {"ref": "common", "dependsOn": ["bits"]},
                {"ref": "bits"},
            ],
        });
        assert_eq!(add(&mut list, &carried), Some(()));
        let part = |name: &str| list.get(name).cloned().unwrap_or_default();
        let components = part("components");
        let names: Vec<_> = components.as_array().into_iter().flatten().filter_map(reference).collect();
        assert_eq!(names, ["aya", "common", "aya-ebpf", "bits", "programs"]);
        let expected = json!([
            {"ref": "product", "dependsOn": ["aya", "common", "programs"]},
            {"ref": "aya"},
            {"ref": "common", "dependsOn": ["bits"]},
            {"ref": "programs", "dependsOn": ["aya-ebpf", "common"]},
            {"ref": "aya-ebpf", "dependsOn": ["bits"]},
            {"ref": "bits", "dependsOn": []},
        ]);
        assert_eq!(part("dependencies"), expected);
        assert_eq!(add(&mut list, &json!({})), None);
    }
}

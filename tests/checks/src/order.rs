//! Which file may import which: no circle, and nothing from a higher layer.

use std::collections::BTreeMap;
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use crate::finding::{Finding, Kind};
use crate::imports::{Import, imports};
use crate::source::Crate;

/// The layers of a crate, the lowest first. Each is a list of peers, files or directories of which none knows another.
/// A layer imports from those below it. The crate's root declares the modules and belongs to no layer.
struct Layers {
    /// Source directory of the crate.
    within: &'static str,
    layers: &'static [&'static [&'static str]],
}

const LAYERS: [Layers; 2] = [
    Layers {
        within: "observer-core/src",
        layers: &[&["limits"], &["model"], &["input"], &["processes"], &["sessions"], &["core"], &["verify"]],
    },
    Layers {
        within: "observer/src",
        layers: &[
            &["clock", "heap"],
            &["text"],
            &["boot", "terminal"],
            &["api"],
            &["kernel", "journal", "mirror", "socket"],
            &["config"],
            &["daemon"],
            &["cli"],
        ],
    },
];

/// Circles of imports in the product and in the tools, and imports of the product against the order of its layers.
pub(crate) fn check(product: &[Crate], tools: &[Crate]) -> Vec<Finding> {
    let mut findings: Vec<_> = tools.iter().flat_map(|krate| circles(&imports(krate))).collect();
    for krate in product {
        let imports = imports(krate);
        findings.extend(circles(&imports));
        let Some(root) = krate.sources.first() else { continue };
        let layers = LAYERS.iter().find(|layers| root.path.starts_with(layers.within));
        if let Some(layers) = layers {
            let files: Vec<_> = krate.sources.iter().skip(1).map(|source| source.path.as_path()).collect();
            findings.extend(layers.check(&root.path, &files, &imports));
        }
    }
    findings
}

/// One finding for each set of files that reach each other, with a shortest circle through its first file.
fn circles(imports: &[Import]) -> Vec<Finding> {
    let imports = imports.iter().filter(|import| !import.is_reexport);
    let edges = imports.map(|import| (import.from.as_path(), import.to.as_path(), import.line));
    let graph: DiGraphMap<&Path, usize> = DiGraphMap::from_edges(edges);
    let mut findings = Vec::new();
    for mut files in tarjan_scc(&graph).into_iter().filter(|files| files.len() > 1) {
        files.sort_unstable();
        let Some(&first) = files.first() else { continue };
        let steps = shortest_circle(&graph, first);
        let steps: Vec<_> = steps
            .windows(2)
            .map(|step| {
                let line = step.first().zip(step.get(1)).and_then(|(&from, &to)| graph.edge_weight(from, to));
                let name = step.first().map(|file| file.display().to_string()).unwrap_or_default();
                format!("{name}:{} imports", line.copied().unwrap_or_default())
            })
            .collect();
        findings.push(Finding {
            kind: Kind::Circle,
            subject: first.display().to_string(),
            message: format!(
                "{} files import each other in a circle ({} {}): move what they share into a file below them",
                files.len(),
                steps.join(" "),
                first.display()
            ),
        });
    }
    findings.sort_by(|a, b| a.subject.cmp(&b.subject));
    findings
}

/// The files of a shortest circle from `first` to `first`, by a search in breadth.
fn shortest_circle<'a>(graph: &DiGraphMap<&'a Path, usize>, first: &'a Path) -> Vec<&'a Path> {
    let mut before: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut reached = vec![first];
    let mut at = 0;
    while let Some(&file) = reached.get(at) {
        at += 1;
        for next in graph.neighbors(file) {
            if next == first {
                let mut circle = vec![first, file];
                while let Some(&file) = circle.last().and_then(|file| before.get(file)) {
                    circle.push(file);
                }
                if file == first {
                    circle.truncate(1);
                    circle.push(first);
                }
                circle.reverse();
                return circle;
            }
            if !before.contains_key(next) {
                before.insert(next, file);
                reached.push(next);
            }
        }
    }
    vec![first]
}

impl Layers {
    fn check(&self, root: &Path, files: &[&Path], imports: &[Import]) -> Vec<Finding> {
        let finding = |subject: &Path, message: String| Finding {
            kind: Kind::Layer,
            subject: subject.display().to_string(),
            message,
        };
        let mut findings: Vec<_> = files
            .iter()
            .filter(|file| self.place(file).is_none())
            .map(|file| finding(file, "is in no layer: see LAYERS in tests/checks/src/order.rs".to_owned()))
            .collect();
        for import in imports.iter().filter(|import| import.from != root) {
            let Some((from, from_peer)) = self.place(&import.from) else { continue };
            let to = self.place(&import.to);
            let fault = match to {
                None if import.to == root => "the crate's root, above every layer".to_owned(),
                None => continue,
                Some((to, _)) if to < from => continue,
                Some((to, peer)) if to == from && peer == from_peer => continue,
                Some((to, peer)) if to == from => format!("in {peer}, its peer: neither may know the other"),
                Some((_, peer)) => format!("in {peer}, a layer above {from_peer}"),
            };
            findings.push(finding(
                &import.from,
                format!("line {} imports {}, which is {fault}", import.line, import.to.display()),
            ));
        }
        findings
    }

    /// Layer of a file, and the peer in it.
    fn place(&self, file: &Path) -> Option<(usize, &'static str)> {
        let below = file.strip_prefix(self.within).ok()?.with_extension("");
        let peers = self.layers.iter().enumerate();
        peers
            .flat_map(|(layer, peers)| peers.iter().map(move |&peer| (layer, peer)))
            .find(|(_, peer)| below.starts_with(peer))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;
    use crate::source::tests::written;

    const TWO: Layers = Layers { within: "c/src", layers: &[&["low"], &["left", "right"], &["high"]] };

    fn messages(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_planted_circle_is_found_and_its_way_is_shown() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\npub use a::f;"),
            ("a.rs", "pub fn f() {\ncrate::b::f() }"),
            ("b.rs", "use super::c;\npub fn f() {\nc::f() }"),
            ("c.rs", "pub fn f() {\n\n\ncrate::f(); crate::d::f() }"),
            ("d.rs", "pub fn f() {}"),
        ];
        let found = circles(&imports(&written(&files)?));
        assert_eq!(
            messages(&found),
            ["c/src/a.rs: 3 files import each other in a circle (c/src/a.rs:2 imports c/src/b.rs:1 imports \
              c/src/c.rs:4 imports c/src/a.rs): move what they share into a file below them"]
        );
        let without = files.map(|(path, text)| (path, if path == "c.rs" { "pub fn f() {}" } else { text }));
        assert!(circles(&imports(&written(&without)?)).is_empty());
        Ok(())
    }

    #[test]
    fn a_circle_of_a_tool_is_found_like_one_of_the_product() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;\npub struct Shared;\nfn f() {\na::f() }"),
            ("a.rs", "use crate::Shared;\npub fn f() {}"),
        ];
        let expected = [
            "c/src/a.rs: 2 files import each other in a circle (c/src/a.rs:1 imports c/src/lib.rs:4 imports \
                         c/src/a.rs): move what they share into a file below them",
        ];
        assert_eq!(messages(&check(&[], &[written(&files)?])), expected);
        assert_eq!(messages(&check(&[written(&files)?], &[])), expected);
        Ok(())
    }

    #[test]
    fn a_file_that_reexports_what_is_below_it_makes_no_circle() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b;\npub use b::B;\npub struct A;"),
            ("a/b.rs", "use super::A;\npub struct B;"),
        ];
        assert!(check(&[], &[written(&files)?]).is_empty());
        Ok(())
    }

    #[test]
    fn imports_point_downwards_only() -> Result<()> {
        let files = [
            ("lib.rs", "mod low;\nmod left;\nmod right;\nmod high;\npub struct Root;"),
            ("low.rs", "use crate::Root;"),
            ("left/mod.rs", "mod inner;\nuse self::inner::A;\nuse crate::low;"),
            ("left/inner.rs", "pub struct A;"),
            ("right.rs", "use crate::left::A;\nuse crate::high::f;"),
            ("high.rs", "use crate::{low, left, right};\npub fn f() {}"),
        ];
        let krate = written(&files)?;
        let paths: Vec<_> = krate.sources.iter().skip(1).map(|source| source.path.as_path()).collect();
        let found = TWO.check(Path::new("c/src/lib.rs"), &paths, &imports(&krate));
        assert_eq!(
            messages(&found),
            [
                "c/src/low.rs: line 1 imports c/src/lib.rs, which is the crate's root, above every layer",
                "c/src/right.rs: line 2 imports c/src/high.rs, which is in high, a layer above right",
                "c/src/right.rs: line 1 imports c/src/left/inner.rs, which is in left, its peer: neither may know the other",
            ]
        );
        Ok(())
    }

    #[test]
    fn a_reexport_from_a_higher_layer_is_found() -> Result<()> {
        let files = [
            ("lib.rs", "mod low;\nmod left;\nmod right;\nmod high;\npub use high::f;"),
            ("low.rs", ""),
            ("left.rs", "\npub use crate::high::f;"),
            ("right.rs", "pub(crate) use crate::low;"),
            ("high.rs", "pub fn f() {}"),
        ];
        let krate = written(&files)?;
        let paths: Vec<_> = krate.sources.iter().skip(1).map(|source| source.path.as_path()).collect();
        let found = TWO.check(Path::new("c/src/lib.rs"), &paths, &imports(&krate));
        let expected = ["c/src/left.rs: line 2 imports c/src/high.rs, which is in high, a layer above left"];
        assert_eq!(messages(&found), expected);
        Ok(())
    }

    #[test]
    fn a_file_that_no_layer_names_is_a_finding() -> Result<()> {
        let krate = written(&[("lib.rs", "mod low;\nmod lower;"), ("low.rs", ""), ("lower.rs", "")])?;
        let paths: Vec<_> = krate.sources.iter().skip(1).map(|source| source.path.as_path()).collect();
        let found = TWO.check(Path::new("c/src/lib.rs"), &paths, &[]);
        assert_eq!(messages(&found).len(), 1);
        assert!(messages(&found).iter().all(|it| it.starts_with("c/src/lower.rs: is in no layer")));
        Ok(())
    }
}

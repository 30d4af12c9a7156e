//! Every bound in the source is on the operators' page, and no bound is there twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use observer_harness::workspace::Workspace;
use syn::visit::{self, Visit};
use syn::{Ident, ImplItemConst, ItemConst, TraitItemConst};

use crate::source::{Crate, Source};

const PAGE: &str = "docs/limits.md";

/// Constants that bound something and are not named in the page, and those that have too many rows there.
pub(crate) fn check(workspace: &Workspace, product: &[Crate]) -> Result<Vec<String>> {
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let sources: Vec<_> = product.iter().flat_map(|krate| &krate.sources).collect();
    Ok([missing(&page, &sources), repeated(&page, &sources)].concat())
}

/// Two rows of one constant sooner or later say different things of it. Each constant of a name may have a row of its own.
fn repeated(page: &str, product: &[&Source]) -> Vec<String> {
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (_, name) in product.iter().flat_map(|source| constants(source)) {
        *known.entry(name).or_default() += 1;
    }
    let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in page.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let names = row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
        for name in names.filter(|&name| known.contains_key(name)) {
            lines.entry(name).or_default().push(index + 1);
        }
    }
    let surplus = lines.iter().filter(|&(&name, lines)| lines.len() > known.get(name).copied().unwrap_or(0));
    surplus
        .map(|(name, lines)| {
            format!("{PAGE}: `{name}` has rows in the lines {lines:?}: keep the one that is right")
        })
        .collect()
}

fn missing(page: &str, product: &[&Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in product {
        let all = source.path.file_name() == Some("limits.rs".as_ref());
        for (line, name) in constants(source) {
            let bounds = all || name.ends_with("_MAX") || name.ends_with("_MIN");
            if bounds && !page.contains(&format!("`{name}`")) {
                findings.push(format!(
                    "{}:{line}: `{name}` is not in {PAGE}: add what it bounds and what happens when it bites",
                    source.path.display()
                ));
            }
        }
    }
    // The page would be just as complete if no constant were found at all.
    if !product.iter().any(|source| source.path == Path::new("observer-common/src/limits.rs")) {
        findings
            .push("observer-common/src/limits.rs is not there: adapt tests/checks/src/limits.rs".to_owned());
    }
    findings
}

/// Line and name of each constant; parameters of generics are none.
fn constants(source: &Source) -> Vec<(usize, String)> {
    let mut constants = Constants(Vec::new());
    constants.visit_file(&source.file);
    constants.0
}

struct Constants(Vec<(usize, String)>);

impl Constants {
    fn add(&mut self, name: &Ident) {
        self.0.push((name.span().start().line, name.to_string()));
    }
}

impl<'ast> Visit<'ast> for Constants {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.add(&item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        self.add(&item.ident);
        visit::visit_impl_item_const(self, item);
    }

    fn visit_trait_item_const(&mut self, item: &'ast TraitItemConst) {
        self.add(&item.ident);
        visit::visit_trait_item_const(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::source;

    #[test]
    fn a_bound_that_the_page_does_not_name_is_found() {
        let product = [
            source(
                "observer-common/src/limits.rs",
                "/// x\npub const A_BYTES: usize = 1;\npub const B_MAX: u32 = 2;",
            ),
            source(
                "observer/src/x.rs",
                "pub(crate) const C_MAX: u8 = 1;\nconst OTHER: u8 = 1;\nfn f<const D_MAX: u8>() {}\nimpl X { const E_MIN: u8 = 1; }",
            ),
        ];
        let product: Vec<_> = product.iter().collect();
        let found = missing("`A_BYTES` is 1, B_MAX is not in code marks", &product);
        let found: Vec<_> = found.iter().filter_map(|finding| finding.split(" is not").next()).collect();
        assert_eq!(
            found,
            [
                "observer-common/src/limits.rs:3: `B_MAX`",
                "observer/src/x.rs:1: `C_MAX`",
                "observer/src/x.rs:4: `E_MIN`"
            ]
        );
    }

    #[test]
    fn a_bound_with_more_rows_than_constants_is_found() {
        let product = [
            source("observer/src/x.rs", "const A_MAX: u8 = 1;\nconst B_MAX: u8 = 1;"),
            source("observer/src/y.rs", "const B_MAX: u8 = 2;\nconst C_MAX: u8 = 1;"),
        ];
        let product: Vec<_> = product.iter().collect();
        let right = "| `A_MAX`, `B_MAX` | 1 | x | as `C_MAX` |\n| `B_MAX` (`y`) | 2 | y | z |\n| `C_MAX` | 1 | x | y |\n";
        assert_eq!(repeated(right, &product), [""; 0]);
        let found = repeated(&format!("{right}| `C_MAX` | 1 | y | z |\n"), &product);
        assert_eq!(
            found,
            ["docs/limits.md: `C_MAX` has rows in the lines [3, 4]: keep the one that is right"]
        );
        let found = repeated(&format!("{right}| `B_MAX` | 1 | y | z |\n"), &product);
        assert_eq!(
            found,
            ["docs/limits.md: `B_MAX` has rows in the lines [1, 2, 4]: keep the one that is right"]
        );
    }

    #[test]
    fn finding_no_constants_at_all_is_a_finding() {
        assert_eq!(missing("", &[]).len(), 1);
    }
}

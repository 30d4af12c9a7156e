//! Every bound in the source is on the operators' page.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use observer_harness::workspace::Workspace;
use syn::visit::{self, Visit};
use syn::{Ident, ImplItemConst, ItemConst, TraitItemConst};

use crate::source::{Crate, Source};

const PAGE: &str = "docs/limits.md";

/// Constants that bound something and are not named in the page.
pub(crate) fn check(workspace: &Workspace, product: &[Crate]) -> Result<Vec<String>> {
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let sources: Vec<_> = product.iter().flat_map(|krate| &krate.sources).collect();
    Ok(missing(&page, &sources))
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
    fn finding_no_constants_at_all_is_a_finding() {
        assert_eq!(missing("", &[]).len(), 1);
    }
}

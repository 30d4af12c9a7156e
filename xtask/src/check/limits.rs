//! Every bound in the source is on the operators' page.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::source::Source;
use crate::workspace::Workspace;

const PAGE: &str = "docs/limits.md";

/// Constants that bound something and are not named in the page.
pub(super) fn check(workspace: &Workspace, product: &[Source]) -> Result<Vec<String>> {
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(missing(&page, product))
}

fn missing(page: &str, product: &[Source]) -> Vec<String> {
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
            .push("observer-common/src/limits.rs is not there: adapt xtask/src/check/limits.rs".to_owned());
    }
    findings
}

/// Line and name of each constant; parameters of generics are none.
fn constants(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.code.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim_start();
        let visible = line.strip_prefix("pub").map_or(line, |rest| {
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest)
        });
        let (name, _) = visible.trim_start().strip_prefix("const ")?.split_once(':')?;
        name.chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            .then_some((index + 1, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::source;

    #[test]
    fn a_bound_that_the_page_does_not_name_is_found() {
        let file = |path: &str, text: &str| source::parse(Path::new(path), text);
        let product = [
            file(
                "observer-common/src/limits.rs",
                "/// x\npub const A_BYTES: usize = 1;\npub const B_MAX: u32 = 2;",
            ),
            file(
                "observer/src/x.rs",
                "    pub(crate) const C_MAX: u8 = 1;\nconst OTHER: u8 = 1;\nfn f<const D_MAX: u8>() {}",
            ),
        ];
        let found = missing("`A_BYTES` is 1, B_MAX is not in code marks", &product);
        let found: Vec<_> = found.iter().filter_map(|finding| finding.split(" is not").next()).collect();
        assert_eq!(found, ["observer-common/src/limits.rs:3: `B_MAX`", "observer/src/x.rs:1: `C_MAX`"]);
    }

    #[test]
    fn finding_no_constants_at_all_is_a_finding() {
        assert_eq!(missing("", &[]).len(), 1);
    }
}

//! Every statement of the page about security names a test that shows it, and that test exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use observer_harness::workspace::Workspace;

const PAGE: &str = "docs/security.md";
/// The heading of the column that names tests.
const SHOWN_BY: &str = "shown by";

/// Rows of the page that name no test, or one that there is not.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut tests = BTreeSet::new();
    read_tests(&workspace.root, &mut tests)?;
    Ok(faults(&page, &tests))
}

fn faults(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let (mut faults, mut rows, mut before) = (Vec::new(), 0, "");
    for (number, line) in (1..).zip(page.lines()) {
        let cells = || line.trim_end_matches('|').rsplit('|');
        let is_row = line.starts_with('|');
        let is_heading = is_row && !before.starts_with('|');
        before = line;
        if !is_row || line.starts_with("|--") {
            continue;
        }
        let last = cells().next().unwrap_or_default().trim();
        if is_heading {
            if last != SHOWN_BY {
                faults.push(format!("{PAGE}:{number}: the last column of a table is `{SHOWN_BY}`"));
            }
            continue;
        }
        rows += 1;
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            faults.push(format!("{PAGE}:{number}: it names no test that shows it"));
        }
        let missing = named.into_iter().filter(|&name| !tests.contains(name));
        faults.extend(missing.map(|name| format!("{PAGE}:{number}: there is no test `{name}`")));
    }
    if rows == 0 {
        faults.push(format!("{PAGE} states nothing"));
    }
    faults
}

/// Adds the names of all tests in the Rust files below a directory.
fn read_tests(dir: &Path, tests: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            read_tests(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            tests.extend(names(&text));
        }
    }
    Ok(())
}

/// Names of the functions that have an attribute which makes them a test.
fn names(text: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        let function = line.split_once("fn ").filter(|(before, _)| matches!(*before, "" | "async "));
        if let Some((_, rest)) = function {
            names.extend(rest.split_once('(').filter(|_| is_test).map(|(name, _)| name.to_owned()));
            is_test = false;
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_names_tests_that_exist() {
        let source = "#[test]\nfn one() {}\n#[tokio::test(start_paused = true)]\nasync fn other() {}\n\
                      #[test]\n#[ignore]\nfn third() {}\nfn none() {}\n";
        let tests: BTreeSet<String> = names(source).into_iter().collect();
        assert_eq!(tests.iter().map(String::as_str).collect::<Vec<_>>(), ["one", "other", "third"]);
        let page = |rows: &str| format!("text `none`\n\n| what | shown by |\n|---|---|\n{rows}\n\ntext\n");
        assert_eq!(faults(&page("| a | `one`, `other` |\n| b `x` | `third` |"), &tests), [""; 0]);
        let found = faults(&page("| a | `one`, `none` |\n| b `one` | nothing |"), &tests);
        assert_eq!(
            found,
            [
                "docs/security.md:5: there is no test `none`",
                "docs/security.md:6: it names no test that shows it"
            ]
        );
        assert_eq!(faults("text", &tests).len(), 1);
        assert_eq!(faults("| a | b |\n|---|---|\n| a | `one` |", &tests).len(), 1);
    }
}

//! The documents are wrapped: a terminal, a mail and a diff show their text whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use observer_harness::workspace::Workspace;

/// Columns of a line of text.
const COLUMNS_MAX: usize = 100;
/// The page that a terminal shows first: its tables fit as well.
const FIRST: &str = "README.md";
/// Directories with documents, relative to the workspace; those below them are left out.
const DIRECTORIES: [&str; 4] = ["", "docs", "docs/decisions", "tests"];

/// Returns a finding for each line that is too long.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for directory in DIRECTORIES {
        for path in documents(&workspace.root.join(directory))? {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path).display().to_string();
            let tables = if shown == FIRST { Tables::Fit } else { Tables::MayBeWider };
            findings.extend(too_long(&text, tables).into_iter().map(|(line, columns)| {
                format!("{shown}: line {line} has {columns} columns, of at most {COLUMNS_MAX}: wrap it")
            }));
        }
    }
    Ok(findings)
}

fn documents(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether the lines of tables are held to the bound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tables {
    Fit,
    MayBeWider,
}

/// Number and columns of each line of text that is too long. Tables, code and what a program writes between two marks
/// cannot be wrapped; code and what is written may be wider everywhere.
fn too_long(text: &str, tables: Tables) -> Vec<(usize, usize)> {
    let (mut is_code, mut is_written) = (false, false);
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        let is_mark = line.starts_with("<!--");
        is_written = if is_mark { line.contains("from here") } else { is_written };
        let columns = line.chars().count();
        let is_kept = (line.starts_with('|') && tables == Tables::MayBeWider) || line.starts_with("    ");
        let is_text = !(is_code || is_fence || is_mark || is_written || is_kept);
        if is_text && columns > COLUMNS_MAX {
            found.push((number, columns));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Tables, too_long};

    #[test]
    fn text_alone_is_wrapped() {
        let long = "x".repeat(101);
        let fits = "é".repeat(100);
        let text = format!(
            "{fits}\n{long}\n| {long} |\n    {long}\n```\n{long}\n```\n- {long}\n<!-- from here -->\n{long}\n<!-- to here -->\n{long}\n"
        );
        assert_eq!(too_long(&text, Tables::MayBeWider), [(2, 101), (8, 103), (12, 101)]);
        assert_eq!(too_long(&text, Tables::Fit), [(2, 101), (3, 105), (8, 103), (12, 101)]);
    }
}

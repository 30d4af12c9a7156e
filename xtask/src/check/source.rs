//! The product's Rust source, taken apart just enough to ask what it names: code without comments, literals and
//! tests, and the literals for themselves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Crates that run on a production host.
const PRODUCT: [&str; 4] = ["observer-common", "observer-core", "observer-ebpf", "observer"];

/// One file.
pub(super) struct Source {
    /// Relative to the workspace.
    pub(super) path: PathBuf,
    /// The code; comments, contents of literals and test modules are blanked, line breaks kept.
    pub(super) code: String,
    /// String literals outside tests: line, content as written between the quotes.
    pub(super) literals: Vec<(usize, String)>,
}

/// Every file of the product, in order of path. Files that hold nothing but tests (`tests.rs`, `tests/`) are left
/// out.
pub(super) fn product(workspace: &Workspace) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for name in PRODUCT {
        let directory = workspace.root.join(name).join("src");
        collect(&directory, &mut files).with_context(|| format!("list {}", directory.display()))?;
    }
    files.sort();
    let sources: Result<Vec<_>> = files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            Ok(parse(file.strip_prefix(&workspace.root).unwrap_or(file), &text))
        })
        .collect();
    let sources = sources?;
    if sources.is_empty() {
        bail!("no source found under {}: the check would prove nothing", workspace.root.display());
    }
    Ok(sources)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let tests = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !tests {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && !tests {
            files.push(path);
        }
    }
    Ok(())
}

/// Takes one file apart.
pub(super) fn parse(path: &Path, text: &str) -> Source {
    let mut scan =
        Scan { rest: text, line: 1, code: String::with_capacity(text.len()), literals: Vec::new() };
    while !scan.rest.is_empty() {
        scan.step();
    }
    let Scan { code, literals, .. } = scan;
    let tests = test_lines(&code);
    let in_tests = |line: usize| tests.iter().any(|&(first, last)| (first..=last).contains(&line));
    let literals = literals.into_iter().filter(|&(line, _)| !in_tests(line)).collect();
    let code = code
        .lines()
        .enumerate()
        .map(|(index, line)| if in_tests(index + 1) { "" } else { line })
        .collect::<Vec<_>>()
        .join("\n");
    Source { path: path.to_path_buf(), code, literals }
}

struct Scan<'a> {
    rest: &'a str,
    line: usize,
    code: String,
    literals: Vec<(usize, String)>,
}

impl<'a> Scan<'a> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.blank(end);
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment(self.rest));
        } else if let Some((open, body, close)) = string(self.rest, self.code.chars().next_back()) {
            self.copy(open);
            let line = self.line;
            let content = self.blank(body).to_owned();
            self.literals.push((line, content));
            self.copy(close);
        } else if let Some(len) = char_literal(self.rest) {
            self.blank(len);
        } else {
            self.copy(self.rest.chars().next().map_or(1, char::len_utf8));
        }
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    fn copy(&mut self, len: usize) {
        let taken = self.take(len);
        self.code.push_str(taken);
    }

    fn blank(&mut self, len: usize) -> &'a str {
        let taken = self.take(len);
        self.code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        taken
    }
}

/// Length of the block comment at the start of `text`; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Lengths of the opening, content and closing of the string literal at the start of `text`, if one is there:
/// `"…"`, `b"…"`, `c"…"`, and raw ones. `before` is the character in front of it.
fn string(text: &str, before: Option<char>) -> Option<(usize, usize, usize)> {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = if in_word { 0 } else { text.find(|c| !matches!(c, 'b' | 'c' | 'r'))? };
    if prefix > 2 {
        return None;
    }
    let raw = text.get(..prefix)?.contains('r');
    let after = text.get(prefix..)?;
    let hashes = if raw { after.find(|c| c != '#')? } else { 0 };
    let content = after.get(hashes..)?.strip_prefix('"')?;
    let open = prefix + hashes + 1;
    if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        let len = content.find(&close).unwrap_or(content.len());
        return Some((open, len, close.len()));
    }
    let mut escaped = false;
    let len = content
        .find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })
        .unwrap_or(content.len());
    Some((open, len, 1))
}

/// Length of the character literal at the start of `text`; a lifetime is none.
fn char_literal(text: &str) -> Option<usize> {
    let content = text.strip_prefix('\'')?;
    if let Some(escape) = content.strip_prefix('\\') {
        // The escaped character may itself be a quote.
        let skipped = escape.chars().next()?.len_utf8();
        return escape.get(skipped..)?.find('\'').map(|end| 2 + skipped + end + 1);
    }
    let len = content.chars().next()?.len_utf8();
    content.get(len..)?.starts_with('\'').then_some(len + 2)
}

/// First and last lines of modules under `#[cfg(test)]`. `code` has no comments and no literals.
fn test_lines(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let after = code.get(at + attribute.len()..).unwrap_or_default();
        let item = after.trim_start();
        if !(item.starts_with("mod ") || item.starts_with("pub(crate) mod ")) {
            continue;
        }
        let mut depth = 0i64;
        let end = after.find(|c| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0 && matches!(c, '}' | ';')
        });
        let line = |at: usize| code.get(..at).unwrap_or(code).matches('\n').count() + 1;
        found.push((line(at), line(at + attribute.len() + end.unwrap_or(after.len()))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(text: &str) -> Vec<(usize, String)> {
        parse(Path::new("x.rs"), text).literals
    }

    #[test]
    fn every_kind_of_string_is_found_with_its_line() {
        let text = "f(\"a\\\"b\");\ng(br#\"c\"d\"#, c\"e\", r\"\\\");\nlet char = 'x';\nh(b\"i\")";
        let expected = [(1, "a\\\"b"), (2, "c\"d"), (2, "e"), (2, "\\"), (4, "i")];
        assert_eq!(literals(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn comments_characters_and_lifetimes_hold_no_strings() {
        let text =
            "// \"a\"\n/* \"b\" /* \"c\" */ \"d\" */ let x: &'a str = '\"'; let y = '\\''; f::<'b>(\"e\")";
        assert_eq!(literals(text), [(2, "e".to_owned())]);
    }

    #[test]
    fn code_is_free_of_what_only_looks_like_code() {
        let source = parse(Path::new("x.rs"), "a(); // RING\nb(\"RING\");\nRING.output();");
        assert_eq!(source.code.matches("RING").count(), 1);
        assert_eq!(source.code.lines().count(), 3);
    }

    #[test]
    fn test_modules_are_left_out_and_what_follows_them_is_not() {
        let text = "f(\"a\");\n#[cfg(test)]\nmod tests {\n    fn g() { h(\"}\"); }\n}\ni(\"b\");\n#[cfg(test)]\nmod more;\nj(\"c\");";
        let found: Vec<_> = literals(text).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, ["a", "b", "c"]);
        assert!(!parse(Path::new("x.rs"), text).code.contains("h("));
    }
}

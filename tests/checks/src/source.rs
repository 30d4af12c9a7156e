//! The product's Rust source, parsed by `syn`: the files that are compiled into a program, without their tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{MetadataCommand, Package};
use observer_harness::workspace::Workspace;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, ImplItem, Item, ItemMod};

/// Files from which the crates of the product are compiled.
const ROOTS: [&str; 5] = [
    "observer-common/src/lib.rs",
    "observer-core/src/lib.rs",
    "observer-ebpf/src/main.rs",
    "observer/src/lib.rs",
    "observer/src/main.rs",
];

/// One crate of the product: every file that its root reaches by `mod`.
pub(crate) struct Crate {
    /// In the order in which the modules are declared, the root first.
    pub(crate) sources: Vec<Source>,
}

/// One file.
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    /// Module path of the file in its crate; empty for the root.
    pub(crate) module: Vec<String>,
    /// What the file declares, without what is under `#[cfg(test)]`.
    pub(crate) file: syn::File,
    /// Lines of the file, those under `#[cfg(test)]` left out.
    pub(crate) lines: usize,
}

/// A file's tokens that stand on one line, written without spaces except between two words.
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: usize,
    /// Without comments, documentation and contents of literals.
    pub(crate) code: String,
}

/// Parses every crate of the product.
///
/// # Errors
/// A file that cannot be read, that does not parse, or a module whose file is missing.
pub(crate) fn product(workspace: &Workspace) -> Result<Vec<Crate>> {
    ROOTS.iter().map(|root| Crate::read(&workspace.root, Path::new(root))).collect()
}

/// Parses every other library and program of the workspace: the harness, the tools; test targets are left out.
///
/// # Errors
/// As of [`product`].
pub(crate) fn tools(workspace: &Workspace) -> Result<Vec<Crate>> {
    let mut crates = Vec::new();
    for target in packages(workspace)?.iter().flat_map(|package| &package.targets) {
        let is_crate = target.is_lib() || target.is_bin();
        let Ok(root) = target.src_path.as_std_path().strip_prefix(&workspace.root) else { continue };
        if is_crate && !ROOTS.iter().any(|product| Path::new(product) == root) {
            crates.push(Crate::read(&workspace.root, root)?);
        }
    }
    Ok(crates)
}

/// The packages of the workspace.
///
/// # Errors
/// cargo cannot read a manifest.
pub(crate) fn packages(workspace: &Workspace) -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new().current_dir(&workspace.root).no_deps().exec();
    Ok(metadata.context("read the workspace's packages")?.packages)
}

impl Crate {
    /// Parses the root, a path relative to `workspace`, and all that it reaches.
    pub(crate) fn read(workspace: &Path, root: &Path) -> Result<Self> {
        let mut sources = Vec::new();
        let mut waiting = vec![(root.to_path_buf(), Vec::new())];
        while let Some((path, module)) = waiting.pop() {
            let text = fs::read_to_string(workspace.join(&path))
                .with_context(|| format!("read {}", path.display()))?;
            let source = Source::parse(&path, module, &text)?;
            for (child, name) in children(workspace, &source)?.into_iter().rev() {
                let module = source.module.iter().cloned().chain(name).collect();
                waiting.push((child, module));
            }
            sources.push(source);
        }
        Ok(Self { sources })
    }
}

impl Source {
    pub(crate) fn parse(path: &Path, module: Vec<String>, text: &str) -> Result<Self> {
        let mut file = syn::parse_file(text).with_context(|| format!("parse {}", path.display()))?;
        let mut test_lines = 0;
        drop_tests(&mut file.items, &mut test_lines);
        let lines = text.lines().count().saturating_sub(test_lines);
        Ok(Self { path: path.to_path_buf(), module, file, lines })
    }

    /// The code, line by line; lines without code are left out.
    pub(crate) fn code(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for_each_token(self.file.to_token_stream(), &mut |token| match token {
            TokenTree::Ident(ident) => push(&mut lines, ident.span().start().line, &ident.to_string()),
            TokenTree::Punct(punct) => {
                push(&mut lines, punct.span().start().line, &punct.as_char().to_string());
            }
            TokenTree::Literal(literal) => push(&mut lines, literal.span().start().line, "_"),
            TokenTree::Group(group) => {
                push(&mut lines, group.span_open().start().line, opening(group.delimiter()));
            }
        });
        lines
    }

    /// Line and value of each string literal, byte and C strings included.
    pub(crate) fn literals(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for_each_token(self.file.to_token_stream(), &mut |token| {
            let TokenTree::Literal(literal) = token else { return };
            let value = match syn::Lit::new(literal.clone()) {
                syn::Lit::Str(text) => text.value(),
                syn::Lit::ByteStr(bytes) => String::from_utf8_lossy(&bytes.value()).into_owned(),
                syn::Lit::CStr(text) => text.value().to_string_lossy().into_owned(),
                _ => return,
            };
            found.push((literal.span().start().line, value));
        });
        found
    }

    /// Line and arguments of each call of a macro with one of these names.
    pub(crate) fn macro_calls(&self, names: &[&str]) -> Vec<(usize, TokenStream)> {
        let (mut found, mut line, mut is_macro) = (Vec::new(), None, false);
        for_each_token(self.file.to_token_stream(), &mut |token| {
            match token {
                TokenTree::Group(group) if is_macro => found.extend(line.map(|line| (line, group.stream()))),
                TokenTree::Punct(punct) if punct.as_char() == '!' && line.is_some() => {
                    is_macro = true;
                    return;
                }
                _ => {}
            }
            is_macro = false;
            line = match token {
                TokenTree::Ident(ident) if names.iter().any(|name| ident == name) => {
                    Some(ident.span().start().line)
                }
                _ => None,
            };
        });
        found
    }
}

fn opening(delimiter: Delimiter) -> &'static str {
    match delimiter {
        Delimiter::Parenthesis => "(",
        Delimiter::Brace => "{",
        Delimiter::Bracket => "[",
        Delimiter::None => "",
    }
}

fn push(lines: &mut Vec<Line>, number: usize, token: &str) {
    match lines.last_mut().filter(|line| line.number == number) {
        Some(line) => {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            if line.code.ends_with(is_word) && token.starts_with(is_word) {
                line.code.push(' ');
            }
            line.code.push_str(token);
        }
        None => lines.push(Line { number, code: token.to_owned() }),
    }
}

/// Calls `visit` for each token, a group before its contents; documentation is left out.
fn for_each_token(tokens: TokenStream, visit: &mut impl FnMut(&TokenTree)) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if is_punct(&token, '#') {
            let inner = tokens.next_if(|token| is_punct(token, '!'));
            if tokens.next_if(is_documentation).is_some() {
                continue;
            }
            visit(&token);
            if let Some(inner) = inner {
                visit(&inner);
            }
            continue;
        }
        visit(&token);
        if let TokenTree::Group(group) = token {
            for_each_token(group.stream(), visit);
        }
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_documentation(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group)
        if matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(ident)) if ident == "doc"))
}

/// Removes what is under `#[cfg(test)]`, in modules and implementations too, and adds up the lines that it took.
fn drop_tests(items: &mut Vec<Item>, lines: &mut usize) {
    items.retain(|item| {
        let is_test = is_test(attributes(item));
        *lines += if is_test { height(item) } else { 0 };
        !is_test
    });
    for item in items {
        match item {
            Item::Mod(ItemMod { content: Some((_, items)), .. }) => drop_tests(items, lines),
            Item::Impl(implementation) => implementation.items.retain(|item| match item {
                ImplItem::Fn(function) => {
                    let is_test = is_test(&function.attrs);
                    *lines += if is_test { height(function) } else { 0 };
                    !is_test
                }
                _ => true,
            }),
            _ => {}
        }
    }
}

/// How many lines `node` takes, its attributes and documentation included.
pub(crate) fn height(node: &impl Spanned) -> usize {
    let span = node.span();
    span.end().line.saturating_sub(span.start().line) + 1
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| {
                let condition = list.tokens.to_string();
                condition == "test" || condition.replace(' ', "").starts_with("all(test,")
            })
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Files of the modules that `source` declares without a body, each with its module path below that of `source`.
fn children(workspace: &Path, source: &Source) -> Result<Vec<(PathBuf, Vec<String>)>> {
    let beside = source.path.parent().unwrap_or(Path::new(""));
    let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let below = if matches!(stem, "lib" | "main" | "mod") { beside.to_path_buf() } else { beside.join(stem) };
    let mut found = Vec::new();
    let mut waiting: Vec<(&[Item], Vec<String>)> = vec![(&source.file.items, Vec::new())];
    while let Some((items, module)) = waiting.pop() {
        for item in items {
            let Item::Mod(declared) = item else { continue };
            let mut path = module.clone();
            path.push(declared.ident.to_string());
            match &declared.content {
                Some((_, items)) => waiting.push((items, path)),
                None => found.push((module_file(workspace, beside, &below, declared, &path)?, path)),
            }
        }
    }
    Ok(found)
}

/// `#[path]` is relative to the declaring file's directory; without it the file is `NAME.rs` or `NAME/mod.rs`.
fn module_file(
    workspace: &Path,
    beside: &Path,
    below: &Path,
    declared: &ItemMod,
    path: &[String],
) -> Result<PathBuf> {
    let named = declared.attrs.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(file), .. }) => Some(beside.join(file.value())),
            _ => None,
        },
        _ => None,
    });
    let place = path.iter().fold(below.to_path_buf(), |place, name| place.join(name));
    let candidates =
        named.map_or_else(|| vec![place.with_extension("rs"), place.join("mod.rs")], |file| vec![file]);
    let Some(file) = candidates.iter().find(|file| workspace.join(file).is_file()) else {
        bail!("module {} has no file: looked for {candidates:?}", path.join("::"));
    };
    Ok(file.clone())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A source as the checks get it, from its text.
    pub(crate) fn source(path: &str, text: &str) -> Source {
        Source::parse(Path::new(path), Vec::new(), text).unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    /// A crate from paths relative to its source directory, in a workspace of its own.
    pub(crate) fn written(files: &[(&str, &str)]) -> Result<Crate> {
        let workspace = tempfile::tempdir()?;
        for (path, text) in files {
            let file = workspace.path().join("c/src").join(path);
            fs::create_dir_all(file.parent().unwrap_or(&file))?;
            fs::write(file, text)?;
        }
        Crate::read(workspace.path(), Path::new("c/src/lib.rs"))
    }

    #[test]
    fn every_kind_of_string_is_found_with_its_line() {
        let text = "fn f() {\nf(\"a\\\"b\");\ng!(br#\"c\"d\"#, c\"e\", r\"\\\");\nlet c = 'x';\nh(b\"i\") }";
        let expected = [(2, "a\"b"), (3, "c\"d"), (3, "e"), (3, "\\"), (5, "i")];
        assert_eq!(source("x.rs", text).literals(), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn comments_and_documentation_are_neither_code_nor_literals() {
        let text = "#![x] //! \"a\"\n/// RING\nfn f() { a(); // RING\nb(\"RING\");\nRING.output(); }";
        let source = source("x.rs", text);
        assert_eq!(source.literals(), [(4, "RING".to_owned())]);
        let code: Vec<_> = source.code().into_iter().map(|line| (line.number, line.code)).collect();
        let expected = [(1, "#![x"), (3, "fn f({a(;"), (4, "b(_;"), (5, "RING.output(;")];
        assert_eq!(code, expected.map(|(line, code)| (line, code.to_owned())));
    }

    #[test]
    fn tests_are_left_out_and_what_follows_them_is_not() {
        let text = "const A: &str = \"a\";\n#[cfg(test)]\nmod tests {\n    fn g() { h(\"}\"); }\n}\n\
                    #[cfg(test)]\nmod more;\nconst B: &str = \"b\";\nimpl X {\n#[cfg(test)]\nfn i() { \"c\"; }\n}\n";
        let source = source("x.rs", text);
        assert_eq!(source.literals(), [(1, "a".to_owned()), (8, "b".to_owned())]);
        assert_eq!(source.lines, 12 - 4 - 2 - 2);
    }

    #[test]
    fn a_crate_is_what_its_root_reaches() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod tests;\nmod inline { mod deep; }"),
            ("a.rs", "#[path = \"elsewhere.rs\"]\nmod named;"),
            ("elsewhere.rs", ""),
            ("b/mod.rs", "mod c;"),
            ("b/c.rs", ""),
            ("inline/deep.rs", ""),
            ("unused.rs", "not Rust"),
        ];
        let krate = written(&files)?;
        let modules: Vec<_> = krate.sources.iter().map(|source| source.module.join("::")).collect();
        assert_eq!(modules, ["", "a", "a::named", "b", "b::c", "inline::deep"]);
        assert!(written(&[("lib.rs", "mod missing;")]).is_err());
        Ok(())
    }
}

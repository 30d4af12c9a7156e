//! What each file of a crate imports from the other files of the crate.
//!
//! An import is a path, in a `use`, in code or in a macro call, that leads into another file. Whoever uses a re-exported name
//! imports from the file that declares it. So the file that re-exports it makes no circle by that, but it knows the other file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Item, ItemMacro, ItemMod, ItemUse, Macro, UseTree, Visibility};

use crate::source::Crate;

/// How many re-exports may lie between a name and its declaration.
const REEXPORTS_MAX: usize = 16;

/// A module path or a path of an item, from the root of the crate.
type Names = Vec<String>;

/// One file's import from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    /// Of the first path in `from` that leads into `to`.
    pub(crate) line: usize,
    /// `from` does nothing with `to` but re-export its names.
    pub(crate) is_reexport: bool,
}

/// Each pair of files of `krate` of which the first imports from the second, in order.
pub(crate) fn imports(krate: &Crate) -> Vec<Import> {
    let mut names = Index::default();
    for source in &krate.sources {
        names.declare(&source.file.items, &source.module, &source.path);
    }
    // An import beside a re-export is an import: `false` comes first.
    let mut found: BTreeMap<(PathBuf, PathBuf), (bool, usize)> = BTreeMap::new();
    for source in &krate.sources {
        let mut paths = Paths { index: &names, module: source.module.clone(), found: Vec::new() };
        paths.visit_file(&source.file);
        for ImportPath { line, path, is_reexport } in paths.found {
            let Some(to) = names.file(&path, REEXPORTS_MAX).filter(|&to| to != source.path) else { continue };
            let place = (is_reexport, line);
            let first = found.entry((source.path.clone(), to.to_path_buf())).or_insert(place);
            *first = place.min(*first);
        }
    }
    let import = |((from, to), (is_reexport, line))| Import { from, to, line, is_reexport };
    found.into_iter().map(import).collect()
}

/// What the modules of a crate declare.
#[derive(Default)]
struct Index {
    /// File of each module.
    modules: BTreeMap<Names, PathBuf>,
    /// Module and name of each item.
    items: BTreeSet<(Names, String)>,
    /// What a name stands for in a module that imports it.
    bindings: BTreeMap<(Names, String), Names>,
    /// Names among them that the module exports.
    exported: BTreeSet<(Names, String)>,
    /// Modules of which a module imports everything.
    globs: BTreeMap<Names, Vec<Names>>,
}

impl Index {
    fn declare(&mut self, items: &[Item], module: &[String], file: &Path) {
        self.modules.insert(module.to_vec(), file.to_path_buf());
        // Children first: a `use` may begin with the name of one.
        for item in items {
            if let Some(name) = name(item) {
                self.items.insert((module.to_vec(), name));
            }
            if let Item::Mod(ItemMod { ident, content, .. }) = item {
                let child = join(module, &ident.to_string());
                match content {
                    Some((_, items)) => self.declare(items, &child, file),
                    // Its own file replaces this.
                    None => drop(self.modules.entry(child).or_insert_with(|| file.to_path_buf())),
                }
            }
        }
        for item in items {
            let Item::Use(import) = item else { continue };
            for leaf in leaves(&import.tree) {
                let Some(path) = self.absolute(module, &leaf.path) else { continue };
                let Some(name) = leaf.name else {
                    self.globs.entry(module.to_vec()).or_default().push(path);
                    continue;
                };
                let key = (module.to_vec(), name);
                if !matches!(import.vis, Visibility::Inherited) {
                    self.exported.insert(key.clone());
                }
                self.bindings.insert(key, path);
            }
        }
    }

    /// The path from the crate's root, unless it leads out of the crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Names> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = path.get(1..)?;
            }
            "self" => rest = path.get(1..)?,
            "super" => {
                while let Some((_, after)) = rest.split_first().filter(|(first, _)| *first == "super") {
                    base.pop()?;
                    rest = after;
                }
            }
            first if self.modules.contains_key(&join(module, first)) => {}
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The file that declares what `path`, from the crate's root, stands for.
    fn file(&self, path: &[String], reexports: usize) -> Option<&Path> {
        let mut module = Names::new();
        for (at, name) in path.iter().enumerate() {
            let child = join(&module, name);
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let key = (module.clone(), name.clone());
            if self.items.contains(&key) || reexports == 0 {
                break;
            }
            let rest = path.get(at + 1..).unwrap_or_default();
            let through = |target: &Names| {
                let path: Names = target.iter().chain(rest).cloned().collect();
                self.file(&path, reexports - 1)
            };
            if let Some(target) = self.bindings.get(&key) {
                return through(target);
            }
            let globs = self.globs.get(&module).map(Vec::as_slice).unwrap_or_default();
            let declared = globs.iter().find(|glob| self.declares(glob, name));
            return match declared {
                Some(glob) => through(&join(glob, name)),
                None => self.modules.get(&module).map(PathBuf::as_path),
            };
        }
        self.modules.get(&module).map(PathBuf::as_path)
    }

    fn declares(&self, module: &[String], name: &str) -> bool {
        let key = (module.to_vec(), name.to_owned());
        self.items.contains(&key) || self.bindings.contains_key(&key)
    }
}

fn join(module: &[String], name: &str) -> Names {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// One path of a `use`, and the name that it gets; none for `*`.
struct Leaf {
    path: Names,
    name: Option<String>,
}

fn leaves(tree: &UseTree) -> Vec<Leaf> {
    let mut found = Vec::new();
    let mut waiting = vec![(tree, Names::new())];
    while let Some((tree, before)) = waiting.pop() {
        match tree {
            UseTree::Path(path) => waiting.push((&path.tree, join(&before, &path.ident.to_string()))),
            UseTree::Group(group) => waiting.extend(group.items.iter().map(|tree| (tree, before.clone()))),
            UseTree::Glob(_) => found.push(Leaf { path: before, name: None }),
            // `use a::{self}` names a itself.
            UseTree::Name(leaf) if leaf.ident == "self" => {
                found.push(Leaf { name: before.last().cloned(), path: before });
            }
            UseTree::Name(leaf) => {
                let name = leaf.ident.to_string();
                found.push(Leaf { path: join(&before, &name), name: Some(name) });
            }
            UseTree::Rename(leaf) if leaf.ident == "self" => {
                found.push(Leaf { path: before, name: Some(leaf.rename.to_string()) });
            }
            UseTree::Rename(leaf) => found.push(Leaf {
                path: join(&before, &leaf.ident.to_string()),
                name: Some(leaf.rename.to_string()),
            }),
        }
    }
    found
}

/// A path that may lead into another file.
struct ImportPath {
    line: usize,
    path: Names,
    is_reexport: bool,
}

/// Collects the paths of a file that may lead into another.
struct Paths<'a> {
    index: &'a Index,
    module: Names,
    found: Vec<ImportPath>,
}

impl Paths<'_> {
    fn import(&mut self, line: usize, path: Names) {
        self.found.push(ImportPath { line, path, is_reexport: false });
    }

    fn add(&mut self, line: usize, path: &[String]) {
        let Some(first) = path.first() else { return };
        let key = (self.module.clone(), first.clone());
        // A private `use` counts where it stands; the re-exported name where it is used.
        if self.index.exported.contains(&key) {
            let target = self.index.bindings.get(&key).cloned().unwrap_or_default();
            self.import(line, target);
        } else if let Some(path) = self.index.absolute(&self.module, path).filter(|_| path.len() > 1) {
            self.import(line, path);
        }
    }

    /// Paths among the tokens of a macro call, whose syntax only the macro knows.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 || path.is_empty() => {
                    line = if path.is_empty() { ident.span().start().line } else { line };
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() && colons < 2 => {
                    let goes_on = punct.spacing() == Spacing::Joint || colons == 1;
                    colons = if goes_on { colons + 1 } else { 0 };
                }
                other => {
                    self.add(line, &path);
                    path.clear();
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => {
                            line = ident.span().start().line;
                            path.push(ident.to_string());
                        }
                        TokenTree::Group(group) => self.add_tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.add(line, &path);
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        let is_reexport = !matches!(import.vis, Visibility::Inherited);
        for leaf in leaves(&import.tree) {
            if let Some(path) = self.index.absolute(&self.module, &leaf.path) {
                self.found.push(ImportPath { line: import.span().start().line, path, is_reexport });
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(path.span().start().line, &names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        self.visit_macro(&item.mac);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    /// `pub(super)` and `pub(in path)` hold paths that import nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;
    use crate::source::tests::written;

    fn found(files: &[(&str, &str)]) -> Result<Vec<String>> {
        let mut imports = imports(&written(files)?);
        imports.retain(|import| !import.is_reexport);
        let below = |path: &Path| path.strip_prefix("c/src").unwrap_or(path).display().to_string();
        Ok(imports.iter().map(|it| format!("{} {} {}", below(&it.from), below(&it.to), it.line)).collect())
    }

    #[test]
    fn a_path_is_an_import_wherever_it_stands() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\nmod e;"),
            ("a.rs", "use crate::b::B;\nfn f() -> super::c::C { println!(\"{}\", crate::d::D); e() }"),
            ("b.rs", "fn f() {\nuse super::e;\n}"),
            ("c.rs", "pub(super) struct C; pub(in crate::b) struct X;"),
            ("d.rs", "use std::c::C; use observer_core::b; use self::x::y; mod x { pub struct y; }"),
            ("e.rs", "mod x { fn f() { super::super::c::f() } }"),
        ];
        assert_eq!(
            found(&files)?,
            ["a.rs b.rs 1", "a.rs c.rs 2", "a.rs d.rs 2", "b.rs e.rs 2", "e.rs c.rs 1"]
        );
        Ok(())
    }

    #[test]
    fn a_reexported_name_is_imported_from_the_file_that_declares_it() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::*;"),
            (
                "a/mod.rs",
                "mod deep;\nmod other;\npub use self::deep::Deep;\npub struct A;\nfn f() {\nlet _: Deep;\nother::f()\n}",
            ),
            ("a/deep.rs", "use super::A;\nuse super::other as o;\npub struct Deep;"),
            ("a/other.rs", "pub fn f() {}"),
            ("b.rs", "use crate::a::Deep;\nuse crate::A;\npub struct B;\nfn f(_: crate::B) {}"),
        ];
        let expected = [
            "a/deep.rs a/mod.rs 1",
            "a/deep.rs a/other.rs 2",
            "a/mod.rs a/deep.rs 6",
            "a/mod.rs a/other.rs 7",
            "b.rs a/deep.rs 1",
            "b.rs a/mod.rs 2",
        ];
        assert_eq!(found(&files)?, expected);
        Ok(())
    }

    #[test]
    fn a_file_that_reexports_a_name_knows_the_file_that_declares_it() -> Result<()> {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            ("a.rs", "pub use crate::b::B;\n\npub(crate) use super::c::C;\nfn f(_: C) {}"),
            ("b.rs", "pub struct B;"),
            ("c.rs", "pub struct C;"),
        ];
        let imports = imports(&written(&files)?);
        let found: Vec<_> = imports.iter().map(|it| (it.to.as_path(), it.line, it.is_reexport)).collect();
        // What is used as well is imported, from where it is used.
        assert_eq!(found, [(Path::new("c/src/b.rs"), 1, true), (Path::new("c/src/c.rs"), 4, false)]);
        Ok(())
    }
}

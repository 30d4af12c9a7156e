//! A function fits a screen, and a file is one concern.
//!
//! Clippy's `too_many_lines` does not see the kernel programs, and it cannot leave tests out.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, ItemFn, Signature, TraitItemFn};

use crate::finding::{Finding, Kind};
use crate::source::{Crate, Source};

/// Lines of a function, from `fn` to its last brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 450;

pub(crate) fn check(product: &[Crate]) -> Vec<Finding> {
    product.iter().flat_map(|krate| &krate.sources).flat_map(too_long).collect()
}

fn too_long(source: &Source) -> Vec<Finding> {
    let mut functions = Functions(Vec::new());
    functions.visit_file(&source.file);
    let too_long = functions.0.into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    let mut messages: Vec<_> = too_long
        .map(|Function { name, line, lines }| {
            format!(
                "line {line}: `{name}` has {lines} lines, of at most {FUNCTION_LINES_MAX}: split it by steps"
            )
        })
        .collect();
    if source.lines > FILE_LINES_MAX {
        messages.push(format!(
            "has {} lines without its tests, of at most {FILE_LINES_MAX}: split it by concerns",
            source.lines
        ));
    }
    let finding =
        |message| Finding { kind: Kind::Length, subject: source.path.display().to_string(), message };
    messages.into_iter().map(finding).collect()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &Signature, body: &Block) {
        let line = signature.span().start().line;
        let lines = body.span().end().line.saturating_sub(line) + 1;
        self.0.push(Function { name: signature.ident.to_string(), line, lines });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.add(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::source;

    fn subjects(text: &str) -> Vec<String> {
        too_long(&source("a.rs", text)).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_function_of_more_than_seventy_lines_is_found() {
        let function = |body: usize| {
            format!("impl X {{\n/// Documentation.\nfn f() {{\n{}}}\n}}", "g();\n".repeat(body))
        };
        assert!(subjects(&function(68)).is_empty());
        assert_eq!(
            subjects(&function(69)),
            ["a.rs: line 3: `f` has 71 lines, of at most 70: split it by steps"]
        );
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(500));
        assert!(subjects(&format!("{}{tests}", "const A: u8 = 1;\n".repeat(450))).is_empty());
        let found = subjects(&format!("{}{tests}", "const A: u8 = 1;\n".repeat(451)));
        assert_eq!(found, ["a.rs: has 451 lines without its tests, of at most 450: split it by concerns"]);
    }
}

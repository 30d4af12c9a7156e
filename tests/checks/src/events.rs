//! Events of the log have fields by which a machine selects.

use proc_macro2::{TokenStream, TokenTree};

use crate::source::Crate;

/// Macros of `tracing` whose events are written by default.
const MACROS: [&str; 3] = ["error", "warn", "info"];

/// Finds the events that do not begin with the part that they are about.
pub(crate) fn check(product: &[Crate]) -> Vec<String> {
    let sources = product.iter().flat_map(|krate| &krate.sources);
    let events = sources.flat_map(|source| {
        source.macro_calls(&MACROS).into_iter().map(|(line, arguments)| (&source.path, line, arguments))
    });
    let without = events.filter(|(.., arguments)| !has_part(arguments.clone()));
    without
        .map(|(path, line, _)| {
            format!(
                "{}:{line}: an event of the log does not begin with the part of the daemon that it is about, as in `part = \"journal\"`",
                path.display()
            )
        })
        .collect()
}

/// Whether the first argument behind `target:` is the field `part`.
fn has_part(arguments: TokenStream) -> bool {
    let arguments: Vec<TokenTree> = arguments.into_iter().collect();
    let mut parts =
        arguments.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','));
    let is_target = |part: &[TokenTree]| matches!(part, [TokenTree::Ident(name), ..] if name == "target");
    let first = parts.find(|part| !is_target(part));
    first.is_some_and(|first| matches!(first, [TokenTree::Ident(name), ..] if name == "part"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::written;

    #[test]
    fn an_event_without_its_part_is_found() -> anyhow::Result<()> {
        let text = "fn f() {\n\
                    warn!(\"a\");\n\
                    tracing::error!(\"{}, {}\", a, b = 1);\n\
                    info!(target: T, \"c\");\n\
                    warn!(part = \"p\", \"d\");\n\
                    warn!(count, \"e\");\n\
                    info!(target: T, part = \"p\", count, \"f\");\n\
                    debug!(\"g\");\n\
                    if !info { h(\"i\") } }";
        let findings = check(&[written(&[("lib.rs", text)])?]);
        let lines: Vec<_> = findings.iter().filter_map(|finding| finding.split(':').nth(1)).collect();
        assert_eq!(lines, ["2", "3", "4", "6"], "{findings:?}");
        Ok(())
    }
}

//! One name, one type: no two types that more than one file can name are called the same.

use std::collections::BTreeMap;

use syn::{Ident, Item, ItemMod, Visibility};

use crate::finding::{Finding, Kind};
use crate::source::Crate;

/// Names that stand for more than one type, and why they may.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// What counts as a public type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Also what is `pub(crate)` or `pub(super)`: in the product, whatever more than one file may name.
    Crate,
    /// What is `pub`: in tools, whatever other crates may name.
    Workspace,
}

/// The types of the product among themselves and beside the public types of the tools.
pub(crate) fn check(product: &[Crate], tools: &[Crate]) -> Vec<Finding> {
    check_by(&EXCEPTIONS, product, tools)
}

fn check_by(exceptions: &[(&str, &str)], product: &[Crate], tools: &[Crate]) -> Vec<Finding> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (crates, scope) in [(product, Scope::Crate), (tools, Scope::Workspace)] {
        for source in crates.iter().flat_map(|krate| &krate.sources) {
            for name in types(&source.file.items, scope) {
                let place = format!("{}:{}", source.path.display(), name.span().start().line);
                places.entry(name.to_string()).or_default().push(place);
            }
        }
    }
    let is_double = |name: &str| places.get(name).is_some_and(|places| places.len() > 1);
    let finding = |name: &str, message| Finding { kind: Kind::TypeName, subject: name.to_owned(), message };
    let doubles = places
        .iter()
        .filter(|(name, places)| {
            places.len() > 1 && !exceptions.iter().any(|(exception, _)| name == exception)
        })
        .map(|(name, places)| {
            finding(name, format!("{} public types have this name ({})", places.len(), places.join(", ")))
        });
    let idle = exceptions.iter().filter(|(name, _)| !is_double(name)).map(|(name, _)| {
        finding(name, "is one type: remove the exception in tests/checks/src/types.rs".to_owned())
    });
    doubles.chain(idle).collect()
}

/// Names of the public types.
fn types(items: &[Item], scope: Scope) -> Vec<&Ident> {
    let mut found = Vec::new();
    for item in items {
        let (visibility, name) = match item {
            Item::Enum(item) => (&item.vis, &item.ident),
            Item::Struct(item) => (&item.vis, &item.ident),
            Item::Trait(item) => (&item.vis, &item.ident),
            Item::Type(item) => (&item.vis, &item.ident),
            Item::Union(item) => (&item.vis, &item.ident),
            Item::Mod(ItemMod { content: Some((_, items)), .. }) => {
                found.extend(types(items, scope));
                continue;
            }
            _ => continue,
        };
        let is_public = match visibility {
            Visibility::Public(_) => true,
            Visibility::Restricted(restricted) => scope == Scope::Crate && !restricted.path.is_ident("self"),
            Visibility::Inherited => false,
        };
        if is_public {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::source;

    fn product(files: &[(&str, &str)]) -> Vec<Crate> {
        vec![Crate { sources: files.iter().map(|(path, text)| source(path, text)).collect() }]
    }

    #[test]
    fn two_public_types_of_one_name_are_found() {
        let files = [
            (
                "a.rs",
                "pub struct Row;\nstruct Own;\npub(super) struct Near;\npub mod m { pub(crate) enum Row {} }\npub(self) struct Own;",
            ),
            (
                "b.rs",
                "pub trait Other {}\nstruct Own;\npub(super) struct Near;\nimpl Iterator for X { type Item = u8; }",
            ),
        ];
        let found: Vec<_> = check_by(&[], &product(&files), &[]).iter().map(Finding::to_string).collect();
        let expected = [
            "Near: 2 public types have this name (a.rs:3, b.rs:3)",
            "Row: 2 public types have this name (a.rs:1, a.rs:4)",
        ];
        assert_eq!(found, expected);
        assert!(check_by(&[("Near", "why"), ("Row", "why")], &product(&files), &[]).is_empty());
    }

    #[test]
    fn a_tool_may_not_take_the_name_of_a_type_of_the_product() {
        let tools =
            product(&[("t.rs", "pub struct Row;\npub(crate) struct Arguments;\npub(crate) struct Other;")]);
        let found = check_by(&[], &product(&[("a.rs", "pub struct Row;\npub struct Other;")]), &tools);
        assert_eq!(found.iter().map(|it| it.subject.as_str()).collect::<Vec<_>>(), ["Row"]);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_a_finding() {
        let found = check_by(&[("Row", "why")], &product(&[("a.rs", "pub struct Row;")]), &[]);
        assert_eq!(found.iter().map(|it| it.subject.as_str()).collect::<Vec<_>>(), ["Row"]);
    }
}

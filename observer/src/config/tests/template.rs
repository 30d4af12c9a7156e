//! `packaging/observer.toml`, which the package installs: every key stands in it, commented out.

use std::collections::BTreeSet;

use super::{parse, refusal};
use crate::config::Config;

const TEMPLATE: &str = include_str!("../../../../packaging/observer.toml");
/// Labels are named by whoever configures them.
const NAMED_FREELY: &str = "[labels]";

/// A key as it stands in the template: the line that opens its section, and its own line, neither as a comment.
struct CommentedKey {
    section: &'static str,
    line: &'static str,
}

impl CommentedKey {
    fn name(&self) -> &'static str {
        self.line.split(" = ").next().unwrap()
    }
}

/// Prose begins with "# ", and what can be used with "#" alone.
fn keys() -> Vec<CommentedKey> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in TEMPLATE.lines().filter_map(|line| line.strip_prefix('#')) {
        match line.chars().next() {
            None | Some(' ') => {}
            Some('[') => section = line,
            Some(_) => keys.push(CommentedKey { section, line }),
        }
    }
    keys
}

/// The fields that the parser expects in place of one that does not exist.
fn expected_by_parser(text: &str) -> BTreeSet<String> {
    let error = refusal(text);
    let fields = error.split('`').skip(3).step_by(2).filter(|field| !field.contains(' '));
    fields.map(str::to_owned).collect()
}

#[test]
fn the_template_changes_nothing() {
    let table: toml::Table = toml::from_str(TEMPLATE).unwrap();
    assert!(table.is_empty(), "{table:?}");
    assert_eq!(parse(TEMPLATE).unwrap().warnings, []);
}

#[test]
fn every_section_and_every_key_stands_in_the_template() {
    let keys = keys();
    let sections: BTreeSet<_> = keys.iter().map(|key| key.section).collect();
    let names: BTreeSet<_> =
        sections.iter().map(|section| section.trim_matches(['[', ']']).to_owned()).collect();
    assert_eq!(names, expected_by_parser("colour = 1"));
    for section in sections.into_iter().filter(|&section| section != NAMED_FREELY) {
        let found: Vec<_> = keys.iter().filter(|key| key.section == section).map(|key| key.name()).collect();
        let names: BTreeSet<_> = found.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(names.len(), found.len(), "a key of {section} stands there twice: {found:?}");
        assert_eq!(names, expected_by_parser(&format!("{section}\ncolour = 1")), "{section}");
    }
}

#[test]
fn each_key_of_the_template_can_be_used() {
    for CommentedKey { section, line } in keys() {
        let text = format!("{section}\n{line}\n");
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        assert_eq!(config.warnings, [], "{text}");
    }
}

#[test]
fn the_values_that_the_template_calls_defaults_are_the_defaults() {
    let value = |section: &str, name: &str| {
        let key = keys().into_iter().find(|key| key.section == section && key.name() == name);
        let line = key.unwrap_or_else(|| panic!("{section} {name}")).line;
        parse(&format!("{section}\n{line}\n")).unwrap()
    };
    assert_eq!(value("[daemon]", "env").env, Config::without_file().env);
    let ring_bytes = observer_common::limits::RING_BYTES_DEFAULT;
    assert_eq!(value("[daemon]", "ring_bytes").ring_bytes, Some(ring_bytes));
    let max_bytes = value("[journal]", "max_bytes").journal.max_bytes;
    assert_eq!(max_bytes, Some(crate::journal::MAX_BYTES_DEFAULT));
    assert_eq!(value("[journal]", "max_age").journal.max_age, Some(crate::journal::MAX_AGE_DEFAULT));
    assert!(!value("[mirror]", "mirror_argv").mirror.argv);
    assert!(!value("[journal]", "argv").journal.argv);
    // What a rule with a home has without these keys.
    let with = |line: &str| {
        let rule = parse(&format!("[[session]]\ncwd = \"/srv/*\"\n{line}")).unwrap().rules.remove(0);
        (rule.owner, rule.instances, rule.min_age_ns, rule.name.text)
    };
    for name in ["owner", "instances", "min_age", "name"] {
        let keys = keys();
        let key = keys.iter().find(|key| key.section == "[[session]]" && key.name() == name).unwrap();
        assert_eq!(with(key.line), with(""), "{name}");
    }
}

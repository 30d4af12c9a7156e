//! What docs/guide.md says of the configuration is so.

use std::path::Path;

use super::{parse, refusal};

#[test]
fn the_built_in_rule_stands_in_the_guide() {
    const BEGIN: &str =
        "<!-- by `OBSERVER_WRITE_DOCS=1 cargo test -p observer --lib the_built_in_rule`, from here -->";
    const END: &str = "<!-- the built-in rule: to here -->";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("docs/guide.md has the mark where the rule begins");
    let (found, after) = rest.split_once(END).expect("docs/guide.md has the mark where the rule ends");
    let expected = format!("\n\n```toml\n{}```\n\n", crate::config::builtin_rules());
    if std::env::var_os("OBSERVER_WRITE_DOCS").is_some() {
        return std::fs::write(&file, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    }
    assert!(
        found == expected,
        "docs/guide.md is not what `observer rules defaults` prints: run `OBSERVER_WRITE_DOCS=1 cargo test -p observer \
         --lib the_built_in_rule` to write it"
    );
}

#[test]
fn every_configuration_in_the_guide_is_usable() {
    let guide = include_str!("../../../../docs/guide.md");
    let blocks: Vec<_> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2, "{blocks:?}");
    for block in blocks {
        let config = parse(block).unwrap_or_else(|error| panic!("{error}:\n{block}"));
        assert_eq!(config.warnings, [], "{block}");
    }
}

#[test]
fn every_field_stands_in_the_guide() {
    let guide = include_str!("../../../../docs/guide.md");
    for section in ["session", "ignore"] {
        let error = refusal(&format!("[[{section}]]\ncolour = 1"));
        let fields: Vec<_> = error.split('`').skip(3).step_by(2).collect();
        assert!(fields.len() >= 7, "{error}");
        for field in fields.into_iter().filter(|field| !field.contains(' ')) {
            assert!(guide.contains(&format!("| `{field}` |")), "{field}");
        }
    }
}

//! CHANGELOG.md in Debian's form.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use crate::sections::sections;
use crate::version::{Version, date};

/// Columns of a line.
const COLUMNS: usize = 79;
/// Debian's form wants a name and an address.
const MAINTAINER: &str = "The observer contributors <maintainers@observer.invalid>";

/// The changelog; what was not released is of `version`.
pub(crate) fn debian(markdown: &str, version: &Version) -> Result<String> {
    let now = date(version.epoch, "--rfc-email")?;
    let mut text = String::new();
    ensure_no_item_twice(markdown)?;
    for (index, section) in sections(markdown).iter().enumerate() {
        let at = match section.date {
            Some(day) => moment(day)?,
            None => now.clone(),
        };
        let name = if index == 0 { version.debian.as_str() } else { section.version };
        let changes = entry(section.text);
        write!(text, "observer ({name}) unstable; urgency=medium\n\n{changes}\n -- {MAINTAINER}  {at}\n\n")
            .context("write the changelog")?;
    }
    Ok(text)
}

/// Two equal items of a version are what is left of a merge.
fn ensure_no_item_twice(markdown: &str) -> Result<()> {
    for section in sections(markdown) {
        let mut items = BTreeSet::new();
        for block in format!("\n{}", section.text).split("\n- ").skip(1) {
            // The item goes on in lines that are indented.
            let lines = block.lines().enumerate();
            let words = lines.take_while(|(index, line)| *index == 0 || line.starts_with(' '));
            let item = words.flat_map(|(_, line)| line.split_whitespace()).collect::<Vec<_>>().join(" ");
            let begin: String = item.chars().take(COLUMNS).collect();
            let version = section.version;
            ensure!(items.insert(item), "CHANGELOG.md, {version}: this item stands there twice: {begin}");
        }
    }
    Ok(())
}

fn moment(day: &str) -> Result<String> {
    let mut date = std::process::Command::new("date");
    let text = observer_harness::command::capture(date.env("LC_ALL", "C").args([
        "--utc",
        "--rfc-email",
        &format!("--date={day}"),
    ]));
    let text = text.with_context(|| format!("CHANGELOG.md: write a date as 2026-11-29, found {day:?}"))?;
    Ok(text.trim().to_owned())
}

/// The items of a section, below the names of their groups.
fn entry(markdown: &str) -> String {
    let (mut text, mut item) = (String::new(), Vec::new());
    for line in markdown.lines() {
        if let Some(group) = line.strip_prefix("### ") {
            finish(&mut text, &mut item);
            let _ = writeln!(text, "  [ {} ]", group.trim());
        } else if let Some(begin) = line.strip_prefix("- ") {
            finish(&mut text, &mut item);
            item.extend(begin.split_whitespace());
        } else if line.starts_with(' ') && !item.is_empty() {
            item.extend(line.split_whitespace());
        } else {
            finish(&mut text, &mut item);
        }
    }
    finish(&mut text, &mut item);
    text
}

/// Writes the words of an item as lines, if there are any.
fn finish(text: &mut String, item: &mut Vec<&str>) {
    let (mut column, mut begin) = (0, "  *");
    for word in item.drain(..) {
        let length = word.chars().count();
        if column == 0 || column + 1 + length > COLUMNS {
            if column > 0 {
                text.push('\n');
            }
            text.push_str(begin);
            (column, begin) = (begin.len(), "   ");
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + length;
    }
    if column > 0 {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKDOWN: &str = "# Changelog\n\nWhat changed.\n\n## Unreleased\n\n### Added\n\n- One thing that takes \
                            more words than there is room for\n  on a line of it, and goes on.\n- Another.\n\n\
                            ### Fixed\n\n- A fault.\n\n## 0.1.0 - 2026-03-01\n\n- The first.\n";

    #[test]
    fn the_changelog_has_debians_form() -> Result<()> {
        let version = Version { debian: "0.1.0+20261129.1640".into(), epoch: 1_795_970_400 };
        let expected = "observer (0.1.0+20261129.1640) unstable; urgency=medium\n\n  [ Added ]\n  * One thing that takes \
                        more words than there is room for on a line of it, and\n    goes on.\n  * Another.\n  [ Fixed ]\n  \
                        * A fault.\n\n -- The observer contributors <maintainers@observer.invalid>  Sun, 29 Nov 2026 \
                        16:40:00 +0000\n\nobserver (0.1.0) unstable; urgency=medium\n\n  * The first.\n\n -- The observer \
                        contributors <maintainers@observer.invalid>  Sun, 01 Mar 2026 00:00:00 +0000\n\n";
        assert_eq!(debian(MARKDOWN, &version)?, expected);
        Ok(())
    }

    #[test]
    fn an_item_that_stands_twice_in_one_version_is_refused() {
        let version = Version { debian: "1".into(), epoch: 0 };
        let twice = MARKDOWN.replace(
            "- A fault.",
            "- One thing that takes more words\n  than there is room for\n  on a line of it, and goes on.",
        );
        let error = debian(&twice, &version).err().map(|error| format!("{error:#}"));
        let expected =
            "CHANGELOG.md, Unreleased: this item stands there twice: One thing that takes more words";
        assert!(error.as_ref().is_some_and(|error| error.starts_with(expected)), "{error:?}");
        let other_version = MARKDOWN.replace("- The first.", "- A fault.");
        assert!(debian(&other_version, &version).is_ok());
    }

    #[test]
    fn the_changelog_of_the_project_can_be_packaged() -> Result<()> {
        ensure_no_item_twice(include_str!("../../../CHANGELOG.md"))
    }

    #[test]
    fn a_date_that_is_none_is_named() {
        let version = Version { debian: "1".into(), epoch: 0 };
        let error = debian("## 1 - soon\n- x\n", &version).err().map(|error| format!("{error:#}"));
        assert!(error.as_ref().is_some_and(|error| error.contains("\"soon\"")), "{error:?}");
    }
}

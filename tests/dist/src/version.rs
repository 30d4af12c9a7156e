//! The version of what is made.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use observer_harness::command;

use crate::sections::{Section, UNRELEASED, sections};
use observer_harness::workspace::Workspace;

/// A version.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// As Debian orders it.
    pub(crate) debian: String,
    /// When the source was committed, seconds since 1970: the time of everything in the package.
    pub(crate) epoch: i64,
}

impl Version {
    /// The workspace's version. Unreleased changes sort after the version that was released, and before the one that was not.
    pub(crate) fn of(workspace: &Workspace) -> Result<Self> {
        let text = fs::read_to_string(workspace.root.join("CHANGELOG.md")).context("read CHANGELOG.md")?;
        let epoch = epoch(workspace)?;
        let at = date(epoch, "+%Y%m%d.%H%M")?;
        Ok(Self { debian: debian(env!("CARGO_PKG_VERSION"), &sections(&text), &at), epoch })
    }
}

fn debian(version: &str, sections: &[Section<'_>], at: &str) -> String {
    let is_unreleased = sections.first().is_some_and(|section| section.version == UNRELEASED);
    match (is_unreleased, sections.iter().any(|section| section.version == version)) {
        (false, _) => version.to_owned(),
        (true, true) => format!("{version}+{at}"),
        (true, false) => format!("{version}~{at}"),
    }
}

fn epoch(workspace: &Workspace) -> Result<i64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => command::capture(Command::new("git").current_dir(&workspace.root).args([
            "log",
            "-1",
            "--format=%ct",
        ]))
        .context("ask when the source was committed; without git, set SOURCE_DATE_EPOCH")?,
    };
    let text = text.trim();
    text.parse()
        .with_context(|| format!("{text:?} is no number of seconds since 1970: set SOURCE_DATE_EPOCH"))
}

/// A time as date(1) writes it in this format.
pub(crate) fn date(epoch: i64, format: &str) -> Result<String> {
    let mut date = Command::new("date");
    let text =
        command::capture(date.env("LC_ALL", "C").args(["--utc", &format!("--date=@{epoch}"), format]))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreleased_changes_sort_after_what_was_released_and_before_what_was_not() {
        let version = |text: &str| debian("0.2.0", &sections(text), "20261129.1640");
        assert_eq!(version("## 0.2.0\n- b\n## 0.1.0\n"), "0.2.0");
        assert_eq!(version("## Unreleased\n- c\n## 0.2.0\n- b\n"), "0.2.0+20261129.1640");
        assert_eq!(version("## Unreleased\n- b\n## 0.1.0\n- a\n"), "0.2.0~20261129.1640");
    }
}

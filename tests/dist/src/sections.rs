//! The sections of CHANGELOG.md, one for each version.

/// The heading of what was not released.
pub(crate) const UNRELEASED: &str = "Unreleased";

/// The changes of one version.
pub(crate) struct Section<'a> {
    /// Its heading without the date.
    pub(crate) version: &'a str,
    /// The date behind it, as 2026-11-29.
    pub(crate) date: Option<&'a str>,
    /// The lines below it.
    pub(crate) text: &'a str,
}

/// The sections, newest first: each begins with `## VERSION` or `## VERSION - DATE`.
pub(crate) fn sections(markdown: &str) -> Vec<Section<'_>> {
    let sections = markdown.split("\n## ").skip(usize::from(!markdown.starts_with("## ")));
    sections
        .map(|section| {
            let section = section.strip_prefix("## ").unwrap_or(section);
            let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
            let (version, date) = match heading.split_once(" - ") {
                Some((version, date)) => (version, Some(date.trim())),
                None => (heading, None),
            };
            Section { version: version.trim(), date, text }
        })
        .collect()
}

//! What `observer doctor` checks.

use serde::Serialize;

use crate::text::bytes::to_line;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked: "BTF", "ring buffer", "tp_btf/sched_process_exit"…
    pub name: String,
    /// The result.
    pub verdict: Verdict,
    /// What was found, and if the verdict is not `Fine`, what to do.
    pub detail: String,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As wanted.
    Fine,
    /// observer runs, but does not see something, or is slower, or something will become a problem.
    Limited,
    /// observer cannot run, or a part of it cannot.
    Fails,
}

impl Verdict {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Limited => "limited",
            Self::Fails => "fails",
        }
    }

    /// The word for people, and `level` in JSON.
    pub fn level(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Limited => "warning",
            Self::Fails => "problem",
        }
    }
}

impl Check {
    /// A check with this verdict.
    pub fn new(name: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict, detail: detail.into() }
    }

    /// A check that is as wanted, or fails with the error.
    pub fn of(name: impl Into<String>, result: anyhow::Result<String>) -> Self {
        match result {
            Ok(detail) => Self::new(name, Verdict::Fine, detail),
            Err(error) => Self::new(name, Verdict::Fails, format!("{error:#}")),
        }
    }

    /// Level, name and detail for a terminal. Lists of what is wrong have a line each.
    pub fn plain(&self) -> (&'static str, String, String) {
        let detail: Vec<_> = self.detail.lines().map(|line| to_line(line.as_bytes())).collect();
        (self.verdict.level(), to_line(self.name.as_bytes()).into_owned(), detail.join("\n         "))
    }

    /// Its JSON.
    pub fn json(&self) -> CheckJson<'_> {
        let Self { name, verdict, detail } = self;
        CheckJson { name, verdict: verdict.word(), level: verdict.level(), detail }
    }
}

/// A check in JSON (docs/json.md).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CheckJson<'a> {
    name: &'a str,
    verdict: &'static str,
    level: &'static str,
    detail: &'a str,
}

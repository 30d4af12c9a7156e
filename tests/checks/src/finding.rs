//! What a check found, and which findings are tolerated for the time being.

use std::fmt;

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Files that import each other.
    Circle,
    /// An import against the order of the layers, or a file outside them.
    Layer,
    /// Two types of one name.
    TypeName,
    /// A function or a file that is too long.
    Length,
}

/// One violation of a rule that has a list of what is tolerated.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// The file, or the name of the type.
    pub(crate) subject: String,
    /// What is wrong with it, and what to do.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

/// Findings of `kind` about `subject`, a type or the beginning of a path, are tolerated until they are gone.
#[derive(Debug)]
struct Tolerated {
    kind: Kind,
    subject: &'static str,
}

/// What does not hold yet. An entry without a finding is a finding itself, so that the list can only become shorter.
const NOT_YET: [Tolerated; 0] = [];

/// The findings of one run, sorted by what becomes of them.
pub(crate) struct Settled {
    /// Those that are not tolerated.
    pub(crate) findings: Vec<String>,
    /// Entries of the list that tolerate nothing.
    pub(crate) unused: Vec<String>,
}

/// Compares the findings with the list.
pub(crate) fn settle(findings: &[Finding]) -> Settled {
    settle_by(&NOT_YET, findings)
}

fn settle_by(tolerated: &[Tolerated], findings: &[Finding]) -> Settled {
    let covers = |entry: &Tolerated, finding: &Finding| {
        let names = match finding.kind {
            Kind::TypeName => finding.subject == entry.subject,
            Kind::Circle | Kind::Layer | Kind::Length => finding.subject.starts_with(entry.subject),
        };
        names && entry.kind == finding.kind
    };
    let open = findings.iter().filter(|finding| !tolerated.iter().any(|entry| covers(entry, finding)));
    let unused = tolerated.iter().filter(|entry| !findings.iter().any(|finding| covers(entry, finding)));
    Settled {
        findings: open.map(Finding::to_string).collect(),
        unused: unused
            .map(|entry| {
                format!(
                    "{}: has no finding of the kind {:?}: remove it from NOT_YET in tests/checks/src/finding.rs",
                    entry.subject, entry.kind
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: Kind, subject: &str) -> Finding {
        Finding { kind, subject: subject.to_owned(), message: "m".to_owned() }
    }

    #[test]
    fn what_is_tolerated_is_left_out_and_nothing_else() {
        let tolerated = [Tolerated { kind: Kind::Circle, subject: "a/" }];
        let findings =
            [finding(Kind::Circle, "a/b.rs"), finding(Kind::Layer, "a/b.rs"), finding(Kind::Circle, "b/a/")];
        let settled = settle_by(&tolerated, &findings);
        assert_eq!(settled.findings, ["a/b.rs: m", "b/a/: m"]);
        assert!(settled.unused.is_empty());
    }

    #[test]
    fn an_entry_that_tolerates_nothing_is_reported() {
        let tolerated = [Tolerated { kind: Kind::Length, subject: "a/" }];
        let settled = settle_by(&tolerated, &[finding(Kind::Circle, "a/b.rs")]);
        assert_eq!(settled.findings, ["a/b.rs: m"]);
        assert_eq!(settled.unused.len(), 1);
        assert!(
            settled.unused.iter().all(|entry| entry.starts_with("a/: has no finding of the kind Length"))
        );
    }
}

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

/// What does not hold yet. An entry without a finding is reported, so that the list becomes shorter.
const NOT_YET: [Tolerated; 52] = [
    Tolerated { kind: Kind::Circle, subject: "observer-common/src/control.rs" },
    Tolerated { kind: Kind::Circle, subject: "observer-core/src/core/" },
    Tolerated { kind: Kind::Circle, subject: "observer-ebpf/src/emit.rs" },
    Tolerated { kind: Kind::Circle, subject: "observer/src/cli/" },
    Tolerated { kind: Kind::Circle, subject: "observer/src/config/" },
    Tolerated { kind: Kind::Circle, subject: "observer/src/daemon/" },
    Tolerated { kind: Kind::Circle, subject: "observer/src/journal/" },
    Tolerated { kind: Kind::Circle, subject: "observer/src/kernel/" },
    Tolerated { kind: Kind::Layer, subject: "observer-core/src/" },
    Tolerated { kind: Kind::Length, subject: "observer-core/src/rows.rs" },
    Tolerated { kind: Kind::Length, subject: "observer-ebpf/src/task.rs" },
    Tolerated { kind: Kind::Length, subject: "observer/src/daemon" },
    Tolerated { kind: Kind::Length, subject: "observer/src/journal/queue.rs" },
    Tolerated { kind: Kind::Length, subject: "observer/src/mirror/deliver.rs" },
    Tolerated { kind: Kind::TypeName, subject: "Admission" },
    Tolerated { kind: Kind::TypeName, subject: "Arguments" },
    Tolerated { kind: Kind::TypeName, subject: "Audit" },
    Tolerated { kind: Kind::TypeName, subject: "Btf" },
    Tolerated { kind: Kind::TypeName, subject: "Cgroup" },
    Tolerated { kind: Kind::TypeName, subject: "Comm" },
    Tolerated { kind: Kind::TypeName, subject: "Delivery" },
    Tolerated { kind: Kind::TypeName, subject: "Directory" },
    Tolerated { kind: Kind::TypeName, subject: "Entry" },
    Tolerated { kind: Kind::TypeName, subject: "Exit" },
    Tolerated { kind: Kind::TypeName, subject: "Found" },
    Tolerated { kind: Kind::TypeName, subject: "Frame" },
    Tolerated { kind: Kind::TypeName, subject: "Gap" },
    Tolerated { kind: Kind::TypeName, subject: "History" },
    Tolerated { kind: Kind::TypeName, subject: "Hook" },
    Tolerated { kind: Kind::TypeName, subject: "Journal" },
    Tolerated { kind: Kind::TypeName, subject: "Member" },
    Tolerated { kind: Kind::TypeName, subject: "Memory" },
    Tolerated { kind: Kind::TypeName, subject: "Mirror" },
    Tolerated { kind: Kind::TypeName, subject: "Moment" },
    Tolerated { kind: Kind::TypeName, subject: "Note" },
    Tolerated { kind: Kind::TypeName, subject: "Options" },
    Tolerated { kind: Kind::TypeName, subject: "Outcome" },
    Tolerated { kind: Kind::TypeName, subject: "Passes" },
    Tolerated { kind: Kind::TypeName, subject: "Past" },
    Tolerated { kind: Kind::TypeName, subject: "Request" },
    Tolerated { kind: Kind::TypeName, subject: "Row" },
    Tolerated { kind: Kind::TypeName, subject: "Section" },
    Tolerated { kind: Kind::TypeName, subject: "Session" },
    Tolerated { kind: Kind::TypeName, subject: "Shape" },
    Tolerated { kind: Kind::TypeName, subject: "Snapshot" },
    Tolerated { kind: Kind::TypeName, subject: "State" },
    Tolerated { kind: Kind::TypeName, subject: "Table" },
    Tolerated { kind: Kind::TypeName, subject: "Trouble" },
    Tolerated { kind: Kind::TypeName, subject: "Verdict" },
    Tolerated { kind: Kind::TypeName, subject: "Wanted" },
    Tolerated { kind: Kind::TypeName, subject: "Watch" },
    Tolerated { kind: Kind::TypeName, subject: "Writer" },
];

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

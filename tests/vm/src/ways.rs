//! Ways in which the same tests run the daemon, and how many of the tests a machine runs.

use crate::targets::SERVICE;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// As root, with the hooks that it chooses itself
    Own,
    /// As root, by exits of system calls
    Tracepoints,
    /// As the service does: a user like any, with CAP_BPF and CAP_PERFMON alone
    Service,
}

/// Every way, in the order of the table.
pub(crate) const ALL: [Way; 3] = [Way::Own, Way::Tracepoints, Way::Service];

/// Between a test target's name and the way it ran, in the name of a step.
const SEPARATOR: char = '+';

impl Way {
    /// As it is given on the command line; nothing for the usual one.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Own => None,
            Self::Tracepoints => Some("tracepoints"),
            Self::Service => Some("service"),
        }
    }

    /// Variables by which the harness runs the daemon this way.
    pub(crate) const fn environment(self) -> &'static [&'static str] {
        match self {
            Self::Own => &[],
            Self::Tracepoints => &["OBSERVER_TEST_HOOKS=tracepoints"],
            Self::Service => &["OBSERVER_TEST_USER=service"],
        }
    }

    /// Whether a test target is for this way.
    pub(crate) fn has(self, target: &str, breadth: Breadth) -> bool {
        match (self, breadth) {
            (Self::Own, _) => target != SERVICE,
            (_, Breadth::Every) => ["kernel", "sessions", "hooks"].contains(&target),
            // Makes each change, and has each hook report it in this way.
            (_, Breadth::Oldest | Breadth::Newest | Breadth::Between) => target == "hooks",
        }
    }

    /// Name of the step that runs a test target.
    pub(crate) fn step(self, target: &str) -> String {
        self.name().map_or_else(|| target.to_owned(), |name| format!("{target}{SEPARATOR}{name}"))
    }
}

/// How much of the tests a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    /// Every test, in every way to which the way makes a difference.
    Every,
    /// For the oldest kernel.
    Oldest,
    /// For the newest kernel.
    Newest,
    /// For a kernel between them.
    Between,
}

impl Breadth {
    /// For the kernel at `index` of `kernels`. A run that a person narrows down is not thinned out.
    pub(crate) fn of(index: usize, kernels: usize, ways: &[Way], filter: &[String]) -> Self {
        if !filter.is_empty() || !ways.contains(&Way::Own) {
            return Self::Every;
        }
        match index {
            0 => Self::Oldest,
            _ if index + 1 == kernels => Self::Newest,
            _ => Self::Between,
        }
    }
}

/// The option that has a step's way repeated; empty for the usual one.
pub(crate) fn option(step: &str) -> String {
    if step == SERVICE {
        return " --way service".into();
    }
    step.split_once(SEPARATOR).map_or_else(String::new, |(_, way)| format!(" --way {way}"))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_step_names_the_option_that_repeats_it() {
        for way in ALL {
            let option = option(&way.step("kernel"));
            match option.strip_prefix(" --way ") {
                Some(name) => assert_eq!(Way::from_str(name, false), Ok(way)),
                None => assert_eq!((option.as_str(), way), ("", Way::Own)),
            }
        }
        assert_eq!(Way::value_variants(), ALL, "every way is in the table");
    }

    #[test]
    fn every_target_that_depends_on_the_kernel_runs_on_every_kernel() {
        use Breadth::{Between, Every, Oldest};
        for target in ["kernel", "sessions", "journal", "hooks", "contracts", "refuse", "verifier"] {
            assert!(Way::Own.has(target, Between), "{target} runs on every kernel");
        }
        assert!(Way::Service.has("kernel", Every) && !Way::Service.has("kernel", Oldest));
        assert!(Way::Service.has("hooks", Between));
    }
}

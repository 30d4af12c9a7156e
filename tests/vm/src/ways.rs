//! Ways in which the same tests run the daemon.

use crate::guest::SERVICE;

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

/// How much runs in the ways other than the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    /// Every target to which the way makes a difference.
    Every,
    /// `hooks` alone, which makes each change and has each hook report it.
    Hooks,
}

impl Breadth {
    /// For the kernel at `index` of `kernels`. The whole is for the oldest and the newest: a test that passes on both ends
    /// in a way, and on the kernels between them in the usual way, has failed on none between them in that way. A run that a
    /// person narrows down is not thinned out.
    pub(crate) fn of(index: usize, kernels: usize, ways: &[Way], filter: &[String]) -> Self {
        let is_an_end = index == 0 || index + 1 == kernels;
        if is_an_end || !filter.is_empty() || !ways.contains(&Way::Own) { Self::Every } else { Self::Hooks }
    }
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

    /// Whether a test target runs this way.
    pub(crate) fn has(self, target: &str, breadth: Breadth) -> bool {
        match (self, breadth) {
            (Self::Own, _) => target != SERVICE,
            (_, Breadth::Every) => ["kernel", "sessions", "hooks"].contains(&target),
            (_, Breadth::Hooks) => target == "hooks",
        }
    }

    /// Name of the step that runs a test target.
    pub(crate) fn step(self, target: &str) -> String {
        self.name().map_or_else(|| target.to_owned(), |name| format!("{target}{SEPARATOR}{name}"))
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
    fn kernels_between_the_ends_run_the_hooks_alone_in_other_ways() {
        let of = |index| Breadth::of(index, 4, &ALL, &[]);
        assert_eq!([0, 1, 2, 3].map(of), [Breadth::Every, Breadth::Hooks, Breadth::Hooks, Breadth::Every]);
        assert_eq!(Breadth::of(1, 4, &ALL, &["cwd".into()]), Breadth::Every, "a filter");
        assert_eq!(Breadth::of(1, 4, &[Way::Service], &[]), Breadth::Every, "one way");
        for target in ["kernel", "sessions", "hooks", "journal"] {
            assert!(Way::Own.has(target, Breadth::Hooks), "every test runs on every kernel");
        }
        assert!(Way::Service.has("hooks", Breadth::Hooks) && !Way::Service.has("kernel", Breadth::Hooks));
    }
}

//! A machine's output, taken apart: one section for each step of the plan.

use std::path::PathBuf;
use std::time::Duration;

use observer_harness::libtest::{Report, Timed};

use crate::arch::Arch;
use crate::kernels::Kernel;

/// Words on the kernel's console that mean that the kernel itself is in trouble.
const TROUBLE: [&str; 7] = [
    "Kernel panic",
    "Oops",
    "BUG:",
    "WARNING: CPU",
    "general protection fault",
    "detected stall",
    "blocked for more than",
];
/// Lines kept of a console or of a step that failed.
const TAIL_LINES: usize = 40;

/// One kernel's run.
#[derive(Debug)]
pub(crate) struct Run {
    /// The processor.
    pub(crate) arch: Arch,
    /// Series as asked for.
    pub(crate) series: String,
    /// `uname -r`, as the guest printed it; the package's where it printed nothing.
    pub(crate) release: String,
    /// Under a real systemd, which only the unit's tests are.
    pub(crate) systemd: bool,
    /// `uname -v`, which names the distribution's own version.
    pub(crate) version: String,
    /// One for each step that began, in order.
    pub(crate) sections: Vec<Section>,
    /// Whether the guest came to the end of its plan.
    pub(crate) complete: bool,
    /// The console's lines from the first that speaks of trouble on.
    pub(crate) trouble: Vec<String>,
    /// How the machine ended.
    pub(crate) ended: Ended,
}

/// How a machine ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// In which way.
    pub(crate) end: End,
    /// From start to end.
    pub(crate) took: Duration,
    /// The file with the kernel's console.
    pub(crate) console: PathBuf,
}

/// In which way a machine ended. No exit status counts: a kernel that panics ends qemu with 0, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself: switched off, restarted or panicked.
    Exit,
    /// qemu was ended by this signal, which nothing in the guest can send.
    Signal(i32),
    /// It was killed at its time limit.
    Limit,
}

impl End {
    /// Why the guest did not come to the end of its plan.
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Exit => "ENDED before its plan (a panic, a restart, or its init failed)".into(),
            Self::Signal(signal) => {
                format!("KILLED from outside: signal {signal} ended qemu, which nothing in the guest can do")
            }
            Self::Limit => "NO END within its time".into(),
        }
    }
}

/// A moment by the guest's clock, as `/proc/uptime` has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uptime {
    /// Since the kernel's start.
    up: Duration,
    /// How long its processor was idle until then.
    idle: Duration,
}

impl Uptime {
    fn read(text: &str) -> Option<Self> {
        let (up, idle) = text.trim().split_once(' ')?;
        let seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
        Some(Self { up: seconds(up)?, idle: seconds(idle)? })
    }
}

/// The output of one step.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// `doctor`, or a test target.
    pub(crate) name: String,
    /// Its exit status; `None`: it never ended.
    pub(crate) code: Option<i32>,
    /// When it began and ended.
    pub(crate) began: Option<Uptime>,
    pub(crate) ended: Option<Uptime>,
    /// What the tests in it reported.
    pub(crate) tests: Report,
    /// Everything else that it printed.
    pub(crate) output: Vec<String>,
}

impl Run {
    /// Takes apart what came over the two serial lines. `marker` begins the guest's own lines.
    pub(crate) fn read(
        kernel: &Kernel,
        systemd: bool,
        marker: &str,
        output: &str,
        console: &str,
        ended: Ended,
    ) -> Self {
        let mut run = Self {
            arch: kernel.arch,
            series: kernel.series.clone(),
            release: kernel.release.clone(),
            systemd,
            version: String::new(),
            sections: Vec::new(),
            complete: false,
            trouble: trouble(console),
            ended,
        };
        for line in output.lines() {
            match line
                .strip_prefix(marker)
                .map(|rest| rest.trim().split_once(' ').unwrap_or((rest.trim(), "")))
            {
                Some(("release", text)) => text.clone_into(&mut run.release),
                Some(("version", text)) => text.clone_into(&mut run.version),
                Some(("begin", rest)) => {
                    let (name, began) = rest.split_once(' ').unwrap_or((rest, ""));
                    let began = Uptime::read(began);
                    run.sections.push(Section { name: name.into(), began, ..Section::default() });
                }
                Some(("end", rest)) => {
                    if let Some(section) = run.sections.last_mut() {
                        let mut words = rest.splitn(3, ' ').skip(1);
                        section.code = words.next().and_then(|code| code.parse().ok());
                        section.ended = words.next().and_then(Uptime::read);
                    }
                }
                Some(("done", _)) => run.complete = true,
                Some(_) => {}
                None => {
                    if let Some(section) = run.sections.last_mut() {
                        section.output.push(line.to_owned());
                    }
                }
            }
        }
        for section in &mut run.sections {
            section.conclude();
        }
        run
    }

    /// Everything ran, passed, and the kernel had no complaint.
    pub(crate) fn passed(&self) -> bool {
        self.complete && self.trouble.is_empty() && self.sections.iter().all(Section::passed)
    }

    /// From the kernel's start to its first step.
    pub(crate) fn boot(&self) -> Option<Duration> {
        Some(self.sections.first()?.began?.up)
    }

    /// How many tests passed or failed.
    pub(crate) fn tests(&self) -> u64 {
        self.sections
            .iter()
            .filter_map(|section| section.tests.counts)
            .map(|counts| counts.passed + counts.failed)
            .sum()
    }

    /// In a line.
    pub(crate) fn summary(&self) -> String {
        let verdict = match self.trouble.first() {
            _ if self.passed() => "passed".to_owned(),
            Some(line) => format!("THE KERNEL IS IN TROUBLE: {line}"),
            None if self.complete => "FAILED".to_owned(),
            None => self.ended.end.in_words(),
        };
        format!("{verdict} ({} tests, {:.0} s)", self.tests(), self.ended.took.as_secs_f64())
    }
}

impl Section {
    /// Ended well; a test target with a result.
    pub(crate) fn passed(&self) -> bool {
        self.code == Some(0)
            && (self.tests.counts.is_some_and(|counts| counts.failed == 0) || self.name == "doctor")
    }

    /// The last lines of its output.
    pub(crate) fn tail(&self) -> &[String] {
        self.output.get(self.output.len().saturating_sub(TAIL_LINES)..).unwrap_or_default()
    }

    fn conclude(&mut self) {
        self.tests = Report::read(self.output.iter().map(String::as_str));
    }

    /// How long it took, by the guest's clock.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.ended?.up.checked_sub(self.began?.up)
    }

    /// How long the guest's processor was idle meanwhile.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.ended?.idle.checked_sub(self.began?.idle)
    }
}

/// What the tests of all machines reported; each test is named with its machine and its step.
pub(crate) fn merged<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Report {
    let mut merged = Report::default();
    for run in runs {
        for section in &run.sections {
            if let Some(counts) = section.tests.counts {
                *merged.counts.get_or_insert_default() += counts;
            }
            let named = |name: &str| format!("{}: {}: {name}", run.release, section.name);
            merged.failed.extend(section.tests.failed.iter().map(|name| named(name)));
            merged.skipped.extend(section.tests.skipped.iter().map(|test| named(test)));
            let timed = |timed: &Timed| Timed { name: named(&timed.name), took: timed.took };
            merged.times.extend(section.tests.times.iter().map(timed));
        }
    }
    merged
}

fn trouble(console: &str) -> Vec<String> {
    console
        .lines()
        .skip_while(|line| !TROUBLE.iter().any(|word| line.contains(word)))
        .take(TAIL_LINES)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run of one kernel with this output.
    pub(crate) fn run(output: &str, console: &str) -> Run {
        let kernel = Kernel {
            arch: Arch::X86_64,
            series: "6.1".into(),
            release: "6.1.0".into(),
            image: PathBuf::new(),
        };
        let ended = Ended { end: End::Exit, took: Duration::from_secs(9), console: "console.txt".into() };
        Run::read(&kernel, false, "@w", output, console, ended)
    }

    pub(crate) const PASSED: &str = "@w release 6.1.0-56\n@w version #1 Debian 6.1.192-2\n@w begin doctor 1.1 0.5\nfine\n@w end doctor 0 3.1 0.7\n\
         @w begin kernel 3.2 0.7\ntest a::b ... ok\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
         @w end kernel 0 9.0 1.7\n@w done\n";

    #[test]
    fn a_run_that_came_to_its_end_passes() {
        let run = run(PASSED, "");
        assert!(run.passed(), "{run:?}");
        assert_eq!((run.release.as_str(), run.tests()), ("6.1.0-56", 3));
        let times: Vec<_> =
            run.sections.iter().filter_map(|section| Some([section.took()?, section.idle()?])).collect();
        assert_eq!(times, [[2000, 200], [5800, 1000]].map(|pair| pair.map(Duration::from_millis)));
        assert_eq!(run.boot(), Some(Duration::from_millis(1100)));
    }

    #[test]
    fn what_does_not_end_well_fails() {
        for (what, output) in [
            ("a panic: the plan's end is missing", PASSED.replace("@w done\n", "")),
            ("the marker of another run", PASSED.replace("@w done", "@v done")),
            ("a step that was killed", PASSED.replace("end kernel 0", "end kernel 137")),
            ("a step that never ended", PASSED.replace("@w end kernel 0 9.0 1.7\n", "")),
            ("a test target without a result", PASSED.replace("test result: ok.", "")),
            ("a refusal by the product", PASSED.replace("end doctor 0", "end doctor 1")),
            ("silence", String::new()),
        ] {
            assert!(!run(&output, "").passed(), "{what}");
        }
        for line in [
            "BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "INFO: task observer:77 blocked for more than 120 seconds.",
        ] {
            let run = run(PASSED, &format!("fine\n[ 1.0] {line}\n more\n"));
            assert!(!run.passed() && run.trouble.len() == 2, "{run:?}");
        }
    }

    #[test]
    fn a_machine_that_was_killed_from_outside_is_told_from_one_that_ended() {
        let mut run = run(&PASSED.replace("@w done\n", ""), "");
        assert!(run.summary().starts_with("ENDED before its plan"), "{}", run.summary());
        run.ended.end = End::Signal(15);
        assert!(run.summary().starts_with("KILLED from outside: signal 15"), "{}", run.summary());
        run.ended.end = End::Limit;
        assert!(run.summary().starts_with("NO END within its time"), "{}", run.summary());
        assert!(!run.passed());
    }

    #[test]
    fn failing_tests_are_named() {
        let output = PASSED
            .replace(
                "test a::b ... ok",
                "failures:\n\n---- a::b stdout ----\n    x\n\nfailures:\n    a::b\n    c\n",
            )
            .replace("ok. 3 passed; 0 failed", "FAILED. 1 passed; 2 failed")
            .replace("end kernel 0", "end kernel 101");
        let run = run(&output, "");
        let names: Vec<_> = run.sections.iter().flat_map(|section| &section.tests.failed).collect();
        assert_eq!(names, ["a::b", "c"]);
    }

    #[test]
    fn of_a_target_that_hung_the_running_test_is_named() {
        let output = PASSED.replace("test a::b ... ok\ntest result", "test a ... ok\ntest b ... result");
        let run = run(&output, "");
        assert_eq!(
            run.sections.last().map(|section| section.tests.failed.clone()),
            Some(vec!["b".to_owned()])
        );
    }
}

//! The output of Rust's test programs: the only place that reads it.

use std::time::Duration;

use crate::skipped::MARK;

/// Options that have a test program print how long each test took. They are unstable, so the program's environment needs
/// [`TIMES_ENVIRONMENT`] as well.
pub const TIMES: [&str; 2] = ["-Zunstable-options", "--report-time"];
/// What lets a stable toolchain's test programs take [`TIMES`].
pub const TIMES_ENVIRONMENT: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");

/// The tests of one or more test programs, as they counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that say that they cannot run here ([`crate::skip`]).
    pub skipped: u64,
    /// Tests that run on request only.
    pub ignored: u64,
}

impl Counts {
    /// In words: `3 passed, 1 skipped`.
    pub fn in_words(self) -> String {
        let Self { passed, failed, skipped, ignored } = self;
        let mut text = format!("{passed} passed");
        for (count, word) in [(failed, "FAILED"), (skipped, "skipped"), (ignored, "ignored")] {
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        text
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.ignored += other.ignored;
    }
}

/// A test and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// The test's path within its program.
    pub name: String,
    /// From its start to its end.
    pub took: Duration,
}

/// What the output of one or more test programs reports.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The sum over the programs; `None` where no program printed a result.
    pub counts: Option<Counts>,
    /// Every test whose time was printed, in the order of their ends.
    pub times: Vec<Timed>,
    /// The tests that failed; of a program that ended without a result, the test that was running last.
    pub failed: Vec<String>,
    /// The tests that were skipped, each with its reason.
    pub skipped: Vec<String>,
    /// How many of these the program has not counted yet: it counts them as passed.
    uncounted: u64,
    /// The test that began last, while its program has printed no result.
    running: Option<String>,
    /// The names below the last `failures:` of the program; `None` above it.
    listed: Option<Vec<String>>,
}

impl Report {
    /// Reads a whole output.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut report = Self::default();
        for line in lines {
            report.add(line);
        }
        report.end();
        report
    }

    /// Reads the next line.
    pub fn add(&mut self, line: &str) {
        if let Some(skipped) = line.strip_prefix(MARK) {
            self.skipped.push(skipped.to_owned());
            self.uncounted += 1;
        } else if let Some(mut counts) = result(line) {
            counts.skipped = std::mem::take(&mut self.uncounted);
            counts.passed = counts.passed.saturating_sub(counts.skipped);
            *self.counts.get_or_insert_default() += counts;
            self.running = None;
            self.failed.extend(self.listed.take().unwrap_or_default());
        } else if line == "failures:" {
            // The line stands twice: before the output of the failed tests, and before their names.
            self.listed = Some(Vec::new());
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            self.running = Some(name.to_owned());
            self.times.extend(time(outcome).map(|took| Timed { name: name.to_owned(), took }));
        } else if let (Some(name), Some(took)) = (&self.running, time_alone(line)) {
            self.times.push(Timed { name: name.clone(), took });
        } else if let Some(listed) = &mut self.listed {
            listed.extend(line.strip_prefix("    ").map(|name| name.trim().to_owned()));
        }
    }

    /// Ends the output: a test that was running is one that failed.
    pub fn end(&mut self) {
        self.failed.extend(self.running.take().filter(|_| self.counts.is_none()));
    }

    /// The tests that took longest, the longest first.
    pub fn slowest(&self, count: usize) -> Vec<&Timed> {
        let mut times: Vec<_> = self.times.iter().collect();
        times.sort_by_key(|timed| std::cmp::Reverse(timed.took));
        times.truncate(count);
        times
    }
}

/// From a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result(line: &str) -> Option<Counts> {
    let result = line.strip_prefix("test result: ")?;
    let words: Vec<_> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let mut counts = Counts::default();
    for pair in words.windows(2) {
        let [number, what] = pair else { continue };
        let Ok(number) = number.parse() else { continue };
        match *what {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.ignored = number,
            _ => {}
        }
    }
    Some(counts)
}

/// From the end of a test's line, `ok <1.234s>`.
fn time(outcome: &str) -> Option<Duration> {
    let (_, seconds) = outcome.trim_end().strip_suffix("s>")?.rsplit_once('<')?;
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

/// From the line of an outcome that stands below what a test printed.
fn time_alone(line: &str) -> Option<Duration> {
    ["ok <", "FAILED <"].iter().any(|outcome| line.starts_with(outcome)).then(|| time(line)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "running 2 tests\ntest a::b ... FAILED <0.250s>\ntest c ... ok <1.500s>\n\nfailures:\n\n\
        ---- a::b stdout ----\nassertion failed\n    it was not so\n\nfailures:\n    a::b\n\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s";

    #[test]
    fn the_results_of_several_programs_add_up() {
        let report = Report::read([
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "running 9 passed tests",
        ]);
        assert_eq!(report.counts, Some(Counts { passed: 7, failed: 2, skipped: 0, ignored: 1 }));
        assert_eq!(Report::read(["fine"]).counts, None);
    }

    #[test]
    fn a_test_that_says_so_is_skipped_and_has_not_passed() {
        let line = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured";
        let report = Report::read(["test a ... ", "SKIPPED: a: no root", "ok <0.001s>", line, line]);
        assert_eq!(report.counts, Some(Counts { passed: 5, failed: 0, skipped: 1, ignored: 0 }));
        assert_eq!(report.skipped, ["a: no root"]);
    }

    #[test]
    fn failed_tests_are_named_once() {
        assert_eq!(Report::read(FAILED.lines()).failed, ["a::b"]);
    }

    #[test]
    fn a_program_that_ends_without_a_result_names_its_last_test() {
        let report = Report::read(["test a ... ok", "test b ... not a result"]);
        assert_eq!((report.failed.as_slice(), report.counts), (&["b".to_owned()][..], None));
    }

    #[test]
    fn the_time_of_a_test_that_prints_stands_below_what_it_printed() {
        let report = Report::read(["test a ... ", "it took long", "ok <2.000s>", "test b ... ok <1.000s>"]);
        let names: Vec<_> = report.times.iter().map(|timed| (timed.name.as_str(), timed.took)).collect();
        assert_eq!(names, [("a", Duration::from_secs(2)), ("b", Duration::from_secs(1))]);
    }

    #[test]
    fn the_slowest_tests_come_first() {
        let report = Report::read(FAILED.lines());
        let names: Vec<_> = report.slowest(5).iter().map(|timed| (timed.name.as_str(), timed.took)).collect();
        assert_eq!(names, [("c", Duration::from_millis(1500)), ("a::b", Duration::from_millis(250))]);
        assert_eq!(report.slowest(1).len(), 1);
    }
}

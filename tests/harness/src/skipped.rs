//! Tests that cannot run where they were started. libtest counts them as passed and hides what passed tests print, so they
//! report themselves on lines of their own, past its capture; [`crate::libtest`] reads these.

use std::io::Write as _;

/// What such a line begins with. The test's name and the reason follow.
pub const MARK: &str = "SKIPPED: ";

/// Reports that a test is skipped. `here` is the type name of a function in the test, as [`crate::skip`] has it.
pub fn report(here: &str, reason: &str) {
    let line = line(here, reason);
    // A new line first: libtest may have begun one with the test's name.
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).expect("write to standard output");
}

/// From `program::module::test::here`.
fn line(here: &str, reason: &str) -> String {
    let test = here.strip_suffix("::here").unwrap_or(here);
    let (_, test) = test.split_once("::").unwrap_or(("", test));
    format!("{MARK}{test}: {reason}")
}

/// Ends the test that it stands in, and has it reported as skipped for a reason, given as to [`format!`].
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        fn here() {}
        return $crate::skipped::report(std::any::type_name_of_val(&here), &format!($($reason)+));
    }};
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_has_the_tests_name_and_the_reason() {
        fn here() {}
        let expected = "SKIPPED: skipped::tests::a_line_has_the_tests_name_and_the_reason: no disk";
        assert_eq!(line(std::any::type_name_of_val(&here), "no disk"), expected);
    }
}

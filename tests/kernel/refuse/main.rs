//! Bad input leads to a clear message with the next step and to a meaningful exit code, and the daemon
//! continues.

mod clients;
mod layout;
mod machine;
mod words;

use std::process::Command;

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;

/// Fails unless this is a refusal that a person can use: it has this exit code, writes only to standard
/// error, contains `words` and is not a panic.
#[track_caller]
fn assert_refused(result: &CommandResult, code: i32, words: &[&str]) {
    assert_eq!(result.code, Some(code), "{result:?}");
    assert!(result.stdout.is_empty(), "nothing for a script to mistake for an answer: {result:?}");
    assert!(
        !result.stderr.contains("panicked") && !result.stderr.contains("RUST_BACKTRACE"),
        "{}",
        result.stderr
    );
    for word in words {
        assert!(
            result.stderr.to_lowercase().contains(&word.to_lowercase()),
            "{word:?} stands in the output: {}",
            result.stderr
        );
    }
}

/// Runs `observer run` in its own directory, where it must refuse within seconds.
fn run(wrapper: &[&str], dir: &std::path::Path, args: &[&str]) -> CommandResult {
    let mut words: Vec<String> = ["timeout", "20"].iter().chain(wrapper).map(ToString::to_string).collect();
    words.push(product().display().to_string());
    words.extend(["run".into(), "--socket".into(), dir.join("observer.sock").display().to_string()]);
    words.extend(["--state-dir".into(), dir.join("state").display().to_string()]);
    words.extend(args.iter().map(ToString::to_string));
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    CommandResult::of(command.args(words))
}

//! Errors of the command line's parser.

use clap::Error;
use clap::error::{ContextKind, ContextValue};

use crate::text::bytes::to_one_line;
use crate::text::table::cut;

/// Cells of a word of the command line in a message.
const WORD_CELLS_MAX: usize = 100;

/// Prints the parser's message, or the help that was asked for, and exits.
pub fn exit(error: Error) -> ! {
    shortened(error).exit()
}

/// The error with what it quotes of the command line cut, and without characters that change the terminal.
fn shortened(mut error: Error) -> Error {
    let word = |text: &String| cut(&to_one_line(text), WORD_CELLS_MAX).into_owned();
    let context = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(word(text)))),
        ContextValue::Strings(texts) => Some((kind, ContextValue::Strings(texts.iter().map(word).collect()))),
        _ => None,
    });
    for (kind, value) in context.collect::<Vec<_>>() {
        let was = error.insert(kind, value);
        if was.as_ref() != error.get(kind) {
            // The suggestion quotes it once more, whole.
            error.remove(ContextKind::Suggested);
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::CommandLine;

    #[test]
    fn a_long_or_hostile_word_is_cut_and_said_once() {
        let hostile = format!("x\x1b[2J\u{202e}\n{}", "y".repeat(10_000));
        let span = format!("--since={hostile}");
        let unknown = format!("--{hostile}");
        let lines: [&[&str]; 9] = [
            &["list", "--state", &hostile],
            &["history", &span],
            &["run", "--ring-bytes", &hostile],
            &["run", "--journal-max-bytes", &hostile],
            &["run", "--journal-max-age", &hostile],
            &["wait", "alpha", "--timeout", &hostile],
            &["pid", "alpha", "--user", &hostile],
            &["list", &unknown],
            &[&hostile],
        ];
        for line in lines {
            let error = CommandLine::try_parse_from([&["observer"], line].concat()).map(|_| ()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            let text = shortened(error).render().to_string();
            assert!(text.len() < 1_000 && !text.contains(['\x1b', '\u{202e}']), "{text:.2000}");
            assert_eq!(text.matches("x\\x1b[2J").count(), 1, "said once: {text}");
        }
    }

    #[test]
    fn help_is_whole() {
        let help = CommandLine::try_parse_from(["observer", "list", "--help"]).map(|_| ()).unwrap_err();
        let whole = help.render().to_string();
        assert_eq!(shortened(help).render().to_string(), whole);
    }
}

//! What a section requires of the controlling terminal.

use observer_core::rule::{Pattern, TtyRule};
use toml::Spanned;

use super::fault::{ConfigFault, OneOrMore, empty_list};
use crate::text::bytes::quoted;
use crate::text::glob::Glob;

/// Globs of which one has to match.
#[derive(Debug)]
struct AnyOf(Vec<Glob>);

impl Pattern for AnyOf {
    fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|glob| glob.is_match(bytes))
    }
}

/// Compiles `tty`: `any`, `none`, or one or more globs.
pub fn terminal(field: Option<Spanned<OneOrMore>>) -> Result<TtyRule, ConfigFault> {
    let Some(field) = field else { return Ok(TtyRule::Any) };
    let whole = field.span();
    let values = OneOrMore::strings(field);
    match values.as_slice() {
        [] => Err(empty_list(whole)),
        [only] if only.get_ref() == "any" => Ok(TtyRule::Any),
        [only] if only.get_ref() == "none" => Ok(TtyRule::None),
        [only] => Ok(TtyRule::Matches(Box::new(compile(only)?))),
        globs => {
            let globs = globs.iter().map(compile).collect::<Result<_, _>>()?;
            Ok(TtyRule::Matches(Box::new(AnyOf(globs))))
        }
    }
}

fn compile(value: &Spanned<String>) -> Result<Glob, ConfigFault> {
    glob(value.get_ref()).map_err(|message| ConfigFault { span: Some(value.span()), message })
}

fn glob(glob: &str) -> Result<Glob, String> {
    match glob {
        "" => Err("tty is empty: write \"any\", \"none\" or a glob such as \"pts/*\"".into()),
        "any" | "none" => Err(format!("tty = {glob:?} stands alone: write it without a list, or globs only")),
        glob if glob.starts_with('/') => Err(format!(
            "tty is a terminal's name without /dev/, found {}: write for instance \"pts/*\"",
            quoted(glob)
        )),
        glob => Glob::path(glob),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Section {
        tty: Option<Spanned<OneOrMore>>,
    }

    fn compiled(text: &str) -> Result<TtyRule, String> {
        let section: Section = toml::from_str(text).unwrap();
        terminal(section.tty).map_err(|fault| fault.message)
    }

    #[test]
    fn one_of_several_terminals_is_enough() {
        let TtyRule::Matches(list) = compiled("tty = [\"pts/*\", \"ttyS0\"]").unwrap() else { panic!() };
        let matched = ["pts/3", "ttyS0", "tty1", "ttyS01"].map(|name| list.is_match(name.as_bytes()));
        assert_eq!(matched, [true, true, false, false]);
        assert!(matches!(compiled("tty = [\"none\"]"), Ok(TtyRule::None)));
        assert!(matches!(compiled("tty = \"any\""), Ok(TtyRule::Any)));
        assert!(matches!(compiled(""), Ok(TtyRule::Any)));
    }

    #[test]
    fn what_cannot_be_meant_is_a_fault() {
        for (text, fault) in [
            (
                "tty = [\"pts/*\", \"none\"]",
                "tty = \"none\" stands alone: write it without a list, or globs only",
            ),
            ("tty = []", "this list is empty, which no process matches: add a value, or leave the field out"),
            ("tty = [\"pts/*\", \"\"]", "tty is empty: write \"any\", \"none\" or a glob such as \"pts/*\""),
        ] {
            assert_eq!(compiled(text).unwrap_err(), fault, "{text}");
        }
    }
}

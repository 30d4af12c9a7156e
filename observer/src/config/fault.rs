//! Faults of the configuration's text, and the checks that its sections share.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use crate::text::bytes::quoted;

/// A fault in the text.
#[derive(Debug)]
pub struct ConfigFault {
    /// The bytes of the text where it is, if that is known.
    pub span: Option<Range<usize>>,
    /// What is wrong, and the next step.
    pub message: String,
}

/// What was found wrong with a configuration.
#[derive(Debug, Default)]
pub struct Findings {
    /// What makes it unusable.
    pub faults: Vec<ConfigFault>,
    /// What can be used but is probably wrong.
    pub warnings: Vec<ConfigFault>,
}

impl Findings {
    /// The value; `None` after a fault, which is kept.
    pub fn take<T>(&mut self, checked: Result<T, ConfigFault>) -> Option<T> {
        checked.map_err(|fault| self.faults.push(fault)).ok()
    }
}

/// A string or a list of strings, each with its place.
#[derive(Clone, Debug)]
pub struct OneOrMore(Vec<Spanned<String>>);

impl OneOrMore {
    /// The strings of a field.
    pub fn strings(field: Spanned<Self>) -> Vec<Spanned<String>> {
        Self::placed(&field)
    }

    /// The strings of a field, which stays.
    pub fn placed(field: &Spanned<Self>) -> Vec<Spanned<String>> {
        let placed = |string: &Spanned<String>| match string.span().is_empty() {
            true => Spanned::new(field.span(), string.get_ref().clone()),
            false => string.clone(),
        };
        field.get_ref().0.iter().map(placed).collect()
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;

        impl<'de> Visitor<'de> for Strings {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, string: &str) -> Result<OneOrMore, E> {
                // Its place is that of the field.
                Ok(OneOrMore(vec![Spanned::new(0..0, string.into())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
                let mut strings = Vec::new();
                while let Some(string) = list.next_element()? {
                    strings.push(string);
                }
                Ok(OneOrMore(strings))
            }
        }

        deserializer.deserialize_any(Strings)
    }
}

/// The fault of a list without values.
pub fn empty_list(span: std::ops::Range<usize>) -> ConfigFault {
    let message = "this list is empty, which no process matches: add a value, or leave the field out";
    ConfigFault { span: Some(span), message: message.into() }
}

/// Checks that `name`, in `field`, can be the name of an environment variable, such as `example`.
pub fn variable(field: &str, example: &str, name: Spanned<String>) -> Result<String, ConfigFault> {
    if name.get_ref().is_empty() || name.get_ref().contains(['=', '\0']) {
        let message = format!(
            "{field} names variables, not empty and without `=` and NUL: write for instance \"{example}\""
        );
        return Err(ConfigFault { span: Some(name.span()), message });
    }
    Ok(name.into_inner())
}

/// Checks that the value of `field` is an absolute path.
pub fn absolute(field: &str, path: Spanned<PathBuf>) -> Result<PathBuf, ConfigFault> {
    if !path.get_ref().is_absolute() {
        let message = format!(
            "{field} must be an absolute path, found {}: begin it with `/`",
            quoted(&path.get_ref().to_string_lossy())
        );
        return Err(ConfigFault { span: Some(path.span()), message });
    }
    Ok(path.into_inner())
}

/// Line and column, both from 1, columns in characters.
pub fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

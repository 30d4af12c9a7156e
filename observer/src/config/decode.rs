//! Decodes the text of a configuration, and finds every key and value of it that does not belong there.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::errors::FAULTS_MAX;
use super::fault::ConfigFault;
use crate::text::bytes::{to_line, to_one_line};
use crate::text::table::cut;

/// Cells of a line of the file in a message, and of a value that the parser quotes.
const LINE_CELLS_MAX: usize = 100;
/// Cells of what the parser says.
const PROBLEM_CELLS_MAX: usize = 800;

/// The file, without what does not belong there, which is added to `faults`. `None`: nothing else can be said of the text.
pub(super) fn decode<T: DeserializeOwned>(text: &str, faults: &mut Vec<ConfigFault>) -> Option<T> {
    let parsed = DeTable::parse(text);
    let mut root = parsed.map_err(|error| faults.push(syntax_fault(text, &error))).ok()?;
    loop {
        let error = match T::deserialize(Deserializer::from(root.clone())) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        faults.push(syntax_fault(text, &error));
        // What is behind it is found once it is away.
        let span = error.span().filter(|_| faults.len() <= FAULTS_MAX)?;
        if !remove(root.get_mut(), &span) {
            return None;
        }
    }
}

/// Removes the innermost entry whose key or value contains `span`. Returns whether there is one.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    if table.iter_mut().any(|(_, value)| remove_below(value.get_mut(), span)) {
        return true;
    }
    let contains = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let entries = table.iter().filter(|(key, value)| contains(key.span()) || contains(value.span()));
    // The tables of an array have others between them.
    let innermost = entries.min_by_key(|(key, value)| (!contains(key.span()), value.span().len()));
    let name = innermost.map(|(key, _)| key.get_ref().to_string());
    name.is_some_and(|name| table.remove(name.as_str()).is_some())
}

/// The same in a value. An array of values is removed as a whole.
fn remove_below(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => remove(table, span),
        DeValue::Array(array) => array.iter_mut().any(|element| remove_below(element.get_mut(), span)),
        _ => false,
    }
}

/// The fault that the TOML parser found, with the line. Neither is shown where it could contain a password.
fn syntax_fault(text: &str, error: &toml::de::Error) -> ConfigFault {
    let offset = error.span().map_or(0, |span| span.start);
    let (line, problem) = (line_at(text, offset), shortened(error.message().trim_end()));
    let (before, _) = text.split_at_checked(offset).unwrap_or((text, ""));
    if let Some(name) = ["session", "ignore"].into_iter().find(|name| line == format!("[{name}]")) {
        let message = format!("there may be several of these: write [[{name}]]");
        return ConfigFault { span: error.span(), message };
    }
    let section = before.lines().rfind(|line| line.trim_start().starts_with('[')).unwrap_or_default();
    let secret = section.contains("mirror")
        || ["mirror", "database", "password"].iter().any(|word| line.contains(word));
    let message = match (secret, problem.contains('"')) {
        (false, _) => {
            format!("{problem}; correct this line: {}", cut(&to_line(line.as_bytes()), LINE_CELLS_MAX))
        }
        (true, false) => format!("{problem}; correct this line"),
        (true, true) => {
            "this is not what belongs here; correct this line: docs/mirror.md has [mirror]".into()
        }
    };
    ConfigFault { span: error.span(), message }
}

/// The parser's message as one line. What it quotes of the text is cut, and so is the whole.
fn shortened(message: &str) -> String {
    const MARKS: [char; 3] = ['`', '"', '\''];
    let message = message.replace('\n', ", ");
    let line = to_one_line(&message);
    let parts = line.split_inclusive(MARKS).map(|part| {
        let inner = part.trim_end_matches(MARKS);
        let mark = part.get(inner.len()..).unwrap_or_default();
        format!("{}{mark}", cut(inner, LINE_CELLS_MAX))
    });
    cut(&parts.collect::<String>(), PROBLEM_CELLS_MAX).into_owned()
}

/// The line that contains this offset, without blanks around it.
fn line_at(text: &str, offset: usize) -> &str {
    let (before, after) = text.split_at_checked(offset).unwrap_or((text, ""));
    let begin = before.rfind('\n').map_or(0, |end| end + 1);
    let end = offset + after.find('\n').unwrap_or(after.len());
    text.get(begin..end).unwrap_or_default().trim()
}

//! Decodes the text of a configuration, and finds every key and value of it that does not belong there.

use std::ops::Range;

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue, Deserializer};

use super::errors::FAULTS_MAX;
use super::fault::ConfigFault;
use super::{File, syntax_fault};

/// The file, without what does not belong there, which is added to `faults`. `None`: nothing else can be said of the text.
pub(super) fn decode(text: &str, faults: &mut Vec<ConfigFault>) -> Option<File> {
    let parsed = DeTable::parse(text);
    let mut root = parsed.map_err(|error| faults.push(syntax_fault(text, &error))).ok()?;
    loop {
        let error = match File::deserialize(Deserializer::from(root.clone())) {
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

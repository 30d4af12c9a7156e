//! What an event of the log has: its message, and fields by which a machine selects.

use std::fmt::{Debug, Write as _};

use serde_json::{Map, Value};
use tracing::Event;
use tracing::field::{Field, Visit};

use crate::text::bytes::to_one_line;

/// The fields of an event.
#[derive(Default)]
pub struct LogFields {
    /// Module of the library that made the record; empty for observer's own events.
    pub library: String,
    /// A sentence.
    pub message: String,
    /// The others.
    pub others: Map<String, Value>,
}

impl LogFields {
    /// Those of an event.
    pub fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    /// The message as one line, and where it comes from.
    pub fn line(&self) -> String {
        let library = if self.library.is_empty() { String::new() } else { format!("{}: ", self.library) };
        format!("{library}{}", to_one_line(&self.message))
    }

    fn other(&mut self, field: &Field, value: impl Into<Value>) {
        // The others of these say where in a library the record was made.
        if !field.name().starts_with("log.") {
            self.others.insert(field.name().to_owned(), value.into());
        }
    }
}

impl Visit for LogFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "log.target" => value.clone_into(&mut self.library),
            _ => self.other(field, value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.other(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.other(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.other(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.other(field, format!("{value:?}"));
        }
    }
}

//! `[mirror]`: which database, and what it gets.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{Fault, absolute};
use crate::mirror::target::{ConnectionTarget, DatabaseUrl};

/// The section, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// The database; `None`: no mirror.
    pub database: Option<DatabaseUrl>,
    /// All arguments of processes, which may hold secrets, not only the first.
    pub argv: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    database_url: Option<Spanned<String>>,
    database_url_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    mirror_argv: bool,
}

impl Section {
    pub(super) fn check(self) -> Result<Mirror, Fault> {
        let database = match (self.database_url, self.database_url_file) {
            (Some(url), Some(_)) => {
                let message = "database_url and database_url_file are both given: leave one out";
                return Err(Fault { span: Some(url.span()), message: message.into() });
            }
            (Some(url), None) => {
                let span = Some(url.span());
                let text = url.into_inner();
                ConnectionTarget::parse(&text)
                    .map_err(|error| Fault { span, message: format!("{error:#}") })?;
                Some(DatabaseUrl::Text(text))
            }
            (None, Some(path)) => {
                let span = Some(path.span());
                let file = DatabaseUrl::from_file(path.get_ref().clone())
                    .map_err(|message| Fault { span, message: format!("database_url_file: {message}") })?;
                // Shown where it is not absolute: it is no connection string.
                absolute("database_url_file", path)?;
                Some(file)
            }
            (None, None) => None,
        };
        Ok(Mirror { database, argv: self.mirror_argv })
    }
}

//! `[mirror]`: the database, and what is mirrored.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::fault::{ConfigFault, absolute};
use crate::mirror::target::{ConnectionTarget, DatabaseUrl};

/// The section, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorConfig {
    /// The database; `None`: there is no mirror.
    pub database: Option<DatabaseUrl>,
    /// Whether all arguments of processes are mirrored, which may contain secrets, and not only the first. The mirror has none
    /// that the journal lacks.
    pub argv: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MirrorSection {
    database_url: Option<Spanned<String>>,
    database_url_file: Option<Spanned<PathBuf>>,
    mirror_argv: Option<Spanned<bool>>,
}

impl MirrorSection {
    /// What is wrong with the section beside a journal that keeps all arguments, or the first ones.
    pub(super) fn warning(&self, journal_argv: bool) -> Option<ConfigFault> {
        let asked = self.mirror_argv.as_ref().filter(|asked| *asked.get_ref() && !journal_argv)?;
        let message = "mirror_argv has no effect: the mirror copies the journal, which keeps the first argument alone; write argv \
                       = true below [journal] as well, or leave it out";
        Some(ConfigFault { span: Some(asked.span()), message: message.into() })
    }

    pub(super) fn check(self) -> Result<MirrorConfig, ConfigFault> {
        let database = match (self.database_url, self.database_url_file) {
            (Some(url), Some(_)) => {
                let message = "database_url and database_url_file are both given: leave one out";
                return Err(ConfigFault { span: Some(url.span()), message: message.into() });
            }
            (Some(url), None) => {
                let span = Some(url.span());
                let text = url.into_inner();
                ConnectionTarget::parse(&text)
                    .map_err(|error| ConfigFault { span, message: format!("{error:#}") })?;
                Some(DatabaseUrl::Text(text))
            }
            (None, Some(path)) => {
                let span = Some(path.span());
                let file = DatabaseUrl::from_file(path.get_ref().clone()).map_err(|message| ConfigFault {
                    span,
                    message: format!("database_url_file: {message}"),
                })?;
                // The error may show the path, because it is no connection string.
                absolute("database_url_file", path)?;
                Some(file)
            }
            (None, None) => None,
        };
        Ok(MirrorConfig { database, argv: self.mirror_argv.is_some_and(Spanned::into_inner) })
    }
}

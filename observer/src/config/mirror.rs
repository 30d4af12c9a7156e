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
    /// Whether all arguments of processes are mirrored, which may contain secrets, and not only the first.
    pub argv: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MirrorSection {
    database_url: Option<Spanned<String>>,
    database_url_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    mirror_argv: bool,
}

impl MirrorSection {
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
        Ok(MirrorConfig { database, argv: self.mirror_argv })
    }
}

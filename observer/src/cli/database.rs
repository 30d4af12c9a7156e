//! Which database a command is to use.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure};
use crate::postgres::target::DatabaseUrl;

/// For commands that know a database.
#[derive(Args)]
pub struct DatabaseFlags {
    /// The Postgres database: URL or key=value, without a password
    // Not parsed by clap: its message would show the text, to logs too.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The same, from a file, which may hold a password
    #[arg(long, value_name = "FILE", conflicts_with = "database_url")]
    database_url_file: Option<PathBuf>,
}

impl DatabaseFlags {
    /// What the flags name, if they do; with a password in an argument a wrong usage.
    pub fn url(&self) -> Result<Option<DatabaseUrl>, anyhow::Error> {
        let Some(text) = &self.database_url else {
            return Ok(self.database_url_file.clone().map(DatabaseUrl::File));
        };
        let url = DatabaseUrl::from_argument(text).map_err(|message| Failure {
            exit: Exit::Usage,
            message: format!("--database-url: {message}"),
        })?;
        Ok(Some(url))
    }
}

//! The database that a command uses.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::exit::{Exit, Failure};
use crate::mirror::connect::{Connected, Purpose, connect};
use crate::mirror::target::DatabaseUrl;

/// For commands that use a database.
#[derive(Args)]
pub struct DatabaseFlags {
    /// The Postgres database: URL or key=value, without a password
    // clap does not parse it, because its error message would show the text, which may contain a password.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The same, from a file, which may hold a password
    #[arg(long, value_name = "FILE", conflicts_with = "database_url")]
    database_url_file: Option<PathBuf>,
}

impl DatabaseFlags {
    /// The database that the flags name; `None` if they name none. A password in an argument is wrong usage.
    pub fn url(&self) -> Result<Option<DatabaseUrl>, anyhow::Error> {
        let usage = |flag: &'static str| {
            move |message| Failure { exit: Exit::Usage, message: format!("{flag}: {message}") }
        };
        let url = match (&self.database_url, &self.database_url_file) {
            (Some(text), _) => DatabaseUrl::from_argument(text).map_err(usage("--database-url"))?,
            (None, Some(path)) => {
                DatabaseUrl::from_file(path.clone()).map_err(usage("--database-url-file"))?
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(url))
    }

    /// Runs `work` on a connection to the database that the flags name.
    pub fn with<T>(
        &self,
        purpose: Purpose,
        work: impl AsyncFnOnce(Connected) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let Some(url) = self.url()? else {
            let message = "no database: name it with --database-url-file FILE, or, without a password, with --database-url";
            return Err(Failure { exit: Exit::Usage, message: message.into() }.into());
        };
        let target = url.target()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop; raise the limit of open files")?;
        runtime.block_on(async { work(connect(&target, purpose).await?).await })
    }
}

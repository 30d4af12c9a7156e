//! `observer schema`

use clap::{Args, Subcommand};

use super::database::DatabaseFlags;
use super::exit::{Exit, Failure};
use crate::mirror::connect::Purpose;
use crate::mirror::schema::{self, AppliedVersions, SchemaVersion};

/// The mirror's tables and views, in a Postgres database.
#[derive(Args)]
pub struct SchemaArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print it as a script for psql, to be looked at first
    Print {
        /// Only what comes after this version, such as 1.0
        #[arg(long, value_name = "VERSION", default_value_t = SchemaVersion::NONE)]
        from: SchemaVersion,
    },
    /// Create it, or bring it up to date
    Apply {
        #[command(flatten)]
        database: DatabaseFlags,
    },
}

impl SchemaArgs {
    /// 0: it is there, as this program needs it.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self.verb {
            Verb::Print { from } => {
                let script = schema::print(from)
                    .map_err(|error| Failure { exit: Exit::Usage, message: error.to_string() })?;
                super::term::print_text(&script)?;
            }
            Verb::Apply { database } => {
                let AppliedVersions { from, to } = database
                    .with(Purpose::Change, async |mut connected| {
                        schema::apply(&mut connected.client, schema::MIGRATIONS).await
                    })?;
                match from {
                    SchemaVersion::NONE => println!("created the schema observer, version {to}"),
                    from if from == to => println!("the schema observer is at version {to} already"),
                    from => println!("brought the schema observer from version {from} to {to}"),
                }
            }
        }
        Ok(Exit::Found)
    }
}

//! `observer schema`

use clap::{Args, Subcommand};

use super::database::DatabaseFlags;
use super::exit::{Exit, Failure};
use crate::mirror::connect::Purpose;
use crate::mirror::restrict::{Needed, RestrictOutcome, permit, restrict};
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
    /// Take the daemons' rights on its tables away, when all of them call its functions
    Restrict {
        #[command(flatten)]
        database: DatabaseFlags,
    },
    /// Give these rights back, for daemons of a former version
    Permit {
        #[command(flatten)]
        database: DatabaseFlags,
    },
}

impl SchemaArgs {
    /// 0: it is there, as this program needs it, or was changed; 1: hosts need the rights that were to be taken away.
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
            Verb::Restrict { database } => {
                let outcome = database
                    .with(Purpose::Change, async |mut connected| restrict(&mut connected.client).await)?;
                if let RestrictOutcome::Needed(hosts) = outcome {
                    let message = Needed(&hosts).to_string();
                    return Err(Failure { exit: Exit::None, message }.into());
                }
                println!("daemons write by the functions of the schema observer alone");
            }
            Verb::Permit { database } => {
                database.with(Purpose::Change, async |mut connected| permit(&mut connected.client).await)?;
                println!("daemons may write to the tables of the schema observer themselves");
            }
        }
        Ok(Exit::Found)
    }
}

//! What an error of the database means for the mirror: one table.

use std::fmt;

use tokio_postgres::error::SqlState;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same again, later, on this connection.
    Retry,
    /// This connection is done with.
    Reconnect,
    /// The day that arrives has no partition: have it made, and the same again.
    Maintain,
    /// Something in the data is refused: find out what, and leave it out.
    Bisect,
    /// A person has to act; the words say how. It is tried again, seldom.
    Stop(&'static str),
}

use Verdict::{Bisect, Maintain, Reconnect, Retry, Stop};

const LOGIN: &str = "correct user and password in the connection string, or the server's pg_hba.conf";
const DATABASE: &str = "create the database, or correct its name in the connection string";
const SCHEMA: &str = "run `observer schema apply` of this version on the database";
const RIGHTS: &str = "give the login its rights: docs/schema.md, Roles";
const CERTIFICATE: &str =
    "name its authority with sslrootcert=FILE, and the host as the certificate does (docs/mirror.md)";
const DAMAGED: &str = "the server says that its data is damaged; look at its log";
const TRIGGER: &str =
    "a trigger or function in the database refuses; look for what was added to the schema observer";

/// The longest matching beginning decides. Classes as in Postgres' manual, appendix A.
const TABLE: &[(&str, Verdict)] = &[
    ("08", Reconnect),
    // A plan made before the schema was migrated.
    ("0A", Reconnect),
    ("22", Bisect),
    ("23", Bisect),
    ("25", Reconnect),
    // A prepared statement that the server does not know: it is another server process.
    ("26", Reconnect),
    ("28", Stop(LOGIN)),
    ("3D", Stop(DATABASE)),
    ("3F", Stop(SCHEMA)),
    ("40", Retry),
    ("42", Stop(SCHEMA)),
    ("42501", Stop(RIGHTS)),
    ("44", Stop(RIGHTS)),
    // Out of disk, of memory.
    ("53", Retry),
    ("53300", Reconnect),
    ("54", Bisect),
    // Locks not to be had in time.
    ("55", Retry),
    // Shut down, ended by an administrator, idle too long.
    ("57", Reconnect),
    // Statement timeout, or a person cancelled it.
    ("57014", Retry),
    ("57P04", Stop(DATABASE)),
    ("58", Retry),
    ("F0", Stop(DAMAGED)),
    ("P0", Stop(TRIGGER)),
    ("XX", Reconnect),
    ("XX001", Stop(DAMAGED)),
    ("XX002", Stop(DAMAGED)),
];

/// What `code` (five characters) means. What is in no table is a reason for a new connection: that is right for
/// what passes, and does no harm to what does not.
pub fn verdict(code: &str) -> Verdict {
    let matching = TABLE.iter().filter(|(beginning, _)| code.starts_with(beginning));
    matching.max_by_key(|(beginning, _)| beginning.len()).map_or(Reconnect, |(_, verdict)| *verdict)
}

/// An error of the client library, judged, and in words that can be shown: no data, no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What to do.
    pub verdict: Verdict,
    /// In words, ends with the next step where there is one.
    pub message: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    /// `message` is all there is to say.
    pub fn new(verdict: Verdict, message: impl Into<String>) -> Self {
        Self { verdict, message: message.into() }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(told) = error.as_db_error() else {
            let verdict = if refuses_certificate(&error) { Stop(CERTIFICATE) } else { Reconnect };
            let message = client_side(&error);
            let next = match verdict {
                Stop(next) => format!("; {next}"),
                // The library's own words, of `target_session_attrs`.
                _ if message.contains("does not allow writes") => {
                    "; it is a standby: name the primary too".into()
                }
                _ => String::new(),
            };
            return Self::new(verdict, message + &next);
        };
        let code = told.code().code();
        let verdict = match verdict(code) {
            // A row that no partition takes violates no constraint that has a name.
            Bisect if *told.code() == SqlState::CHECK_VIOLATION && told.constraint().is_none() => Maintain,
            verdict => verdict,
        };
        // What a server says of data quotes it, and arguments of processes may hold secrets.
        let said = match (verdict, told.column(), told.constraint()) {
            (Bisect, _, Some(constraint)) => format!("the constraint {constraint} refuses it"),
            (Bisect, Some(column), _) => format!("the column {column} refuses it"),
            (Bisect, ..) => "the database refuses it".into(),
            _ => told.message().to_owned(),
        };
        let next = match verdict {
            Stop(next) => format!("; {next}"),
            _ if *told.code() == SqlState::DISK_FULL => "; free disk space on the database's machine".into(),
            _ if *told.code() == SqlState::LOCK_NOT_AVAILABLE => {
                "; pg_locks on the server says who holds a lock on its tables".into()
            }
            _ if *told.code() == SqlState::TOO_MANY_CONNECTIONS => "; raise max_connections there".into(),
            _ => String::new(),
        };
        Self::new(verdict, format!("{said} (SQLSTATE {code}){next}"))
    }
}

/// The server's certificate is no good, as things are: trying again changes nothing.
fn refuses_certificate(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error and its causes; none of them quotes the connection string, for that was parsed before.
fn client_side(error: &tokio_postgres::Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_verdict_that_its_cause_deserves() {
        let cases = [
            ("08006", Reconnect), // connection_failure
            ("08P01", Reconnect), // protocol_violation
            ("22021", Bisect),    // character_not_in_repertoire
            ("22P05", Bisect),    // untranslatable_character: \u0000 in jsonb
            ("23505", Bisect),    // unique_violation
            ("23514", Bisect),    // check_violation; also: no partition
            ("25006", Reconnect), // read_only_sql_transaction: it became a standby
            ("25P03", Reconnect), // idle_in_transaction_session_timeout
            ("28P01", Stop(LOGIN)),
            ("3D000", Stop(DATABASE)),
            ("3F000", Stop(SCHEMA)),
            ("40001", Retry), // serialization_failure
            ("40P01", Retry), // deadlock_detected
            ("42501", Stop(RIGHTS)),
            ("42703", Stop(SCHEMA)), // undefined_column
            ("42P01", Stop(SCHEMA)), // undefined_table
            ("53100", Retry),        // disk_full
            ("53200", Retry),        // out_of_memory
            ("53300", Reconnect),    // too_many_connections
            ("54000", Bisect),       // program_limit_exceeded
            ("55P03", Retry),        // lock_not_available
            ("57014", Retry),        // query_canceled: statement_timeout
            ("57P01", Reconnect),    // admin_shutdown
            ("57P03", Reconnect),    // cannot_connect_now
            ("57P04", Stop(DATABASE)),
            ("57P05", Reconnect), // idle_session_timeout
            ("58030", Retry),     // io_error
            ("P0001", Stop(TRIGGER)),
            ("XX000", Reconnect),
            ("XX001", Stop(DAMAGED)),
            ("99999", Reconnect),
            ("", Reconnect),
        ];
        for (code, expected) in cases {
            assert_eq!(verdict(code), expected, "{code}");
        }
    }

    #[test]
    fn every_row_of_the_table_can_be_reached() {
        for (beginning, expected) in TABLE {
            assert_eq!(verdict(beginning), *expected, "{beginning}");
        }
    }
}

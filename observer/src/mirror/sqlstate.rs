//! Classifies the errors of the client library: one table by SQLSTATE.

use tokio_postgres::error::{DbError, SqlState};

use super::error::{DatabaseError, ErrorClass};
use ErrorClass::{BrokenConnection, MissingPartition, Permanent, RefusedData, Transient};

const LOGIN: &str = "correct user and password in the connection string, or the server's pg_hba.conf";
const DATABASE: &str = "create the database, or correct its name in the connection string";
const SCHEMA: &str = "run `observer schema apply` of this version on the database";
const RIGHTS: &str = "give the login its rights: docs/schema.md, Roles";
const CERTIFICATE: &str =
    "name its authority with sslrootcert=FILE, and the host as the certificate does (docs/mirror.md)";
const DAMAGED: &str = "the server says that its data is damaged; look at its log";
const TRIGGER: &str =
    "a trigger or function in the database refuses; look for what was added to the schema observer";

/// Beginning of the SQLSTATE, class, and the next step if the class is permanent. The longest beginning that matches decides.
/// Classes as in Postgres' manual, appendix A.
const TABLE: &[(&str, ErrorClass, &str)] = &[
    ("08", BrokenConnection, ""),
    // The plan was made before the schema was migrated.
    ("0A", BrokenConnection, ""),
    ("22", RefusedData, ""),
    ("23", RefusedData, ""),
    ("25", BrokenConnection, ""),
    // The server does not know the prepared statement: it is another server process.
    ("26", BrokenConnection, ""),
    ("28", Permanent, LOGIN),
    ("3D", Permanent, DATABASE),
    ("3F", Permanent, SCHEMA),
    ("40", Transient, ""),
    ("42", Permanent, SCHEMA),
    ("42501", Permanent, RIGHTS),
    ("44", Permanent, RIGHTS),
    // Out of disk or memory.
    ("53", Transient, ""),
    ("53300", BrokenConnection, ""),
    ("54", RefusedData, ""),
    // A lock was not available in time.
    ("55", Transient, ""),
    // The server shuts down, an administrator ended the connection, or it was idle for too long.
    ("57", BrokenConnection, ""),
    // The statement took too long, or a person cancelled it.
    ("57014", Transient, ""),
    ("57P04", Permanent, DATABASE),
    ("58", Transient, ""),
    ("F0", Permanent, DAMAGED),
    ("P0", Permanent, TRIGGER),
    ("XX", BrokenConnection, ""),
    ("XX001", Permanent, DAMAGED),
    ("XX002", Permanent, DAMAGED),
];

/// Class and next step of `code` (five characters). An unknown code calls for a new connection: that is right for transient
/// errors, and harmless for permanent ones.
fn classify(code: &str) -> (ErrorClass, &'static str) {
    let matching = TABLE.iter().filter(|(beginning, ..)| code.starts_with(beginning));
    let longest = matching.max_by_key(|(beginning, ..)| beginning.len());
    longest.map_or((BrokenConnection, ""), |(_, class, next_step)| (*class, next_step))
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(server_error) => of_server(server_error),
            None => of_client(&error),
        }
    }
}

/// An error that the server reports.
fn of_server(error: &DbError) -> DatabaseError {
    let code = error.code().code();
    let (mut class, mut next_step) = classify(code);
    // A row that belongs to no partition violates no constraint that has a name.
    if *error.code() == SqlState::CHECK_VIOLATION && error.constraint().is_none() {
        class = MissingPartition;
    }
    // The server's message about data quotes the data, and arguments of processes may hold secrets.
    let problem = match (class, error.column(), error.constraint()) {
        (RefusedData, _, Some(constraint)) => format!("the constraint {constraint} refuses it"),
        (RefusedData, Some(column), _) => format!("the column {column} refuses it"),
        (RefusedData, ..) => "the database refuses it".into(),
        _ => error.message().to_owned(),
    };
    if *error.code() == SqlState::DISK_FULL {
        next_step = "free disk space on the database's machine";
    } else if *error.code() == SqlState::LOCK_NOT_AVAILABLE {
        next_step = "pg_locks on the server says who holds a lock on its tables";
    } else if *error.code() == SqlState::TOO_MANY_CONNECTIONS {
        next_step = "raise max_connections there";
    }
    with_next_step(class, format!("{problem} (SQLSTATE {code})"), next_step)
}

/// An error on the way to the server.
fn of_client(error: &tokio_postgres::Error) -> DatabaseError {
    let message = with_causes(error);
    if refuses_certificate(error) {
        return with_next_step(Permanent, message, CERTIFICATE);
    }
    // The library's words for `target_session_attrs=read-write`.
    let is_standby = message.contains("does not allow writes");
    let next_step = if is_standby { "it is a standby: name the primary too" } else { "" };
    with_next_step(BrokenConnection, message, next_step)
}

fn with_next_step(class: ErrorClass, message: String, next_step: &str) -> DatabaseError {
    let separator = if next_step.is_empty() { "" } else { "; " };
    DatabaseError::new(class, message + separator + next_step)
}

/// Whether the server's certificate is not accepted, which another attempt does not change.
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

/// The error and its causes. None of them quotes the connection string, which was parsed before.
fn with_causes(error: &tokio_postgres::Error) -> String {
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
    fn each_code_has_the_class_that_its_cause_deserves() {
        let cases = [
            ("08006", BrokenConnection, ""), // connection_failure
            ("08P01", BrokenConnection, ""), // protocol_violation
            ("22021", RefusedData, ""),      // character_not_in_repertoire
            ("22P05", RefusedData, ""),      // untranslatable_character: \u0000 in jsonb
            ("23505", RefusedData, ""),      // unique_violation
            ("23514", RefusedData, ""),      // check_violation; also: no partition
            ("25006", BrokenConnection, ""), // read_only_sql_transaction: it became a standby
            ("25P03", BrokenConnection, ""), // idle_in_transaction_session_timeout
            ("28P01", Permanent, LOGIN),
            ("3D000", Permanent, DATABASE),
            ("3F000", Permanent, SCHEMA),
            ("40001", Transient, ""), // serialization_failure
            ("40P01", Transient, ""), // deadlock_detected
            ("42501", Permanent, RIGHTS),
            ("42703", Permanent, SCHEMA),    // undefined_column
            ("42P01", Permanent, SCHEMA),    // undefined_table
            ("53100", Transient, ""),        // disk_full
            ("53200", Transient, ""),        // out_of_memory
            ("53300", BrokenConnection, ""), // too_many_connections
            ("54000", RefusedData, ""),      // program_limit_exceeded
            ("55P03", Transient, ""),        // lock_not_available
            ("57014", Transient, ""),        // query_canceled: statement_timeout
            ("57P01", BrokenConnection, ""), // admin_shutdown
            ("57P03", BrokenConnection, ""), // cannot_connect_now
            ("57P04", Permanent, DATABASE),
            ("57P05", BrokenConnection, ""), // idle_session_timeout
            ("58030", Transient, ""),        // io_error
            ("P0001", Permanent, TRIGGER),
            ("XX000", BrokenConnection, ""),
            ("XX001", Permanent, DAMAGED),
            ("99999", BrokenConnection, ""),
            ("", BrokenConnection, ""),
        ];
        for (code, class, next_step) in cases {
            assert_eq!(classify(code), (class, next_step), "{code}");
        }
    }

    #[test]
    fn every_row_of_the_table_can_be_reached() {
        for (beginning, class, next_step) in TABLE {
            assert_eq!(classify(beginning), (*class, *next_step), "{beginning}");
            assert_eq!(*class == Permanent, !next_step.is_empty(), "{beginning}");
        }
    }
}

//! The schema: its migrations, in order, are part of the program.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio_postgres::{Client, GenericClient};

use super::connect::SERVER_VERSION_MIN;
use super::error::{DatabaseError, ErrorClass};
use super::items::SessionKeys;

/// A version of the schema and a revision of that version: `1.1`. A program works with each revision of the version that it
/// knows, and with no other version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaVersion {
    /// From 1; 0: there is no schema.
    pub version: i32,
    /// From 0. A later revision has more than an earlier one.
    pub revision: i32,
}

/// A script that brings the schema from the version or revision before to this one.
#[derive(Clone, Copy, Debug)]
pub struct SchemaMigration {
    /// What the schema is afterwards.
    pub to: SchemaVersion,
    /// The statements.
    pub script: &'static str,
}

/// All of them, in their order.
pub const MIGRATIONS: &[SchemaMigration] = &[
    SchemaMigration { to: SchemaVersion::new(1, 0), script: include_str!("migrations/0001.sql") },
    SchemaMigration { to: REKEYED, script: include_str!("migrations/0001-1.sql") },
    SchemaMigration { to: SchemaVersion::new(1, 2), script: include_str!("migrations/0001-2.sql") },
    SchemaMigration { to: SchemaVersion::new(1, 3), script: include_str!("migrations/0001-3.sql") },
    SchemaMigration { to: SchemaVersion::new(1, 4), script: include_str!("migrations/0001-4.sql") },
    SchemaMigration { to: SchemaVersion::new(1, 5), script: include_str!("migrations/0001-5.sql") },
    SchemaMigration { to: WITH_FUNCTIONS, script: include_str!("migrations/0001-6.sql") },
    SchemaMigration { to: WITH_CLOCKS, script: include_str!("migrations/0001-7.sql") },
    SchemaMigration { to: LATEST, script: include_str!("migrations/0001-8.sql") },
];
/// The last version that this program knows.
pub const LATEST: SchemaVersion = SchemaVersion::new(1, 8);
/// From here on a writer can add the user to the keys of its host's sessions.
pub const REKEYED: SchemaVersion = SchemaVersion::new(1, 1);
/// From here on a writer calls functions, and its connection has a name that readers recognize.
pub const WITH_FUNCTIONS: SchemaVersion = SchemaVersion::new(1, 6);
/// From here on a writer notes how far its host's clock is ahead of the server's.
pub const WITH_CLOCKS: SchemaVersion = SchemaVersion::new(1, 7);
/// One migration at a time; the second key is of no host. Neither this lock nor those of a migration are waited for without end: who
/// waits for a table makes everybody else wait behind.
const LOCK: &str = "SET LOCAL lock_timeout = '20s'; SELECT pg_catalog.pg_advisory_xact_lock(1868723062, 0)";
/// Locks everything that is there before it is changed.
const LOCK_RELATIONS: &str = include_str!("migrations/lock.sql");
const FIND: &str = "SELECT pg_catalog.to_regclass('observer.migration') IS NOT NULL,
    pg_catalog.to_regnamespace('observer') IS NOT NULL";
/// The column `revision` is missing in 1.0.
const READ: &str =
    "SELECT m.version, coalesce((pg_catalog.to_jsonb(m) ->> 'revision')::integer, 0) AS revision
    FROM observer.migration AS m ORDER BY 1 DESC, 2 DESC LIMIT 1";

impl SchemaVersion {
    /// This version and revision.
    pub const fn new(version: i32, revision: i32) -> Self {
        Self { version, revision }
    }

    /// There is no schema.
    pub const NONE: Self = Self::new(0, 0);

    /// How a daemon writes to this revision.
    pub fn writing(self) -> WritingStyle {
        WritingStyle {
            keys: if self < REKEYED { SessionKeys::Home } else { SessionKeys::HomeAndUser },
            access: if self < WITH_FUNCTIONS { WriteAccess::Tables } else { WriteAccess::Functions },
            has_clocks: self >= WITH_CLOCKS,
        }
    }
}

/// How a daemon writes to a revision of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritingStyle {
    /// What identifies a session.
    pub keys: SessionKeys,
    /// What its statements use.
    pub access: WriteAccess,
    /// Whether the row of the host has a column for its clock.
    pub has_clocks: bool,
}

/// What the statements of a writer use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAccess {
    /// The functions of [`WITH_FUNCTIONS`].
    Functions,
    /// The rights on the tables, since the schema is older.
    Tables,
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("0"),
            Self { version, revision } => write!(f, "{version}.{revision}"),
        }
    }
}

impl FromStr for SchemaVersion {
    type Err = String;

    /// `1` is the same as `1.0`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (version, revision) = text.split_once('.').unwrap_or((text, "0"));
        match (version.parse(), revision.parse()) {
            (Ok(version), Ok(revision)) => Ok(Self::new(version, revision)),
            _ => Err("a version of the schema is written as 1.0".into()),
        }
    }
}

/// Versions before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedVersions {
    /// [`SchemaVersion::NONE`]: there was none.
    pub from: SchemaVersion,
    /// The last.
    pub to: SchemaVersion,
}

/// Every migration after `from`, as a script for psql; the error says which versions there are.
pub fn print(from: SchemaVersion) -> Result<String> {
    let is_known = from == SchemaVersion::NONE || MIGRATIONS.iter().any(|migration| migration.to == from);
    let known: Vec<String> = MIGRATIONS.iter().map(|migration| migration.to.to_string()).collect();
    ensure!(
        is_known,
        "there is no version {from} of the schema: this program has {}; give --from with one of them, or 0",
        known.join(", ")
    );
    let mut script = format!(
        "-- The schema of observer's mirror, version {LATEST}, from version {from}. It needs a database with the encoding UTF8,\n\
         -- Postgres 14 or newer, and a login that may create schemas and roles. Run it with: psql -v ON_ERROR_STOP=1 -f FILE\n\n\
         BEGIN;\n{}\n{LOCK};\n\n",
        guard()
    );
    if from != SchemaVersion::NONE && from < LATEST {
        script.push_str(LOCK_RELATIONS);
        script.push('\n');
    }
    for migration in after(MIGRATIONS, from) {
        script.push_str(migration.script);
        script.push('\n');
    }
    script.push_str("COMMIT;\n");
    Ok(script)
}

/// What a connection of ours looks at, for psql.
fn guard() -> String {
    format!(
        "DO $$ BEGIN\n    \
             IF current_setting('server_version_num')::integer < {SERVER_VERSION_MIN} THEN\n        \
                 RAISE EXCEPTION 'observer needs Postgres 14 or newer; upgrade it';\n    \
             END IF;\n    \
             IF current_setting('server_encoding') <> 'UTF8' THEN\n        \
                 RAISE EXCEPTION 'observer needs a database with ENCODING ''UTF8''; create one from TEMPLATE template0';\n    \
             END IF;\n\
         END $$;\n"
    )
}

/// Brings the database to the last of `migrations` (of this program: [`MIGRATIONS`]), in one transaction; does nothing where
/// it is there, or at a later revision. Who else does the same at that moment waits. Errors: a newer version, a schema of that
/// name that is not observer's, and what the database says.
pub async fn apply(client: &mut Client, migrations: &[SchemaMigration]) -> Result<AppliedVersions> {
    let latest = migrations.last().map_or(SchemaVersion::NONE, |migration| migration.to);
    let transaction = client.transaction().await.map_err(DatabaseError::from)?;
    let locked = transaction.batch_execute(LOCK).await.map_err(DatabaseError::from);
    locked.context(
        "wait for whoever else applies the schema (advisory lock 1868723062, 0); nothing was changed",
    )?;
    let row = transaction.query_one(FIND, &[]).await.map_err(DatabaseError::from)?;
    let (known, taken): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    ensure!(
        known || !taken,
        "the database has a schema named observer that is not observer's: rename it (ALTER SCHEMA observer RENAME TO …), \
         or use another database"
    );
    let from = if known { read(&transaction).await? } else { SchemaVersion::NONE };
    if from.version > latest.version {
        bail!("{}", newer_schema(from, latest));
    }
    if known && from < latest {
        let locked = transaction.batch_execute(LOCK_RELATIONS).await.map_err(DatabaseError::from);
        locked.context("wait for who reads and writes the schema observer; nothing was changed")?;
    }
    for SchemaMigration { to, script } in after(migrations, from) {
        let applied = transaction.batch_execute(script).await.map_err(DatabaseError::from);
        applied.with_context(|| format!("migrate the schema to version {to}; nothing was changed"))?;
    }
    transaction.commit().await.map_err(DatabaseError::from)?;
    Ok(AppliedVersions { from, to: from.max(latest) })
}

/// Checks that the database has a schema that this program can write to and read; returns its version.
pub async fn check(client: &impl GenericClient) -> Result<SchemaVersion, DatabaseError> {
    let row = client.query_typed_one(FIND, &[]).await?;
    let next_step = "run `observer schema apply` of this version on the database";
    if !row.try_get::<_, bool>(0)? {
        return Err(DatabaseError::permanent("the database has no schema of observer's", next_step));
    }
    let found = read(client).await?;
    if found.version < LATEST.version {
        let problem = format!("the database's schema is at version {found}, and this program needs {LATEST}");
        return Err(DatabaseError::permanent(problem, next_step));
    }
    if found.version > LATEST.version {
        return Err(DatabaseError::new(ErrorClass::Permanent, newer_schema(found, LATEST)));
    }
    Ok(found)
}

/// The version of a schema that is there.
async fn read(client: &impl GenericClient) -> Result<SchemaVersion, DatabaseError> {
    match client.query_typed_opt(READ, &[]).await? {
        Some(row) => Ok(SchemaVersion::new(row.try_get(0)?, row.try_get(1)?)),
        None => Ok(SchemaVersion::NONE),
    }
}

fn after(migrations: &[SchemaMigration], from: SchemaVersion) -> impl Iterator<Item = &SchemaMigration> {
    migrations.iter().filter(move |migration| migration.to > from)
}

/// What a person should know of a database whose schema is at `found`, an earlier revision than [`LATEST`].
pub fn older_revision(found: SchemaVersion) -> String {
    let shared = match found < REKEYED {
        true => ", and sessions of several users in one home share a row",
        false => "",
    };
    format!(
        "the database's schema is at version {found}: it lacks views, columns and functions of {LATEST}{shared}; run `observer schema \
         apply` of this version on the database"
    )
}

fn newer_schema(found: SchemaVersion, latest: SchemaVersion) -> String {
    format!(
        "the database's schema is at version {found}, newer than this program's {latest}: nothing was changed; upgrade observer \
         on this host"
    )
}

/// The last script that defines the functions by which daemons write.
#[cfg(test)]
pub fn last_with_functions() -> &'static str {
    let defines = |script: &&str| script.contains("CREATE OR REPLACE FUNCTION observer.deliver(");
    MIGRATIONS.iter().rev().map(|migration| migration.script).find(defines).expect("one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> SchemaVersion {
        text.parse().unwrap()
    }

    #[test]
    fn a_script_has_what_is_missing_and_no_more() {
        let whole = print(SchemaVersion::NONE).unwrap();
        assert!(whole.starts_with("--") && whole.ends_with("COMMIT;\n"), "{whole}");
        assert!(whole.contains("CREATE SCHEMA observer;") && whole.contains(LOCK));
        assert!(!whole.contains(LOCK_RELATIONS), "there is nothing to lock");
        let nothing = print(LATEST).unwrap();
        assert!(!nothing.contains("CREATE") && !nothing.contains(LOCK_RELATIONS), "{nothing}");
        let from_1_0 = print(version("1")).unwrap();
        assert!(
            !from_1_0.contains("CREATE SCHEMA observer;") && from_1_0.contains("rekey_sessions"),
            "{from_1_0}"
        );
        let (locks, first_change) = (from_1_0.find(LOCK_RELATIONS), from_1_0.find("ALTER TABLE"));
        assert!(locks.is_some() && locks < first_change, "{from_1_0}");
        for unknown in ["2", "1.9", "0.1", "-1"] {
            let error = print(version(unknown)).unwrap_err().to_string();
            assert!(error.contains("1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8; give --from"), "{error}");
        }
    }

    #[test]
    fn a_version_is_written_as_it_is_read() {
        assert_eq!(
            ["0", "1", "1.0", "1.1", "12.34"].map(version).map(|it| it.to_string()),
            ["0", "1.0", "1.0", "1.1", "12.34"]
        );
        for text in ["", "x", "1.", ".1", "1.1.1", "1.x"] {
            assert!(text.parse::<SchemaVersion>().is_err(), "{text}");
        }
        assert!(version("1.2") < version("1.10") && version("1.10") < version("2"));
    }

    #[test]
    fn the_views_look_for_the_lock_that_the_writer_takes() {
        let class = crate::mirror::sql::LOCK_CLASS.to_string();
        let first = MIGRATIONS.first().unwrap().script;
        assert!(first.contains(&format!("k.classid = {class} AND k.objsubid = 2")));
        let of_functions = MIGRATIONS.iter().find(|migration| migration.to == WITH_FUNCTIONS).unwrap().script;
        assert!(of_functions.contains(&format!("k.classid = {class} AND k.objsubid = 2")));
        assert!(LOCK.contains(&class));
    }

    #[test]
    fn the_views_look_for_the_name_that_the_writer_gives_its_connection() {
        let name = |number: &str, generation: &str| format!("'observer ' || {number} || ' ' || {generation}");
        assert!(crate::mirror::sql::NAME_CONNECTION.contains(&name("$1::integer", "$2::bigint")));
        let view = MIGRATIONS.iter().find(|migration| migration.to == WITH_CLOCKS).unwrap().script;
        assert!(view.contains(&name("h.host_no", "h.generation")));
    }

    #[test]
    fn the_revision_decides_how_a_daemon_writes() {
        let style = |text| version(text).writing();
        let expected = [
            ("1.0", SessionKeys::Home, WriteAccess::Tables, false),
            ("1.1", SessionKeys::HomeAndUser, WriteAccess::Tables, false),
            ("1.5", SessionKeys::HomeAndUser, WriteAccess::Tables, false),
            ("1.6", SessionKeys::HomeAndUser, WriteAccess::Functions, false),
            ("1.7", SessionKeys::HomeAndUser, WriteAccess::Functions, true),
            ("1.10", SessionKeys::HomeAndUser, WriteAccess::Functions, true),
        ];
        for (text, keys, access, has_clocks) in expected {
            assert_eq!(style(text), WritingStyle { keys, access, has_clocks }, "{text}");
        }
    }

    #[test]
    fn each_migration_follows_the_one_before_and_notes_its_version() {
        let mut before = SchemaVersion::NONE;
        for SchemaMigration { to, script } in MIGRATIONS {
            let SchemaVersion { version, revision } = *to;
            let follows = [(before.version, before.revision + 1), (before.version + 1, 0)];
            assert!(follows.contains(&(version, revision)), "{before}, {to}");
            let noted = match revision {
                0 => format!("INSERT INTO observer.migration (version) VALUES ({version});"),
                _ => format!(
                    "INSERT INTO observer.migration (version, revision) VALUES ({version}, {revision});"
                ),
            };
            assert!(script.trim_end().ends_with(&noted), "{to}");
            before = *to;
        }
        assert_eq!(before, LATEST);
    }
}

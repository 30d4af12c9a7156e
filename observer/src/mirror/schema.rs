//! The schema: its migrations, in order, are part of the program.

use anyhow::{Context as _, Result, bail, ensure};
use tokio_postgres::Client;

use super::connect::SERVER_VERSION_MIN;
use super::error::{DatabaseError, ErrorClass};

/// From version 1 by 1.
pub const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];
/// What this program writes and reads.
pub const VERSION: i32 = MIGRATIONS.len() as i32;
/// One migration at a time; the second key is of no host. Neither this lock nor those of a migration are waited for without end: who
/// waits for a table makes everybody else wait behind.
const LOCK: &str = "SET LOCAL lock_timeout = '20s'; SELECT pg_catalog.pg_advisory_xact_lock(1868723062, 0)";
const FIND: &str = "SELECT pg_catalog.to_regclass('observer.migration') IS NOT NULL,
    pg_catalog.to_regnamespace('observer') IS NOT NULL";
const READ: &str = "SELECT coalesce(pg_catalog.max(version), 0) FROM observer.migration";

/// Versions before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedVersions {
    /// 0: there was none.
    pub from: i32,
    /// The last.
    pub to: i32,
}

/// Every migration after version `from`, as a script for psql; the error says which versions there are.
pub fn print(from: i32) -> Result<String> {
    ensure!(
        (0..=VERSION).contains(&from),
        "there is no version {from} of the schema: this program has 1 to {VERSION}; give --from with one of them, or 0"
    );
    let mut script = format!(
        "-- The schema of observer's mirror, version {VERSION}, from version {from}. It needs a database with the encoding UTF8,\n\
         -- Postgres 14 or newer, and a login that may create schemas and roles. Run it with: psql -v ON_ERROR_STOP=1 -f FILE\n\n\
         BEGIN;\n{}\n{LOCK};\n\n",
        guard()
    );
    for migration in after(MIGRATIONS, from) {
        script.push_str(migration);
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

/// Brings the database to the last of `migrations` (of this program: [`MIGRATIONS`]), in one transaction; does nothing where it is there. Who else does the same at that moment
/// waits. Errors: a newer schema, a schema of that name that is not observer's, and what the database says.
pub async fn apply(client: &mut Client, migrations: &[&str]) -> Result<AppliedVersions> {
    let to = i32::try_from(migrations.len()).unwrap_or(i32::MAX);
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
    let from = if known {
        transaction.query_one(READ, &[]).await.map_err(DatabaseError::from)?.try_get(0)?
    } else {
        0
    };
    if from > to {
        bail!("{}", newer_schema(from));
    }
    for (migration, version) in after(migrations, from).zip(from + 1..) {
        let applied = transaction.batch_execute(migration).await.map_err(DatabaseError::from);
        applied.with_context(|| format!("migrate the schema to version {version}; nothing was changed"))?;
    }
    transaction.commit().await.map_err(DatabaseError::from)?;
    Ok(AppliedVersions { from, to })
}

/// Checks that the database has the schema that this program writes.
pub async fn check(client: &Client) -> Result<(), DatabaseError> {
    let row = client.query_one(FIND, &[]).await?;
    let next_step = "run `observer schema apply` of this version on the database";
    if !row.try_get::<_, bool>(0)? {
        return Err(DatabaseError::permanent("the database has no schema of observer's", next_step));
    }
    let version: i32 = client.query_one(READ, &[]).await?.try_get(0)?;
    match version {
        VERSION => Ok(()),
        older if older < VERSION => {
            let problem =
                format!("the database's schema is at version {older}, and this program needs {VERSION}");
            Err(DatabaseError::permanent(problem, next_step))
        }
        newer => Err(DatabaseError::new(ErrorClass::Permanent, newer_schema(newer))),
    }
}

fn after<'a>(migrations: &[&'a str], from: i32) -> impl Iterator<Item = &'a str> {
    migrations.iter().skip(usize::try_from(from).unwrap_or_default()).copied()
}

fn newer_schema(found: i32) -> String {
    format!(
        "the database's schema is at version {found}, newer than this program's {VERSION}: nothing was changed; upgrade observer on \
         this host"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_what_is_missing_and_no_more() {
        let whole = print(0).unwrap();
        assert!(whole.starts_with("--") && whole.ends_with("COMMIT;\n"), "{whole}");
        assert!(whole.contains("CREATE SCHEMA observer") && whole.contains(LOCK));
        assert!(!print(VERSION).unwrap().contains("CREATE"));
        assert!(print(VERSION + 1).unwrap_err().to_string().contains("--from"));
    }

    #[test]
    fn the_views_look_for_the_lock_that_the_writer_takes() {
        let class = crate::mirror::sql::LOCK_CLASS.to_string();
        assert!(MIGRATIONS.concat().contains(&format!("k.classid = {class} AND k.objsubid = 2")));
        assert!(LOCK.contains(&class));
    }

    #[test]
    fn each_migration_notes_its_version() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            let noted = format!("INSERT INTO observer.migration (version) VALUES ({version});");
            assert!(migration.trim_end().ends_with(&noted), "{version}");
        }
    }
}

//! Takes the writers' rights on the tables away, once no host needs them, or gives them back.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use tokio_postgres::Client;

use super::error::DatabaseError;
use super::schema::{self, WITH_FUNCTIONS};
use crate::text::bytes::to_line;

/// No daemon becomes a writer meanwhile. It is not waited for without end: who waits for a table makes everybody else wait behind.
const LOCK: &str = "SET LOCAL lock_timeout = '20s'; LOCK TABLE observer.host IN SHARE ROW EXCLUSIVE MODE";
/// Hosts whose last writer used the rights.
const IN_THE_WAY: &str = "SELECT host, host_id::text, coalesce(version, '?') FROM observer.host
    WHERE generation > 0 AND named_generation IS DISTINCT FROM generation ORDER BY host, host_id";
/// Whether the login has the rights of the owner of the tables.
const OWNS: &str = "SELECT pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE')
    FROM pg_catalog.pg_class c WHERE c.oid = 'observer.event'::pg_catalog.regclass";
const REVOKE: &str =
    "REVOKE INSERT, UPDATE ON observer.stream, observer.session, observer.event FROM observer_writer";
/// The rights that the first version of the schema gives.
const GRANTS: [&str; 3] = [
    "GRANT INSERT (host_no, stream_id, last_seq), UPDATE (last_seq) ON observer.stream TO observer_writer",
    "GRANT INSERT (host_no, home_id, home, home_mnt_ns, name, boot_id, pid, start_boottime_ns, started_at, exec_at, tty, pane, mux,
        mux_socket, cwd, comm, argv, username, uid, state, since, roots, wrapper_pid, starts, certain, last_death_at,
        last_death_kind, last_death_signal, last_death_code, detail),
    UPDATE (home, home_mnt_ns, name, boot_id, pid, start_boottime_ns, started_at, exec_at, tty, pane, mux,
        mux_socket, cwd, comm, argv, username, uid, state, since, roots, wrapper_pid, starts, certain, last_death_at,
        last_death_kind, last_death_signal, last_death_code, detail)
    ON observer.session TO observer_writer",
    "GRANT INSERT (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail)
    ON observer.event TO observer_writer",
];
/// Hosts that a message names; the others are counted.
const NAMED_MAX: usize = 20;

/// A host whose last writer used the rights on the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInTheWay {
    /// Its name when it last connected.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Version of its daemon.
    pub version: String,
}

/// How an attempt to restrict the writers ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestrictOutcome {
    /// Writers may call functions, and write to no table but their host's row.
    Restricted,
    /// These hosts need the rights; nothing was changed.
    Needed(Vec<HostInTheWay>),
}

/// Takes the rights away, unless a host needs them.
pub async fn restrict(client: &mut Client) -> Result<RestrictOutcome> {
    has_functions(client).await?;
    let transaction = client.transaction().await.map_err(DatabaseError::from)?;
    let locked = transaction.batch_execute(LOCK).await.map_err(DatabaseError::from);
    locked.context("keep daemons from connecting for a moment; nothing was changed")?;
    let rows = transaction.query(IN_THE_WAY, &[]).await.map_err(DatabaseError::from)?;
    if !rows.is_empty() {
        let host = |row: &tokio_postgres::Row| {
            Ok(HostInTheWay { host: row.try_get(0)?, host_id: row.try_get(1)?, version: row.try_get(2)? })
        };
        return Ok(RestrictOutcome::Needed(rows.iter().map(host).collect::<Result<_>>()?));
    }
    transaction.batch_execute(REVOKE).await.map_err(DatabaseError::from)?;
    transaction.commit().await.map_err(DatabaseError::from)?;
    Ok(RestrictOutcome::Restricted)
}

/// Gives the rights back, for daemons that need them.
pub async fn permit(client: &mut Client) -> Result<()> {
    has_functions(client).await?;
    let transaction = client.transaction().await.map_err(DatabaseError::from)?;
    for grant in GRANTS {
        transaction.batch_execute(grant).await.map_err(DatabaseError::from)?;
    }
    Ok(transaction.commit().await.map_err(DatabaseError::from)?)
}

async fn has_functions(client: &Client) -> Result<()> {
    let found = schema::check(client).await?;
    ensure!(
        found >= WITH_FUNCTIONS,
        "the database's schema is at version {found}, and writers need their rights on the tables before {WITH_FUNCTIONS}; run \
         `observer schema apply` first"
    );
    // To others, GRANT and REVOKE give a warning at most.
    let row = client.query_one(OWNS, &[]).await.map_err(DatabaseError::from)?;
    ensure!(
        row.try_get::<_, bool>(0)?,
        "this login does not own the tables of the schema observer: nothing was changed; log in as their owner"
    );
    Ok(())
}

/// The hosts that need the rights, for a person.
pub struct Needed<'a>(pub &'a [HostInTheWay]);

impl fmt::Display for Needed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hosts whose daemons write to the tables themselves, so nothing was changed:")?;
        for HostInTheWay { host, host_id, version } in self.0.iter().take(NAMED_MAX) {
            let (host, version) = (to_line(host.as_bytes()), to_line(version.as_bytes()));
            write!(f, "\n  {host} ({host_id}), observer {version}")?;
        }
        if let Some(others) = self.0.len().checked_sub(NAMED_MAX).filter(|others| *others > 0) {
            write!(f, "\n  and {others} more")?;
        }
        f.write_str(
            "\nupgrade observer there; a daemon that is new enough takes up to an hour, or a restart, to notice a new schema; remove \
             hosts that are gone with `observer forget HOST`",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::schema::MIGRATIONS;

    fn hosts(count: usize) -> Vec<HostInTheWay> {
        let host =
            |at| HostInTheWay { host: format!("web{at}"), host_id: "x".into(), version: "1.0.0".into() };
        (0..count).map(host).collect()
    }

    #[test]
    fn the_rights_that_are_given_back_are_those_of_the_first_version() {
        let first = MIGRATIONS.first().unwrap().script;
        for grant in GRANTS {
            assert!(first.contains(&format!("{grant};")), "{grant}");
        }
    }

    #[test]
    fn a_message_names_some_hosts_counts_the_others_and_ends_with_the_next_step() {
        let text = Needed(&hosts(NAMED_MAX)).to_string();
        assert_eq!(text.matches("web").count(), NAMED_MAX);
        assert!(!text.contains("more") && text.ends_with("`observer forget HOST`"), "{text}");
        let text = Needed(&hosts(NAMED_MAX + 5)).to_string();
        assert_eq!(text.matches("web").count(), NAMED_MAX);
        assert!(text.contains("and 5 more"), "{text}");
        let hostile = [HostInTheWay { host: "a\u{1b}[2J".into(), ..hosts(1).pop().unwrap() }];
        assert!(!Needed(&hostile).to_string().contains('\u{1b}'));
    }
}

//! Removes a host that is gone, with everything of it.

use anyhow::{Context as _, Result};
use tokio_postgres::Client;
use uuid::Uuid;

use super::delivery::LockHolder;
use super::error::DatabaseError;
use super::presence::holder;
use super::sql::LOCK_CLASS;

const FIND: &str = "SELECT host_no, host_id, host, present, last_commit_at::text FROM observer.hosts
    WHERE host = $1 OR host_id::text = $1 ORDER BY first_seen_at";
/// The presence lock, which a daemon that is present, or is about to be, holds.
const LOCK: &str = "SELECT pg_catalog.pg_try_advisory_xact_lock($1, $2)";
const EVENTS: &str = "DELETE FROM observer.event WHERE host_no = $1";
const SESSIONS: &str = "DELETE FROM observer.session WHERE host_no = $1";
const WRITERS: &str = "DELETE FROM observer.writers WHERE host_id = $1";
const HOST: &str = "DELETE FROM observer.host WHERE host_no = $1";

/// A host in the database that can be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgettableHost {
    host_no: i32,
    /// Its id.
    pub host_id: Uuid,
    /// Its name when it last connected.
    pub host: String,
    /// Whether its daemon is connected.
    pub present: bool,
    /// When it last wrote; `None`: never.
    pub last_commit_at: Option<String>,
}

/// How an attempt to remove a host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgetOutcome {
    /// It was removed with so many sessions and events.
    Forgotten {
        /// Rows of the state.
        sessions: u64,
        /// Rows of history.
        events: u64,
    },
    /// Somebody holds the host's lock: its daemon before it is present, or anybody else.
    Locked {
        /// Server process.
        pid: i32,
        /// Its role.
        role: String,
    },
}

/// The hosts of this name, or with this id.
pub async fn find(client: &Client, name: &str) -> Result<Vec<ForgettableHost>> {
    let rows = client.query(FIND, &[&name]).await.map_err(DatabaseError::from)?;
    let found = |row: &tokio_postgres::Row| {
        Ok(ForgettableHost {
            host_no: row.try_get(0)?,
            host_id: row.try_get(1)?,
            host: row.try_get(2)?,
            present: row.try_get(3)?,
            last_commit_at: row.try_get(4)?,
        })
    };
    rows.iter().map(found).collect()
}

/// Removes the host in one transaction, unless its lock is taken.
pub async fn forget(client: &mut Client, host: &ForgettableHost) -> Result<ForgetOutcome> {
    let transaction = client.transaction().await.map_err(DatabaseError::from)?;
    let locked =
        transaction.query_one(LOCK, &[&LOCK_CLASS, &host.host_no]).await.map_err(DatabaseError::from)?;
    if !locked.try_get::<_, bool>(0)? {
        let holder = holder(transaction.client(), host.host_no).await?;
        let LockHolder { backend_pid: pid, role, .. } =
            holder.context("its lock was given up just now: try again")?;
        return Ok(ForgetOutcome::Locked { pid, role });
    }
    let events = transaction.execute(EVENTS, &[&host.host_no]).await.map_err(DatabaseError::from)?;
    let sessions = transaction.execute(SESSIONS, &[&host.host_no]).await.map_err(DatabaseError::from)?;
    transaction.execute(WRITERS, &[&host.host_id]).await.map_err(DatabaseError::from)?;
    transaction.execute(HOST, &[&host.host_no]).await.map_err(DatabaseError::from)?;
    transaction.commit().await.map_err(DatabaseError::from)?;
    Ok(ForgetOutcome::Forgotten { sessions, events })
}

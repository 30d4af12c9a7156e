//! Removing a host that is gone, with everything of it.

use anyhow::{Context as _, Result};
use tokio_postgres::Client;
use uuid::Uuid;

use super::presence::{Holder, holder};
use super::sql::LOCK_CLASS;
use super::sqlstate::Trouble;

const FIND: &str = "SELECT host_no, host_id::text, host, present, last_commit_at::text FROM observer.hosts
    WHERE host = $1 OR host_id::text = $1 ORDER BY first_seen_at";
/// Whoever is present, or is about to be, holds it.
const LOCK: &str = "SELECT pg_catalog.pg_try_advisory_xact_lock($1, $2)";
const EVENTS: &str = "DELETE FROM observer.event WHERE host_no = $1";
const SESSIONS: &str = "DELETE FROM observer.session WHERE host_no = $1";
const WRITERS: &str = "DELETE FROM observer.writers WHERE host_id = $1::text::uuid";
const HOST: &str = "DELETE FROM observer.host WHERE host_no = $1";

/// A host in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    host_no: i32,
    /// Who it is.
    pub host_id: Uuid,
    /// Its name when it last connected.
    pub host: String,
    /// Its daemon is there.
    pub present: bool,
    /// When it last wrote; `None`: never.
    pub last_commit_at: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Removed, with so many sessions and events.
    Forgotten {
        /// Rows of the state.
        sessions: u64,
        /// Rows of history.
        events: u64,
    },
    /// Somebody has this host's lock: its daemon before it is present, or whoever likes.
    Locked {
        /// Server process.
        pid: i32,
        /// Whose.
        role: String,
    },
}

/// Hosts of this name, or with this id.
pub async fn find(client: &Client, name: &str) -> Result<Vec<Found>> {
    let rows = client.query(FIND, &[&name]).await.map_err(Trouble::from)?;
    let found = |row: &tokio_postgres::Row| -> Result<Found> {
        let host_id: String = row.try_get(1)?;
        Ok(Found {
            host_no: row.try_get(0)?,
            host_id: host_id.parse()?,
            host: row.try_get(2)?,
            present: row.try_get(3)?,
            last_commit_at: row.try_get(4)?,
        })
    };
    rows.iter().map(found).collect()
}

/// Removes it in one transaction, unless its lock is taken.
pub async fn forget(client: &mut Client, host: &Found) -> Result<Outcome> {
    let transaction = client.transaction().await.map_err(Trouble::from)?;
    let locked = transaction.query_one(LOCK, &[&LOCK_CLASS, &host.host_no]).await.map_err(Trouble::from)?;
    if !locked.try_get::<_, bool>(0)? {
        let holder = holder(transaction.client(), host.host_no).await?;
        let Holder { pid, role, .. } = holder.context("its lock was given up just now: try again")?;
        return Ok(Outcome::Locked { pid, role });
    }
    let events = transaction.execute(EVENTS, &[&host.host_no]).await.map_err(Trouble::from)?;
    let sessions = transaction.execute(SESSIONS, &[&host.host_no]).await.map_err(Trouble::from)?;
    transaction.execute(WRITERS, &[&host.host_id.to_string()]).await.map_err(Trouble::from)?;
    transaction.execute(HOST, &[&host.host_no]).await.map_err(Trouble::from)?;
    transaction.commit().await.map_err(Trouble::from)?;
    Ok(Outcome::Forgotten { sessions, events })
}

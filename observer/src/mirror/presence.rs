//! One writer a host: the presence lock, whose holder is the host's daemon (docs/mirror.md).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::ask::{execute, query_one, query_opt};
use super::connect::Connected;
use super::source::Identity;
use super::sql;
use super::sqlstate::{Trouble, Verdict};
use super::write::{Tenure, superseded};

/// How long the end of our own ghost is waited for.
const GHOST_WAIT: Duration = Duration::from_secs(10);
/// Between two looks.
const GHOST_POLL: Duration = Duration::from_millis(100);

/// The host's row.
#[derive(Debug)]
struct Host {
    host_no: i32,
    generation: i64,
    instance_id: Option<String>,
    backend_pid: Option<i32>,
}

/// Who holds the lock.
pub struct Holder {
    /// Server process.
    pub pid: i32,
    same_role: bool,
    /// Whose.
    pub role: String,
}

/// What this daemon did before on this host's row.
#[derive(Debug, Default)]
pub struct Former {
    /// The last generation that it was the writer in.
    pub generation: Option<i64>,
    /// Server processes of its last connections.
    backends: VecDeque<i32>,
}

/// Connections that are remembered: a ghost is one of the last.
const BACKENDS_MAX: usize = 16;

impl Former {
    /// A connection was made.
    pub fn connected(&mut self, backend_pid: i32) {
        self.backends.truncate(BACKENDS_MAX - 1);
        self.backends.push_front(backend_pid);
    }

    /// Another daemon became the writer after this one was.
    fn ousted(&self, host: &Host) -> bool {
        let by_us = host.backend_pid.is_some_and(|pid| self.backends.contains(&pid));
        self.generation.is_some_and(|generation| host.generation > generation) && !by_us
    }
}

/// Takes the lock for this host; its number. From another daemon that took over from this one nothing is taken back.
pub async fn claim(
    connected: &Connected,
    identity: &Identity,
    instance_id: Uuid,
    former: &Former,
) -> Result<i32, Trouble> {
    let client = &connected.client;
    let deadline = Instant::now() + GHOST_WAIT;
    loop {
        let host = host(client, identity).await?;
        if host.backend_pid == Some(connected.backend_pid) {
            execute(client, sql::DISOWN, &[&host.host_no]).await?;
        }
        let locked = query_one(client, sql::TRY_LOCK, &[&sql::LOCK_CLASS, &host.host_no]).await?;
        if locked.try_get(0)? {
            return Ok(host.host_no);
        }
        let Some(holder) = holder(client, host.host_no).await? else {
            // It ended between the two looks.
            sleep(GHOST_POLL).await;
            continue;
        };
        may_end(&host, &holder, instance_id, former)?;
        if Instant::now() >= deadline {
            let next = "end it there (pg_terminate_backend)";
            let message = format!(
                "this daemon's former connection, server process {}, does not end; {next}",
                holder.pid
            );
            return Err(Trouble::new(Verdict::Reconnect, message));
        }
        query_one(client, sql::END_BACKEND, &[&holder.pid]).await?;
        sleep(GHOST_POLL).await;
    }
}

/// Whether who holds the lock is what a former connection of this daemon left.
fn may_end(host: &Host, holder: &Holder, instance_id: Uuid, former: &Former) -> Result<(), Trouble> {
    let ours = host.instance_id.as_deref().is_none_or(|id| Uuid::parse_str(id) == Ok(instance_id));
    if !ours || former.ousted(host) {
        return Err(superseded());
    }
    // Before its first reconcile a connection has the lock and not yet the row.
    if host.backend_pid == Some(holder.pid) || holder.same_role {
        return Ok(());
    }
    let next = "end that session, and take the right to connect from that role";
    Err(Trouble::new(
        Verdict::Stop(next),
        format!("the role {} (server process {}) holds this host's lock; {next}", holder.role, holder.pid),
    ))
}

async fn host(client: &Client, identity: &Identity) -> Result<Host, Trouble> {
    let host_id = identity.host_id.to_string();
    for _ in 0..2 {
        if let Some(row) = query_opt(client, sql::FIND_HOST, &[&host_id]).await? {
            return Ok(Host {
                host_no: row.try_get(0)?,
                instance_id: row.try_get(1)?,
                generation: row.try_get(2)?,
                backend_pid: row.try_get(3)?,
            });
        }
        let inserted = execute(client, sql::INSERT_HOST, &[&host_id, &identity.host]).await;
        inserted.map_err(|trouble| match trouble.verdict {
            Verdict::Stop(_) => {
                Trouble { message: format!("{} (this host is {host_id})", trouble.message), ..trouble }
            }
            _ => trouble,
        })?;
    }
    let next = "map it in observer.writers: docs/schema.md, Roles";
    Err(Trouble::new(
        Verdict::Stop(next),
        format!("the login may not see this host's row (host_id {host_id}); {next}"),
    ))
}

/// Who holds this host's lock, if anybody does.
pub async fn holder(client: &Client, host_no: i32) -> Result<Option<Holder>, Trouble> {
    let keys = [i64::from(sql::LOCK_CLASS), i64::from(host_no)];
    let [class, object] = &keys;
    let Some(row) = query_opt(client, sql::LOCK_HOLDER, &[class, object]).await? else {
        return Ok(None);
    };
    let role: Option<String> = row.try_get(2)?;
    Ok(Some(Holder { pid: row.try_get(0)?, same_role: row.try_get(1)?, role: role.unwrap_or_default() }))
}

/// Becomes the host's writer, within the caller's transaction.
pub async fn begin_generation(
    client: &Client,
    host_no: i32,
    identity: &Identity,
    instance_id: Uuid,
) -> Result<Tenure, Trouble> {
    let (boot_id, instance_id) = (identity.boot_id.to_string(), instance_id.to_string());
    let params: [&(dyn ToSql + Sync); 5] =
        [&host_no, &identity.host, &boot_id, &instance_id, &identity.version];
    match query_opt(client, sql::BEGIN_GENERATION, &params).await? {
        Some(row) => Ok(Tenure { host_no, generation: row.try_get(0)? }),
        None => {
            Err(Trouble::new(Verdict::Reconnect, "the host was removed from the database (observer forget)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    /// Whether process 7, which holds the lock of a host at generation 5, may be ended.
    fn verdict(instance: Option<Uuid>, backend: i32, same_role: bool, former: &Former) -> Result<(), String> {
        let host = Host {
            host_no: 1,
            generation: 5,
            instance_id: instance.map(|id| id.to_string()),
            backend_pid: Some(backend),
        };
        let holder = Holder { pid: 7, same_role, role: "mallory".into() };
        may_end(&host, &holder, OURS, former).map_err(|trouble| trouble.message)
    }

    #[test]
    fn only_our_own_ghost_is_ended() {
        let new = Former::default();
        assert_eq!(verdict(Some(OURS), 7, false, &new), Ok(()));
        assert_eq!(verdict(Some(OURS), 6, true, &new), Ok(()));
        assert_eq!(verdict(None, 6, true, &new), Ok(()));
        let clone = verdict(Some(OTHER), 7, true, &new).unwrap_err();
        assert!(clone.contains("cloned machine-id or second daemon"), "{clone}");
        let forged = verdict(Some(OURS), 6, false, &new).unwrap_err();
        assert!(forged.contains("mallory"), "{forged}");
    }

    #[test]
    fn who_was_taken_over_from_takes_nothing_back() {
        let mut former = Former { generation: Some(4), ..Former::default() };
        assert!(verdict(Some(OURS), 7, true, &former).is_err());
        // That was we ourselves, and the answer never came.
        former.connected(7);
        assert_eq!(verdict(Some(OURS), 7, true, &former), Ok(()));
        former = Former { generation: Some(5), ..Former::default() };
        assert_eq!(verdict(Some(OURS), 7, true, &former), Ok(()));
    }
}

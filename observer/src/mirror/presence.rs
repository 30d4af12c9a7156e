//! The presence lock of a host, which its daemon's connection holds (docs/mirror.md).

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::ask::{execute, query_one, query_opt};
use super::delivery::{FencingToken, HostRow, LockAttempt, LockHolder};
use super::error::{DatabaseError, ErrorClass};
use super::feed::HostIdentity;
use super::schema::WriteAccess;
use super::sql;

/// Tries to take the lock of this host, whose row is made if there is none. `backend_pid` is the connection's.
pub async fn try_lock(
    client: &Client,
    backend_pid: i32,
    identity: &HostIdentity,
) -> Result<LockAttempt, DatabaseError> {
    let row = host_row(client, identity).await?;
    if row.backend_pid == Some(backend_pid) {
        execute(client, sql::DISOWN, &[&row.host_no]).await?;
    }
    let locked = query_one(client, sql::TRY_LOCK, &[&sql::LOCK_CLASS, &row.host_no]).await?;
    if locked.try_get(0)? {
        return Ok(LockAttempt::Taken(row.host_no));
    }
    Ok(match holder(client, row.host_no).await? {
        Some(holder) => LockAttempt::Held { row, holder },
        None => LockAttempt::Released,
    })
}

async fn host_row(client: &Client, identity: &HostIdentity) -> Result<HostRow, DatabaseError> {
    let host_id = identity.host_id;
    for _ in 0..2 {
        if let Some(row) = query_opt(client, sql::FIND_HOST, &[&host_id]).await? {
            return Ok(HostRow {
                host_no: row.try_get(0)?,
                instance_id: row.try_get(1)?,
                generation: row.try_get(2)?,
                backend_pid: row.try_get(3)?,
            });
        }
        let inserted = execute(client, sql::INSERT_HOST, &[&host_id, &identity.host]).await;
        inserted.map_err(|error| match error.class {
            ErrorClass::Permanent => {
                DatabaseError { message: format!("{} (this host is {host_id})", error.message), ..error }
            }
            _ => error,
        })?;
    }
    Err(DatabaseError::permanent(
        format!("the login may not see this host's row (host_id {host_id})"),
        "map it in observer.writers: docs/schema.md, Roles",
    ))
}

/// Who holds this host's lock, if anybody does.
pub async fn holder(client: &Client, host_no: i32) -> Result<Option<LockHolder>, DatabaseError> {
    let (class, object) = (i64::from(sql::LOCK_CLASS), i64::from(host_no));
    let Some(row) = query_opt(client, sql::LOCK_HOLDER, &[&class, &object]).await? else {
        return Ok(None);
    };
    let role: Option<String> = row.try_get(2)?;
    Ok(Some(LockHolder {
        backend_pid: row.try_get(0)?,
        same_role: row.try_get(1)?,
        role: role.unwrap_or_default(),
    }))
}

/// Makes the connection the host's writer, within the caller's transaction. Where the schema knows names of connections, it gets
/// the one by which readers recognize it.
pub async fn begin_generation(
    client: &Client,
    host_no: i32,
    identity: &HostIdentity,
    instance_id: Uuid,
    access: WriteAccess,
) -> Result<FencingToken, DatabaseError> {
    let params: [&(dyn ToSql + Sync); 5] =
        [&host_no, &identity.host, &identity.boot_id, &instance_id, &identity.version];
    let begin = match access {
        WriteAccess::Functions => sql::BEGIN_NAMED_GENERATION,
        WriteAccess::Tables => sql::BEGIN_GENERATION,
    };
    let Some(row) = query_opt(client, begin, &params).await? else { return Err(DatabaseError::forgotten()) };
    let token = FencingToken { host_no, generation: row.try_get(0)? };
    if access == WriteAccess::Functions {
        query_one(client, sql::NAME_CONNECTION, &[&token.host_no, &token.generation]).await?;
    }
    Ok(token)
}

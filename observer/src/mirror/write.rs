//! Writes a batch: one statement, which applies everything of it or nothing.

use tokio_postgres::{Client, Statement};

use super::ask::{answer, query_opt};
use super::columns::Parameters;
use super::delivery::{BatchStatement, FencingToken};
use super::error::DatabaseError;
use super::schema::WriteAccess;
use super::{sql, tables};

/// Prepares the statement for [`write`].
pub async fn prepare(client: &Client, access: WriteAccess) -> Result<Statement, DatabaseError> {
    let statement = match access {
        WriteAccess::Functions => sql::deliver(),
        WriteAccess::Tables => tables::batch(),
    };
    answer(client.prepare(&statement)).await
}

/// Applies `statement`. The error is [`DatabaseError::superseded`] or another where the token is not the writer's any more, or
/// the cursor not where the statement expects it; then nothing was written.
pub async fn write(
    client: &Client,
    prepared: &Statement,
    token: FencingToken,
    statement: &BatchStatement,
) -> Result<(), DatabaseError> {
    let row = client.query_one(prepared, &Parameters::new(token, statement).values()).await?;
    let (hosts, cursors): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    match (hosts, cursors) {
        (1, 1) => Ok(()),
        (1, _) => Err(DatabaseError::cursor_moved()),
        _ => Err(why_not_writer(client, token).await?),
    }
}

/// Why the connection is not the host's writer any more.
pub async fn why_not_writer(client: &Client, token: FencingToken) -> Result<DatabaseError, DatabaseError> {
    let Some(row) = query_opt(client, sql::GENERATION, &[&token.host_no]).await? else {
        return Ok(DatabaseError::forgotten());
    };
    // With the right generation it is the server's process that is wrong.
    let is_current = row.try_get::<_, i64>(0)? == token.generation;
    Ok(if is_current { DatabaseError::through_pooler() } else { DatabaseError::superseded() })
}

//! Statements whose answer is waited for up to a limit.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, ToStatement};

use super::delivery::ANSWER_WAIT;
use super::error::DatabaseError;

/// The answer of `future`; a broken connection if it takes longer than [`ANSWER_WAIT`].
pub async fn answer<T>(
    future: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DatabaseError> {
    within(ANSWER_WAIT, async { Ok(future.await?) }).await
}

/// The result of `future`; a broken connection if it takes longer than `wait`.
pub async fn within<T>(
    wait: Duration,
    future: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    let late =
        |_| Err(DatabaseError::broken(format!("the database did not answer within {} s", wait.as_secs())));
    timeout(wait, future).await.unwrap_or_else(late)
}

/// Parameters of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs the statement; the number of rows that it changed.
pub async fn execute<S>(client: &Client, statement: &S, params: Params<'_>) -> Result<u64, DatabaseError>
where
    S: ?Sized + ToStatement,
{
    answer(client.execute(statement, params)).await
}

/// Runs the statement; its only row.
pub async fn query_one<S>(client: &Client, statement: &S, params: Params<'_>) -> Result<Row, DatabaseError>
where
    S: ?Sized + ToStatement,
{
    answer(client.query_one(statement, params)).await
}

/// Runs the statement; its row, if there is one.
pub async fn query_opt<S>(
    client: &Client,
    statement: &S,
    params: Params<'_>,
) -> Result<Option<Row>, DatabaseError>
where
    S: ?Sized + ToStatement,
{
    answer(client.query_opt(statement, params)).await
}

/// Runs statements without parameters.
pub async fn run(client: &Client, statements: &str) -> Result<(), DatabaseError> {
    answer(client.batch_execute(statements)).await
}

//! Statements whose answer is not waited for without end.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, ToStatement};

use super::sqlstate::{Trouble, Verdict};

/// How long an answer is waited for: longer than the server tries (`statement_timeout`), so that it is the network or
/// a stopped server that was not heard of.
pub const ANSWER_WAIT: Duration = Duration::from_secs(25);

/// `future`'s answer, unless it takes too long.
pub async fn answer<T>(
    wait: Duration,
    future: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Trouble> {
    match timeout(wait, future).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let message = format!("the database did not answer within {} s", wait.as_secs());
            Err(Trouble::new(Verdict::Reconnect, message))
        }
    }
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// How many rows the statement changed.
pub async fn execute<S>(client: &Client, statement: &S, params: Params<'_>) -> Result<u64, Trouble>
where
    S: ?Sized + ToStatement,
{
    answer(ANSWER_WAIT, client.execute(statement, params)).await
}

/// The only row.
pub async fn query_one<S>(client: &Client, statement: &S, params: Params<'_>) -> Result<Row, Trouble>
where
    S: ?Sized + ToStatement,
{
    answer(ANSWER_WAIT, client.query_one(statement, params)).await
}

/// The row, if there is one.
pub async fn query_opt<S>(client: &Client, statement: &S, params: Params<'_>) -> Result<Option<Row>, Trouble>
where
    S: ?Sized + ToStatement,
{
    answer(ANSWER_WAIT, client.query_opt(statement, params)).await
}

/// Statements without parameters.
pub async fn run(client: &Client, statements: &str) -> Result<(), Trouble> {
    answer(ANSWER_WAIT, client.batch_execute(statements)).await
}

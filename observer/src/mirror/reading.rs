//! Reads in transactions that leave nothing behind on the server, so that the next client of a connection pooler meets none of it:
//! no setting, no named statement, no cursor.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::ask::{answer, run};
use super::error::DatabaseError;

/// Names are looked up where nobody but a superuser can define any, and times are in UTC.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog; \
     SET LOCAL timezone = 'UTC'; SET LOCAL client_min_messages = warning";

/// Parameters of a statement, each with its type.
pub type TypedParams<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// A transaction that sees the data of one moment. A connection on which one was begun and not ended is not used again.
pub struct Reading<'a> {
    client: &'a Client,
}

impl<'a> Reading<'a> {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// What the database answers, and a server that does not answer in time.
    pub async fn begin(client: &'a Client) -> Result<Self, DatabaseError> {
        run(client, BEGIN).await?;
        Ok(Self { client })
    }

    /// Runs the statement, which gets no name; its rows.
    ///
    /// # Errors
    ///
    /// As [`Reading::begin`].
    pub async fn query(&self, statement: &str, params: TypedParams<'_>) -> Result<Vec<Row>, DatabaseError> {
        answer(self.client.query_typed(statement, params)).await
    }

    /// Runs a statement that has one row; that row.
    ///
    /// # Errors
    ///
    /// As [`Reading::begin`].
    pub async fn query_one(&self, statement: &str) -> Result<Row, DatabaseError> {
        answer(self.client.query_typed_one(statement, &[])).await
    }

    /// Ends it. What was read stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Reading::begin`].
    pub async fn end(self) -> Result<(), DatabaseError> {
        run(self.client, "COMMIT").await
    }
}

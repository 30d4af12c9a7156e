//! Compares the server's clock with this host's.

use tokio_postgres::Client;

use super::ask::{execute, query_one};
use super::delivery::FencingToken;
use super::error::DatabaseError;
use super::sql;
use crate::clock::{boottime, wall_offset_ns};

/// Time of the server, ns since 1970.
const CLOCK: &str =
    "SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::int8 * 1000";

/// By how many ns the server's clock is ahead of this host's, to within half the time that the answer takes.
pub async fn server_ahead_ns(client: &Client) -> Result<i64, DatabaseError> {
    let began = boottime().0;
    let row = query_one(client, CLOCK, &[]).await?;
    let ended = boottime().0;
    let server: i64 = row.try_get(0)?;
    let own = i64::try_from(began / 2 + ended / 2).unwrap_or(i64::MAX).saturating_add(wall_offset_ns());
    Ok(server.saturating_sub(own))
}

/// Notes in the row of the host how far its clock is ahead of the server's.
pub async fn note(client: &Client, token: FencingToken) -> Result<(), DatabaseError> {
    let ahead_us = server_ahead_ns(client).await?.saturating_neg() / 1_000;
    execute(client, sql::NOTE_CLOCK, &[&token.host_no, &token.generation, &ahead_us]).await?;
    Ok(())
}

//! One transaction that makes the state in the database equal to the live map, whatever was there: rows from before a crash,
//! rows edited by hand. What is equal is not written.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::ask::{answer, execute, query_one, run};
use super::columns::StateColumns;
use super::delivery::{FencingToken, LiveMap, Reconciled, Refusals, WriterIdentity};
use super::error::{DatabaseError, ErrorClass};
use super::feed::HostIdentity;
use super::items::{Conversion, SessionKeys, SessionRow, session_row};
use super::presence::begin_generation;
use super::sql;

/// Sessions written by one statement.
const CHUNK_MAX: usize = 256;

/// Makes the state equal to `map`. `last_seq` is the newest number that the journal has committed: with the cursor there, and
/// nothing in the map that the journal lacks, the state is caught up. After an error the transaction may be open, and the
/// connection must be closed.
pub async fn reconcile(
    client: &Client,
    identity: &HostIdentity,
    writer: WriterIdentity,
    map: &LiveMap,
    last_seq: u64,
    conversion: Conversion<'_>,
) -> Result<Reconciled, DatabaseError> {
    let mut rows: Vec<SessionRow> =
        map.sessions.iter().filter_map(|session| session_row(session, conversion)).collect();
    if conversion.keys == SessionKeys::Home {
        // The last one written stays: a session that has ended must not hide another user's that runs.
        rows.sort_by_key(|row| !row.is_ended);
    }
    run(client, "BEGIN").await?;
    let token = match writer {
        WriterIdentity::New { host_no, instance_id } => {
            let token = begin_generation(client, host_no, identity, instance_id).await?;
            if conversion.keys == SessionKeys::HomeAndUser {
                execute(client, sql::REKEY_SESSIONS, &[&host_no]).await?;
            }
            token
        }
        WriterIdentity::Current(token) => token,
    };
    let host_no = &token.host_no;
    let cursor = cursor(client, token, map).await?;
    let homes: Vec<&[u8]> = rows.iter().map(|row| row.home_id.as_slice()).collect();
    // A stream that is known here reports every end. A stream that is new here begins after the ends of what is unknown to the
    // map.
    let ends_will_come = cursor > 0;
    execute(client, sql::END_UNKNOWN, &[host_no, &homes, &ends_will_come]).await?;
    let refused = write_rows(client, token, &rows).await?;
    // Where the database is ahead of the journal, another stream is about to begin.
    let caught_up = cursor == last_seq.max(map.after_seq);
    let params: [&(dyn ToSql + Sync); 4] = [host_no, &token.generation, &map.certain, &caught_up];
    if execute(client, sql::SETTLE_HOST, &params).await? != 1 {
        return Err(DatabaseError::superseded());
    }
    run(client, "COMMIT").await?;
    Ok(Reconciled { token, cursor, refused })
}

/// The number of the last entry of the map's stream in the database; 0 without a stream.
async fn cursor(client: &Client, token: FencingToken, map: &LiveMap) -> Result<u64, DatabaseError> {
    let Some(stream_id) = &map.stream_id else { return Ok(0) };
    execute(client, sql::INSERT_CURSOR, &[&token.host_no, stream_id]).await?;
    let row = query_one(client, sql::READ_CURSOR, &[&token.host_no, stream_id]).await?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// Writes the rows; what was refused. Savepoints keep a row that is refused from ending the whole transaction.
async fn write_rows(
    client: &Client,
    token: FencingToken,
    rows: &[SessionRow],
) -> Result<Refusals, DatabaseError> {
    let statement = answer(client.prepare(&sql::reconcile_rows())).await?;
    let mut refusals = Refusals::default();
    let mut parts: Vec<&[SessionRow]> = rows.chunks(CHUNK_MAX).rev().collect();
    while let Some(part) = parts.pop() {
        let columns = StateColumns::new(part.iter());
        run(client, "SAVEPOINT part").await?;
        let params: [&(dyn ToSql + Sync); 4] =
            [&token.host_no, &columns.homes, &columns.bodies, &columns.deaths];
        match execute(client, &statement, &params).await {
            Ok(_) => run(client, "RELEASE part").await?,
            Err(error) if error.class == ErrorClass::RefusedData => {
                run(client, "ROLLBACK TO part").await?;
                match part {
                    [row] => {
                        refusals.add(&error.message);
                        // The home's row, if there is one, differs from the map.
                        execute(client, sql::DOUBT, &[&token.host_no, &row.home_id]).await?;
                    }
                    _ => {
                        let (left, right) = part.split_at(part.len() / 2);
                        parts.extend([right, left]);
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(refusals)
}

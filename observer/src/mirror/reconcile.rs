//! One transaction that makes the state in the database the live map, whatever was there: rows from before a crash, rows
//! edited by hand. What is equal is not written.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::ask::{ANSWER_WAIT, answer, execute, query_one, run};
use super::presence::begin_generation;
use super::rows::{Shape, StateRow, Usernames, state_row};
use super::source::{Identity, LiveMap};
use super::sql;
use super::sqlstate::{Trouble, Verdict};
use super::write::{Rejected, State, Tenure, superseded};

/// Sessions written by one statement.
const CHUNK_MAX: usize = 256;

/// Who becomes the writer by it, or is.
pub enum Who<'a> {
    /// A new connection: the next generation.
    New {
        /// The host.
        host_no: i32,
        /// Who.
        identity: &'a Identity,
        /// Which state directory.
        instance_id: Uuid,
    },
    /// The same as before.
    Same(Tenure),
}

/// What it led to.
#[derive(Debug)]
pub struct Reconciled {
    /// Who writes.
    pub tenure: Tenure,
    /// Number of the last entry of the map's stream that the database has; 0 without a stream.
    pub cursor: i64,
    /// Rows that the database refused.
    pub rejected: Rejected,
}

/// Makes the state `map`. `last_seq`: what the journal has; with the cursor there, and
/// nothing in the map that the journal does not have yet, the database has all. After an error
/// the transaction may be open: the connection is done with.
pub async fn reconcile(
    client: &Client,
    who: Who<'_>,
    map: &LiveMap,
    last_seq: u64,
    shape: Shape,
    usernames: &Usernames,
) -> Result<Reconciled, Trouble> {
    let rows: Vec<StateRow> =
        map.sessions.iter().filter_map(|session| state_row(session, shape, usernames)).collect();
    run(client, "BEGIN").await?;
    let tenure = match who {
        Who::New { host_no, identity, instance_id } => {
            begin_generation(client, host_no, identity, instance_id).await?
        }
        Who::Same(tenure) => tenure,
    };
    let host_no = &tenure.host_no;
    let mut cursor = 0;
    if !map.stream_id.is_empty() {
        let stream_id = &*map.stream_id;
        execute(client, sql::CURSOR, &[host_no, &stream_id]).await?;
        let row = query_one(client, sql::READ_CURSOR, &[host_no, &stream_id]).await?;
        cursor = row.try_get(0)?;
    }
    let homes: Vec<&[u8]> = rows.iter().map(|row| row.home_id.as_slice()).collect();
    // What a stream tells of is told to its end; a stream that is new here begins after what this ends.
    execute(client, sql::END_UNKNOWN, &[host_no, &homes, &(cursor > 0)]).await?;
    let rejected = write_rows(client, tenure, &rows).await?;
    // Where the database is ahead, the journal is about to begin anew.
    let caught_up = cursor == last_seq.max(map.after_seq).cast_signed();
    let params: [&(dyn ToSql + Sync); 4] = [host_no, &tenure.generation, &map.certain, &caught_up];
    if execute(client, sql::SETTLE_HOST, &params).await? != 1 {
        return Err(superseded());
    }
    run(client, "COMMIT").await?;
    Ok(Reconciled { tenure, cursor, rejected })
}

/// Which were refused. One that fails would take the whole transaction with it, but for the savepoints.
async fn write_rows(client: &Client, tenure: Tenure, rows: &[StateRow]) -> Result<Rejected, Trouble> {
    let statement = answer(ANSWER_WAIT, client.prepare(&sql::reconcile_rows())).await?;
    let mut rejected = Rejected::default();
    let mut parts: Vec<&[StateRow]> = rows.chunks(CHUNK_MAX).rev().collect();
    while let Some(part) = parts.pop() {
        let state = State::of(part.iter());
        run(client, "SAVEPOINT part").await?;
        let params: [&(dyn ToSql + Sync); 4] = [&tenure.host_no, &state.home_ids, &state.rows, &state.deaths];
        match execute(client, &statement, &params).await {
            Ok(_) => run(client, "RELEASE part").await?,
            Err(trouble) if trouble.verdict == Verdict::Bisect => {
                run(client, "ROLLBACK TO part").await?;
                match part {
                    [row] => {
                        rejected.add(&trouble.message);
                        // The home's row, if there is one, is not what the map says.
                        answer(ANSWER_WAIT, client.execute(sql::DOUBT, &[&tenure.host_no, &row.home_id]))
                            .await?;
                    }
                    _ => {
                        let (left, right) = part.split_at(part.len() / 2);
                        parts.extend([right, left]);
                    }
                }
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(rejected)
}

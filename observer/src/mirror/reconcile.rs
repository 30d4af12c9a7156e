//! One transaction that makes the state in the database equal to the live map, whatever was there: rows from before a crash,
//! rows edited by hand. What is equal is not written.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement, ToStatement};

use super::ask::{Params, answer, execute, query_one, run};
use super::columns::StateColumns;
use super::delivery::{FencingToken, LiveMap, Reconciled, Refusals, WriterIdentity};
use super::error::{DatabaseError, ErrorClass};
use super::feed::HostIdentity;
use super::items::{Conversion, SessionKeys, SessionRow, session_row};
use super::presence::begin_generation;
use super::schema::WriteAccess;
use super::write::why_not_writer;
use super::{sql, tables};

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
    access: WriteAccess,
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
            let token = begin_generation(client, host_no, identity, instance_id, access).await?;
            if conversion.keys == SessionKeys::HomeAndUser {
                execute(client, sql::REKEY_SESSIONS, &[&host_no]).await?;
            }
            token
        }
        WriterIdentity::Current(token) => token,
    };
    let state = State { client, token, access };
    let homes: Vec<&[u8]> = rows.iter().map(|row| row.home_id.as_slice()).collect();
    let cursor = state.begin(map, &homes).await?;
    let refused = state.write_rows(&rows).await?;
    // Where the database is ahead of the journal, another stream is about to begin.
    let caught_up = cursor == last_seq.max(map.after_seq);
    let params: [&(dyn ToSql + Sync); 4] = [&token.host_no, &token.generation, &map.certain, &caught_up];
    if execute(client, sql::SETTLE_HOST, &params).await? != 1 {
        return Err(DatabaseError::superseded());
    }
    run(client, "COMMIT").await?;
    Ok(Reconciled { token, cursor, refused })
}

/// The state of a host in the database, within the transaction of a reconciliation.
struct State<'a> {
    client: &'a Client,
    token: FencingToken,
    access: WriteAccess,
}

impl State<'_> {
    /// Makes the cursor of the map's stream if there is none, and ends the sessions that are not among `homes`. Returns the number
    /// of the stream's last entry in the database; 0 without a stream.
    async fn begin(&self, map: &LiveMap, homes: &[&[u8]]) -> Result<u64, DatabaseError> {
        let Self { client, token, .. } = self;
        if self.access == WriteAccess::Functions {
            let params: [&(dyn ToSql + Sync); 4] =
                [&token.host_no, &token.generation, &map.stream_id, &homes];
            let row = query_one(client, sql::BEGIN_RECONCILIATION, &params).await?;
            return match row.try_get::<_, Option<i64>>(0)? {
                Some(cursor) => Ok(cursor.cast_unsigned()),
                None => Err(why_not_writer(client, *token).await?),
            };
        }
        let cursor = match &map.stream_id {
            Some(stream_id) => {
                execute(client, tables::INSERT_CURSOR, &[&token.host_no, stream_id]).await?;
                let row = query_one(client, tables::READ_CURSOR, &[&token.host_no, stream_id]).await?;
                row.try_get::<_, i64>(0)?.cast_unsigned()
            }
            None => 0,
        };
        // A stream that is known here reports every end. A stream that is new here begins after the ends of what is unknown to the
        // map.
        let ends_will_come = cursor > 0;
        execute(client, tables::END_UNKNOWN, &[&token.host_no, &homes, &ends_will_come]).await?;
        Ok(cursor)
    }

    /// Writes the rows; what was refused. Savepoints keep a row that is refused from ending the whole transaction.
    async fn write_rows(&self, rows: &[SessionRow]) -> Result<Refusals, DatabaseError> {
        let client = self.client;
        let statement = match self.access {
            WriteAccess::Functions => answer(client.prepare(sql::RECONCILE_SESSIONS)).await?,
            WriteAccess::Tables => answer(client.prepare(&tables::reconcile_rows())).await?,
        };
        let mut refusals = Refusals::default();
        let mut parts: Vec<&[SessionRow]> = rows.chunks(CHUNK_MAX).rev().collect();
        while let Some(part) = parts.pop() {
            run(client, "SAVEPOINT part").await?;
            match self.write_part(&statement, part).await {
                Ok(()) => run(client, "RELEASE part").await?,
                Err(error) if error.class == ErrorClass::RefusedData => {
                    run(client, "ROLLBACK TO part").await?;
                    match part {
                        [row] => {
                            refusals.add(&error.message);
                            self.doubt(row).await?;
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

    async fn write_part(&self, statement: &Statement, part: &[SessionRow]) -> Result<(), DatabaseError> {
        let Self { client, token, .. } = self;
        let columns = StateColumns::new(part.iter());
        let (homes, bodies, deaths) = (&columns.homes, &columns.bodies, &columns.deaths);
        match self.access {
            WriteAccess::Functions => {
                self.call(statement, &[&token.host_no, &token.generation, homes, bodies, deaths]).await
            }
            WriteAccess::Tables => {
                execute(client, statement, &[&token.host_no, homes, bodies, deaths]).await?;
                Ok(())
            }
        }
    }

    /// Marks the row of the home, if there is one, as not certain: it differs from the map.
    async fn doubt(&self, row: &SessionRow) -> Result<(), DatabaseError> {
        let Self { client, token, .. } = self;
        match self.access {
            WriteAccess::Functions => {
                self.call(sql::DOUBT_SESSION, &[&token.host_no, &token.generation, &row.home_id]).await
            }
            WriteAccess::Tables => {
                execute(client, tables::DOUBT, &[&token.host_no, &row.home_id]).await?;
                Ok(())
            }
        }
    }

    /// Calls a function that returns whether the connection is the host's writer.
    async fn call<S>(&self, statement: &S, params: Params<'_>) -> Result<(), DatabaseError>
    where
        S: ?Sized + ToStatement,
    {
        match query_one(self.client, statement, params).await?.try_get(0)? {
            true => Ok(()),
            false => Err(why_not_writer(self.client, self.token).await?),
        }
    }
}

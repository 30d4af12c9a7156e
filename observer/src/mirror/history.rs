//! Reads what happened to sessions, on all hosts or one.

use anyhow::Result;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::connect::Connected;
use super::error::DatabaseError;
use super::reading::Reading;

/// Rows in memory at a time.
const FETCH: u32 = 1_000;
/// Gaps belong to every session. A host's login may have written a time that no calendar here reaches: it is cut, since one row
/// must not make the history of all hosts unreadable.
const EVENTS: &str = "SELECT host, host_id, stream_id, seq, least(at, '9999-12-30 00:00:00+00'::timestamptz), kind, home, name, pid, detail::text
    FROM observer.events
    WHERE ($1::text IS NULL OR host = $1 OR host_id::text = $1)
        AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
        AND ($4::text IS NULL OR name = $4 OR kind LIKE 'gap%') AND ($5::text IS NULL OR home = $5 OR kind LIKE 'gap%')
        AND (NOT $6 OR kind IN ('session_ended', 'process_ended', 'session_left', 'gap', 'gap_closed')
            OR (kind = 'session_started' AND detail ? 'restarts'))
    ORDER BY at, host_id, stream_id, seq";

/// Since when and until when the database knows of each host. It knows nothing before the oldest day that is kept, and of a host
/// that has not sent all, nothing after the newest event: the time of the last commit is also set by what is committed of the
/// state. Of a host that is present and has sent all, it knows until now.
const KNOWN: &str = "SELECT h.host_id,
        CASE WHEN h.first_seen_at < kept.since THEN kept.since
            ELSE least(h.first_seen_at, '9999-12-30'::timestamptz, (SELECT min(e.at) FROM observer.events e
                WHERE e.host_id = h.host_id AND e.at < h.first_seen_at)) END,
        CASE WHEN NOT (h.present AND h.caught_up) THEN least(
            coalesce(CASE WHEN h.caught_up THEN h.last_commit_at
                ELSE (SELECT max(e.at) FROM observer.events e WHERE e.host_id = h.host_id) END, h.first_seen_at),
            h.last_commit_at, '9999-12-30'::timestamptz) END
    FROM observer.hosts h, (
        SELECT min(pg_catalog.to_date(pg_catalog.substr(c.relname, 7), 'YYYYMMDD'))::timestamptz AS since
        FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = pg_catalog.to_regclass('observer.event') AND c.relname ~ '^event_[0-9]{8}$') AS kept
    WHERE $1::text IS NULL OR h.host = $1 OR h.host_id::text = $1";

/// Which events are read. Text is escaped as in the database.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Of the host with this name or host_id; `None`: of all hosts.
    pub host: Option<String>,
    /// At this time or later; µs since 1970.
    pub since_us: Option<i64>,
    /// Earlier than this; µs since 1970.
    pub until_us: Option<i64>,
    /// With exactly this name, and gaps.
    pub name: Option<String>,
    /// With exactly this home, and gaps.
    pub home: Option<String>,
    /// Only ends and gaps.
    pub ends: bool,
}

/// An event of a host.
#[derive(Clone, Debug)]
pub struct FleetEvent {
    /// Name of the host.
    pub host: String,
    /// Id of the host.
    pub host_id: String,
    /// Stream of the host's journal.
    pub stream_id: String,
    /// Number in the stream.
    pub seq: i64,
    /// When it happened, by the host's clock; µs since 1970.
    pub at_us: i64,
    /// Kind as in `watch --json`, or `gap`.
    pub kind: String,
    /// Path of the home, escaped.
    pub home: Option<String>,
    /// Name, escaped.
    pub name: Option<String>,
    /// tgid of the primary process.
    pub pid: Option<i32>,
    /// The whole event as JSON.
    pub detail: String,
}

/// What the database knows of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHost {
    /// Id of the host.
    pub host_id: String,
    /// Since then; µs since 1970.
    pub since_us: i64,
    /// Until then; µs since 1970. `None`: until now.
    pub until_us: Option<i64>,
}

/// What the database knows of the host with this name or host_id, or of all.
pub async fn known_hosts(connected: &Connected, host: Option<&str>) -> Result<Vec<KnownHost>> {
    let reading = Reading::begin(&connected.client).await?;
    let rows = connected.client.query_typed(KNOWN, &[(&host, Type::TEXT)]).await;
    let rows = rows.map_err(DatabaseError::from)?;
    reading.end().await?;
    let known = |row: &Row| -> Result<KnownHost> {
        Ok(KnownHost {
            host_id: row.try_get::<_, Uuid>(0)?.to_string(),
            since_us: row.try_get::<_, Timestamp>(1)?.as_microsecond(),
            until_us: row.try_get::<_, Option<Timestamp>>(2)?.map(Timestamp::as_microsecond),
        })
    };
    rows.iter().map(known).collect()
}

/// Calls `visit` with each event that the query selects, the oldest first. A slow reader holds no lock: the server keeps the
/// result, or, behind a pooler, where nothing can be kept beyond a transaction, that stays open until all is read.
pub async fn each(
    connected: &Connected,
    query: &EventQuery,
    mut visit: impl FnMut(FleetEvent) -> Result<()>,
) -> Result<()> {
    let hold = if connected.is_pooled { "" } else { "WITH HOLD " };
    let declare = format!("DECLARE history NO SCROLL CURSOR {hold}FOR {EVENTS}");
    let (since, until) = (query.since_us.map(timestamp), query.until_us.map(timestamp));
    let params: [(&(dyn ToSql + Sync), Type); 6] = [
        (&query.host, Type::TEXT),
        (&since, Type::TIMESTAMPTZ),
        (&until, Type::TIMESTAMPTZ),
        (&query.name, Type::TEXT),
        (&query.home, Type::TEXT),
        (&query.ends, Type::BOOL),
    ];
    let client = &connected.client;
    let reading = Reading::begin(client).await?;
    // The server takes as long for the first row as for all of them.
    client.query_typed(&declare, &params).await.map_err(DatabaseError::from)?;
    let reading = if connected.is_pooled {
        Some(reading)
    } else {
        // Here the server collects what the cursor holds.
        client.batch_execute("COMMIT").await.map_err(DatabaseError::from)?;
        None
    };
    let fetch = format!("FETCH {FETCH} FROM history");
    loop {
        let rows = client.query_typed(&fetch, &[]).await.map_err(DatabaseError::from)?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            visit(event(row)?)?;
        }
    }
    match reading {
        Some(reading) => Ok(reading.end().await?),
        None => Ok(()),
    }
}

fn event(row: &Row) -> Result<FleetEvent> {
    Ok(FleetEvent {
        host: row.try_get(0)?,
        host_id: row.try_get::<_, Uuid>(1)?.to_string(),
        stream_id: row.try_get::<_, Uuid>(2)?.to_string(),
        seq: row.try_get(3)?,
        at_us: row.try_get::<_, Timestamp>(4)?.as_microsecond(),
        kind: row.try_get(5)?,
        home: row.try_get(6)?,
        name: row.try_get(7)?,
        pid: row.try_get(8)?,
        detail: row.try_get(9)?,
    })
}

/// Times that the type cannot hold are before or after all events.
fn timestamp(unix_us: i64) -> Timestamp {
    Timestamp::from_microsecond(unix_us).unwrap_or(if unix_us < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

//! What happened to sessions of all hosts, or one.

use anyhow::Result;
use tokio_postgres::{Client, Row};

use super::sqlstate::Trouble;

/// Rows in memory at a time.
const FETCH: u32 = 1_000;
/// Gaps are of every session.
const EVENTS: &str = "SELECT host, host_id::text, stream_id::text, seq, (extract(epoch FROM at) * 1000000)::bigint, kind, home, name, pid, detail::text
    FROM observer.events
    WHERE ($1::text IS NULL OR host = $1 OR host_id::text = $1)
        AND ($2::bigint IS NULL OR at >= 'epoch'::timestamptz + $2 * interval '1 microsecond')
        AND ($3::bigint IS NULL OR at < 'epoch'::timestamptz + $3 * interval '1 microsecond')
        AND ($4::text IS NULL OR name = $4 OR kind LIKE 'gap%') AND ($5::text IS NULL OR home = $5 OR kind LIKE 'gap%')
        AND (NOT $6 OR kind IN ('session_ended', 'process_ended', 'gap', 'gap_closed'))
    ORDER BY at, host_id, stream_id, seq";

/// What is wanted; text as the database has it, escaped.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Name of a host, or its host_id.
    pub host: Option<String>,
    /// No earlier; µs since 1970.
    pub since_us: Option<i64>,
    /// Earlier.
    pub until_us: Option<i64>,
    /// Exactly this name, beside gaps.
    pub name: Option<String>,
    /// Exactly this home, beside gaps.
    pub home: Option<String>,
    /// Ends and gaps only.
    pub ends: bool,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Past {
    /// Of this host.
    pub host: String,
    /// Who that is.
    pub host_id: String,
    /// In this stream of it.
    pub stream_id: String,
    /// Under this number.
    pub seq: i64,
    /// When it happened, by the host's clock; µs since 1970.
    pub at_us: i64,
    /// As in `watch --json`, or `gap`.
    pub kind: String,
    /// Path of the home, escaped.
    pub home: Option<String>,
    /// Name, escaped.
    pub name: Option<String>,
    /// tgid.
    pub pid: Option<i32>,
    /// JSON.
    pub detail: String,
}

/// Calls `tell` with each event that is wanted, the oldest first. Whoever reads them slowly holds no lock: the server keeps what it
/// found.
pub async fn each(client: &Client, wanted: &Wanted, mut tell: impl FnMut(Past) -> Result<()>) -> Result<()> {
    let declare = format!("DECLARE history NO SCROLL CURSOR WITH HOLD FOR {EVENTS}");
    client
        .execute(
            &declare,
            &[&wanted.host, &wanted.since_us, &wanted.until_us, &wanted.name, &wanted.home, &wanted.ends],
        )
        .await
        .map_err(Trouble::from)?;
    let fetch = client.prepare(&format!("FETCH {FETCH} FROM history")).await.map_err(Trouble::from)?;
    loop {
        let rows = client.query(&fetch, &[]).await.map_err(Trouble::from)?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            tell(past(row)?)?;
        }
    }
}

fn past(row: &Row) -> Result<Past> {
    Ok(Past {
        host: row.try_get(0)?,
        host_id: row.try_get(1)?,
        stream_id: row.try_get(2)?,
        seq: row.try_get(3)?,
        at_us: row.try_get(4)?,
        kind: row.try_get(5)?,
        home: row.try_get(6)?,
        name: row.try_get(7)?,
        pid: row.try_get(8)?,
        detail: row.try_get(9)?,
    })
}

//! Follows the sessions of all hosts as their daemons mirror them: the state, then each event once, and which hosts are
//! present.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::ask::run;
use super::connect::Connected;
use super::error::DatabaseError;
use super::reading::Reading;
use super::sql::CHANNEL;
use crate::api::words::FrameKind;

/// Presence ends without an event, and hints may be lost: the database is read at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same where no hints come: from a standby, and through a pooler.
const LOOK_WITHOUT_HINTS: Duration = Duration::from_secs(1);
/// An event is dated by the begin of its transaction and seen at its commit: at most the writer's `statement_timeout` later.
const COMMIT_MAX: SignedDuration = SignedDuration::from_secs(30);

/// The hints of a fleet come without pause: events are read no more often than this.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Events whose details are read by one statement.
const DETAILS_MAX: usize = 1_000;

/// The moment up to which the data is complete, and the server's time: a standby may be behind.
const NOW: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
        THEN least(pg_catalog.now(), pg_catalog.pg_last_xact_replay_timestamp()) ELSE pg_catalog.now() END, pg_catalog.now()";
const HOSTS: &str = "SELECT host_id, host, present FROM observer.hosts ORDER BY host, host_id";
/// A time beyond the calendar, which a host's login may have written, is none: it must not end `watch` for all hosts.
const SESSIONS: &str = "SELECT host_id, host, state, recorded_state, certain,
        CASE WHEN as_of < '9999-12-30 00:00:00+00'::timestamptz THEN as_of END, detail::text
    FROM observer.sessions WHERE recorded_state <> 'ended' ORDER BY host, name, home";
const KEYS: &str = "SELECT host_id, stream_id, seq, received_at
    FROM observer.events WHERE received_at > $1 ORDER BY received_at, host_id, seq";
const DETAILS: &str = "SELECT e.host_id, e.stream_id, e.seq, e.host, e.detail::text, e.kind
    FROM observer.events e
    JOIN unnest($2::uuid[], $3::uuid[], $4::bigint[]) WITH ORDINALITY AS k(host_id, stream_id, seq, place)
        ON e.host_id = k.host_id AND e.stream_id = k.stream_id AND e.seq = k.seq
    WHERE e.received_at > $1 ORDER BY k.place";

/// An object of `watch --json` without its `seq`.
pub type FleetFrame = Map<String, Value>;

/// Identifies an event: host, stream, number.
type Key = (Uuid, Uuid, i64);

/// A connection that follows the fleet.
pub struct Follow {
    connected: Connected,
    hinted: bool,
    seen: SeenEvents,
    /// Name and presence by host_id.
    hosts: BTreeMap<Uuid, (String, bool)>,
    look_at: Instant,
    /// When events were last read.
    events_at: Instant,
}

impl Follow {
    /// Begins. The frames are the state at one moment; [`Follow::next`] has every event that this state lacks.
    pub async fn begin(connected: Connected) -> Result<(Self, Vec<FleetFrame>), DatabaseError> {
        let client = &connected.client;
        // The hints begin before the state is read, so that none is missed. A standby refuses, and behind a pooler another
        // client would get them.
        let hinted = !connected.is_pooled && run(client, &format!("LISTEN {CHANNEL}")).await.is_ok();
        let reading = Reading::begin(client).await?;
        let (now, at) = now(&reading).await?;
        let mut seen = SeenEvents { since: before(now), seen: HashMap::new() };
        let mut hosts = BTreeMap::new();
        let mut frames = vec![frame(FrameKind::SnapshotBegin, &at)];
        for row in reading.query(HOSTS, &[]).await? {
            let (host_id, host, present): (Uuid, String, bool) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            frames.push(host_frame(FrameKind::Host, &at, host_id, &host, present));
            hosts.insert(host_id, (host, present));
        }
        for row in reading.query(SESSIONS, &[]).await? {
            frames.push(session_frame(&row)?);
        }
        // The state has these already.
        seen.unseen(&reading).await?;
        reading.end().await?;
        frames.push(frame(FrameKind::SnapshotEnd, &at));
        let (look_at, events_at) = (Instant::now(), Instant::now());
        Ok((Self { connected, hinted, seen, hosts, look_at, events_at }, frames))
    }

    /// The next frames, as soon as there are some.
    pub async fn next(&mut self) -> Result<Vec<FleetFrame>, DatabaseError> {
        loop {
            let every = if self.hinted { LOOK_EVERY } else { LOOK_WITHOUT_HINTS };
            let due = self.look_at + every;
            let hint = tokio::select! {
                () = self.connected.hints.notified() => true,
                () = sleep_until(due) => false,
                ended = &mut self.connected.ended => {
                    return Err(ended.unwrap_or_else(|_| DatabaseError::broken("the connection ended")));
                }
            };
            sleep_until(self.events_at + LOOK_PAUSE).await;
            let mut frames = Vec::new();
            let reading = Reading::begin(&self.connected.client).await?;
            if !hint {
                self.look_at = Instant::now();
                frames.extend(presence(&reading, &mut self.hosts, &mut self.seen).await?);
            }
            self.events_at = Instant::now();
            frames.extend(self.seen.events(&reading).await?);
            reading.end().await?;
            if !frames.is_empty() {
                return Ok(frames);
            }
        }
    }
}

/// Hosts whose presence began or ended.
async fn presence(
    reading: &Reading<'_>,
    known: &mut BTreeMap<Uuid, (String, bool)>,
    seen: &mut SeenEvents,
) -> Result<Vec<FleetFrame>, DatabaseError> {
    let (now, at) = now(reading).await?;
    // After the server's clock was set back, events that arrive are older than those that were seen.
    seen.since = seen.since.min(before(now));
    let mut frames = Vec::new();
    let mut hosts = BTreeMap::new();
    for row in reading.query(HOSTS, &[]).await? {
        let (host_id, host, present): (Uuid, String, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let was = known.get(&host_id).is_some_and(|(_, present)| *present);
        if was != present {
            let kind = if present { FrameKind::HostPresent } else { FrameKind::HostLost };
            frames.push(host_frame(kind, &at, host_id, &host, present));
        }
        hosts.insert(host_id, (host, present));
    }
    *known = hosts;
    Ok(frames)
}

/// Which events were seen.
struct SeenEvents {
    /// Events that arrived after this, by the server's clock, may not have been seen.
    since: Timestamp,
    /// Those that were seen, with when they arrived.
    seen: HashMap<Key, Timestamp>,
}

impl SeenEvents {
    /// The events that were not seen yet, in the order of their arrival.
    async fn unseen(&mut self, reading: &Reading<'_>) -> Result<Vec<Key>, DatabaseError> {
        let mut unseen = Vec::new();
        for row in reading.query(KEYS, &[(&self.since, Type::TIMESTAMPTZ)]).await? {
            let key: Key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let received_at: Timestamp = row.try_get(3)?;
            self.since = self.since.max(before(received_at));
            if self.seen.insert(key, received_at).is_none() {
                unseen.push(key);
            }
        }
        let since = self.since;
        self.seen.retain(|_, received_at| *received_at > since);
        Ok(unseen)
    }

    /// The events that were not seen yet, as frames.
    async fn events(&mut self, reading: &Reading<'_>) -> Result<Vec<FleetFrame>, DatabaseError> {
        let since = self.since;
        let unseen = self.unseen(reading).await?;
        let mut frames = Vec::with_capacity(unseen.len());
        for part in unseen.chunks(DETAILS_MAX) {
            let hosts: Vec<Uuid> = part.iter().map(|(host_id, ..)| *host_id).collect();
            let streams: Vec<Uuid> = part.iter().map(|(_, stream_id, _)| *stream_id).collect();
            let seqs: Vec<i64> = part.iter().map(|(.., seq)| *seq).collect();
            let params: [(&(dyn ToSql + Sync), Type); 4] = [
                (&since, Type::TIMESTAMPTZ),
                (&hosts, Type::UUID_ARRAY),
                (&streams, Type::UUID_ARRAY),
                (&seqs, Type::INT8_ARRAY),
            ];
            for row in reading.query(DETAILS, &params).await? {
                frames.push(event_frame(&row)?);
            }
        }
        Ok(frames)
    }
}

/// The moment up to which the data is complete, and the server's time as frames have it.
async fn now(reading: &Reading<'_>) -> Result<(Timestamp, String), DatabaseError> {
    let row = reading.query_one(NOW).await?;
    Ok((row.try_get(0)?, rfc3339(row.try_get(1)?)))
}

/// Transactions that began before this are visible at `now`.
fn before(now: Timestamp) -> Timestamp {
    now.checked_sub(COMMIT_MAX).unwrap_or(Timestamp::MIN)
}

/// UTC with milliseconds.
fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn frame(kind: FrameKind, at: &str) -> FleetFrame {
    FleetFrame::from_iter([("kind".to_owned(), json!(kind)), ("at".to_owned(), json!(at))])
}

fn host_frame(kind: FrameKind, at: &str, host_id: Uuid, host: &str, present: bool) -> FleetFrame {
    let mut frame = frame(kind, at);
    frame.extend([
        ("host".to_owned(), json!(host)),
        ("host_id".to_owned(), json!(host_id.to_string())),
        ("present".to_owned(), json!(present)),
    ]);
    frame
}

/// A row of the state as a frame.
fn session_frame(row: &Row) -> Result<FleetFrame, DatabaseError> {
    let mut frame = object(&row.try_get::<_, String>(6)?);
    frame.extend([
        ("kind".to_owned(), json!(FrameKind::Session)),
        ("at".to_owned(), json!(row.try_get::<_, Option<Timestamp>>(5)?.map(rfc3339))),
        ("host".to_owned(), json!(row.try_get::<_, String>(1)?)),
        ("host_id".to_owned(), json!(row.try_get::<_, Uuid>(0)?.to_string())),
        ("state".to_owned(), json!(row.try_get::<_, String>(2)?)),
        ("recorded_state".to_owned(), json!(row.try_get::<_, String>(3)?)),
        ("certain".to_owned(), json!(row.try_get::<_, bool>(4)?)),
    ]);
    Ok(frame)
}

fn event_frame(row: &Row) -> Result<FleetFrame, DatabaseError> {
    let mut frame = object(&row.try_get::<_, String>(4)?);
    frame.extend([
        ("host".to_owned(), json!(row.try_get::<_, String>(3)?)),
        ("host_id".to_owned(), json!(row.try_get::<_, Uuid>(0)?.to_string())),
        ("stream_id".to_owned(), json!(row.try_get::<_, Uuid>(1)?.to_string())),
        ("event_seq".to_owned(), json!(row.try_get::<_, i64>(2)?)),
        ("kind".to_owned(), json!(row.try_get::<_, String>(5)?)),
    ]);
    Ok(frame)
}

/// The object in `text`. Anybody may have written what is in the database, so it may be something else.
fn object(text: &str) -> FleetFrame {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        other => FleetFrame::from_iter([("detail".to_owned(), other.unwrap_or(Value::Null))]),
    }
}

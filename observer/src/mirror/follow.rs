//! What the sessions of all hosts do, as their daemons mirror it: the state, then each event once, and who is present.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Row;

use super::ask::{ANSWER_WAIT, answer, run};
use super::connect::Connected;
use super::sql::CHANNEL;
use super::sqlstate::{Trouble, Verdict};

/// Presence ends without an event, and hints may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Where the server gives no hints: a standby.
const LOOK_WITHOUT_HINTS: Duration = Duration::from_secs(1);
/// A batch is dated by its begin and seen at its commit: at most the writer's `statement_timeout` later.
const COMMIT_MAX_US: i64 = 30_000_000;

/// Hints of a fleet come without pause: looks are no closer than this.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Events whose details are read by one statement.
const DETAILS_MAX: usize = 1_000;

/// How far the data goes, and the time: a standby may be behind.
const NOW: &str = "SELECT (extract(epoch FROM CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN least(pg_catalog.now(), pg_catalog.pg_last_xact_replay_timestamp()) ELSE pg_catalog.now() END) * 1000000)::bigint,
    pg_catalog.to_char(pg_catalog.now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
const HOSTS: &str = "SELECT host_id::text, host, present FROM observer.hosts ORDER BY host, host_id";
const SESSIONS: &str = "SELECT host_id::text, host, state, recorded_state, certain,
        pg_catalog.to_char(as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), detail::text
    FROM observer.sessions WHERE recorded_state <> 'ended' ORDER BY host, name, home";
const KEYS: &str = "SELECT host_id::text, stream_id::text, seq, (extract(epoch FROM received_at) * 1000000)::bigint
    FROM observer.events WHERE received_at > 'epoch'::timestamptz + $1::bigint * interval '1 microsecond' ORDER BY received_at, host_id, seq";
const DETAILS: &str = "SELECT e.host_id::text, e.stream_id::text, e.seq, e.host, e.detail::text, e.kind
    FROM observer.events e
    JOIN unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k(host_id, stream_id, seq, place)
        ON e.host_id = k.host_id::uuid AND e.stream_id = k.stream_id::uuid AND e.seq = k.seq
    WHERE e.received_at > 'epoch'::timestamptz + $1::bigint * interval '1 microsecond' ORDER BY k.place";

/// An object of `watch --json`, but for `seq`.
pub type Frame = Map<String, Value>;

/// Which event: host, stream, number.
type Key = (String, String, i64);

/// A connection that follows.
pub struct Follow {
    connected: Connected,
    hinted: bool,
    /// Events that arrived after this may not have been seen; µs since 1970, by the server's clock.
    since_us: i64,
    /// Those that were, with when they arrived.
    seen: HashMap<Key, i64>,
    /// Name and presence by host_id.
    hosts: BTreeMap<String, (String, bool)>,
    look_at: Instant,
    /// When events were last read.
    events_at: Instant,
}

impl Follow {
    /// Begins; the frames are the state of one moment, and what follows is every event that it does not have.
    pub async fn begin(connected: Connected) -> Result<(Self, Vec<Frame>), Trouble> {
        let client = &connected.client;
        // Before the state is read: nothing is between. A standby refuses.
        let hinted = run(client, &format!("LISTEN {CHANNEL}")).await.is_ok();
        run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let (now_us, at) = now(&connected).await?;
        let mut follow = Self {
            connected,
            hinted,
            since_us: now_us - COMMIT_MAX_US,
            seen: HashMap::new(),
            hosts: BTreeMap::new(),
            look_at: Instant::now(),
            events_at: Instant::now(),
        };
        let mut frames = vec![frame("snapshot_begin", &at)];
        let rows = follow.query(HOSTS, &[]).await?;
        for row in &rows {
            let (host_id, host, present): (String, String, bool) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            frames.push(of_host("host", &at, &host_id, &host, present));
            follow.hosts.insert(host_id, (host, present));
        }
        for row in follow.query(SESSIONS, &[]).await? {
            frames.push(session(&row)?);
        }
        // What the state has already.
        follow.news().await?;
        run(&follow.connected.client, "COMMIT").await?;
        frames.push(frame("snapshot_end", &at));
        Ok((follow, frames))
    }

    /// The next frames, as soon as there are some.
    pub async fn next(&mut self) -> Result<Vec<Frame>, Trouble> {
        loop {
            let every = if self.hinted { LOOK_EVERY } else { LOOK_WITHOUT_HINTS };
            let due = self.look_at + every;
            let hint = tokio::select! {
                () = self.connected.hints.notified() => true,
                () = sleep_until(due) => false,
                ended = &mut self.connected.ended => {
                    return Err(ended.unwrap_or_else(|_| Trouble::new(Verdict::Reconnect, "the connection ended")));
                }
            };
            sleep_until(self.events_at + LOOK_PAUSE).await;
            let mut frames = Vec::new();
            if !hint {
                self.look_at = Instant::now();
                frames.extend(self.presence().await?);
            }
            frames.extend(self.events().await?);
            if !frames.is_empty() {
                return Ok(frames);
            }
        }
    }

    /// Hosts that came or went.
    async fn presence(&mut self) -> Result<Vec<Frame>, Trouble> {
        let (now_us, at) = now(&self.connected).await?;
        // Where the server's clock was set back, what arrives is older than what was seen.
        self.since_us = self.since_us.min(now_us - COMMIT_MAX_US);
        let mut frames = Vec::new();
        let mut hosts = BTreeMap::new();
        for row in self.query(HOSTS, &[]).await? {
            let (host_id, host, present): (String, String, bool) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let was = self.hosts.get(&host_id).is_some_and(|(_, present)| *present);
            if was != present {
                let kind = if present { "host_present" } else { "host_lost" };
                frames.push(of_host(kind, &at, &host_id, &host, present));
            }
            hosts.insert(host_id, (host, present));
        }
        self.hosts = hosts;
        Ok(frames)
    }

    /// Which events were not seen yet, in the order in which they arrived.
    async fn news(&mut self) -> Result<Vec<Key>, Trouble> {
        self.events_at = Instant::now();
        let mut news = Vec::new();
        for row in self.query(KEYS, &[&self.since_us]).await? {
            let key: Key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let received_us: i64 = row.try_get(3)?;
            self.since_us = self.since_us.max(received_us - COMMIT_MAX_US);
            if self.seen.insert(key.clone(), received_us).is_none() {
                news.push(key);
            }
        }
        let since_us = self.since_us;
        self.seen.retain(|_, received_us| *received_us > since_us);
        Ok(news)
    }

    /// Those events.
    async fn events(&mut self) -> Result<Vec<Frame>, Trouble> {
        let before_us = self.since_us;
        let news = self.news().await?;
        let mut frames = Vec::with_capacity(news.len());
        for part in news.chunks(DETAILS_MAX) {
            let hosts: Vec<&str> = part.iter().map(|(host_id, ..)| host_id.as_str()).collect();
            let streams: Vec<&str> = part.iter().map(|(_, stream_id, _)| stream_id.as_str()).collect();
            let seqs: Vec<i64> = part.iter().map(|(.., seq)| *seq).collect();
            for row in self.query(DETAILS, &[&before_us, &hosts, &streams, &seqs]).await? {
                frames.push(event(&row)?);
            }
        }
        Ok(frames)
    }

    async fn query(
        &self,
        statement: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        answer(ANSWER_WAIT, self.connected.client.query(statement, params)).await
    }
}

/// The server's, twice.
async fn now(connected: &Connected) -> Result<(i64, String), Trouble> {
    let row = answer(ANSWER_WAIT, connected.client.query_one(NOW, &[])).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn frame(kind: &str, at: &str) -> Frame {
    Frame::from_iter([("kind".to_owned(), json!(kind)), ("at".to_owned(), json!(at))])
}

fn of_host(kind: &str, at: &str, host_id: &str, host: &str, present: bool) -> Frame {
    let mut frame = frame(kind, at);
    frame.extend([
        ("host".to_owned(), json!(host)),
        ("host_id".to_owned(), json!(host_id)),
        ("present".to_owned(), json!(present)),
    ]);
    frame
}

/// A row of the state.
fn session(row: &Row) -> Result<Frame, Trouble> {
    let mut frame = object(&row.try_get::<_, String>(6)?);
    frame.extend([
        ("kind".to_owned(), json!("session")),
        ("at".to_owned(), json!(row.try_get::<_, Option<String>>(5)?)),
        ("host".to_owned(), json!(row.try_get::<_, String>(1)?)),
        ("host_id".to_owned(), json!(row.try_get::<_, String>(0)?)),
        ("state".to_owned(), json!(row.try_get::<_, String>(2)?)),
        ("recorded_state".to_owned(), json!(row.try_get::<_, String>(3)?)),
        ("certain".to_owned(), json!(row.try_get::<_, bool>(4)?)),
    ]);
    Ok(frame)
}

fn event(row: &Row) -> Result<Frame, Trouble> {
    let mut frame = object(&row.try_get::<_, String>(4)?);
    frame.extend([
        ("host".to_owned(), json!(row.try_get::<_, String>(3)?)),
        ("host_id".to_owned(), json!(row.try_get::<_, String>(0)?)),
        ("stream_id".to_owned(), json!(row.try_get::<_, String>(1)?)),
        ("event_seq".to_owned(), json!(row.try_get::<_, i64>(2)?)),
        ("kind".to_owned(), json!(row.try_get::<_, String>(5)?)),
    ]);
    Ok(frame)
}

/// What is in the database may be anybody's.
fn object(text: &str) -> Frame {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        other => Frame::from_iter([("detail".to_owned(), other.unwrap_or(Value::Null))]),
    }
}

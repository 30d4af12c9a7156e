//! One connection, from its beginning to its end: first the state, then what the database lacks of history, then both as
//! they come. Nothing is queued in memory but one batch: the journal is the queue.

mod past;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::ask::{ANSWER_WAIT, answer, execute};
use super::connect::{Connected, Purpose, connect};
use super::presence::{Former, claim};
use super::reconcile::{Who, reconcile};
use super::rows::{Item, Shape, item, uids};
use super::source::{Beat, Event, Extent, Feed, LiveMap};
use super::sqlstate::{Trouble, Verdict};
use super::status::Shared;
use super::target::DatabaseUrl;
use super::usernames::Directory;
use super::write::{Position, Rejected, Writer};
use super::{schema, sql};
use crate::text::bytes::to_line;

/// Entries in one batch.
const BATCH_ENTRIES_MAX: usize = 1024;
/// Their bytes, beyond the first entry.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// After a batch that took no longer, the next may be larger.
const EASY: Duration = Duration::from_secs(2);
/// The loop's last sign of life may be this old; then the connection is given up, and presence with it.
const BEAT_AGE_MAX: Duration = Duration::from_secs(12);
/// How long the loop is waited for.
const LOOP_WAIT: Duration = Duration::from_secs(10);
/// How long the answer to an empty query, or to a hint, is waited for.
const PULSE_WAIT: Duration = Duration::from_secs(8);
/// For how long a batch is tried again on its connection. Then presence ends: the state is no longer the kernel's.
const STALE_MAX: Duration = Duration::from_secs(8);
/// Between two such tries.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// Partitions are looked after this often; there are some for days to come.
const MAINTAIN_EVERY: Duration = Duration::from_secs(3600);
/// Hints: at most one in this time.
const NOTIFY_EVERY: Duration = Duration::from_secs(1);
/// That the database refuses data is logged no more often.
const REJECTED_TOLD_EVERY: Duration = Duration::from_secs(60);
/// While a backlog is delivered the state is taken from the map this often, if there is news.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// What outlives a connection.
pub struct Delivery {
    feed: Feed,
    shape: Shape,
    status: Shared,
    users: Directory,
    former: Former,
    delivered: bool,
    /// By how many halvings a batch is smaller than it may be.
    shrunk: u32,
    /// The journal could not be read when last it was tried.
    unreadable: bool,
    rejected_told_at: Option<Instant>,
    stop: watch::Receiver<bool>,
}

/// A connection that is present.
struct Open {
    connected: Connected,
    writer: Writer,
    position: Position,
    /// The stream whose past was compared with the journal's.
    compared: Arc<str>,
    /// Changes up to this number are in the state.
    state_after: u64,
    reconciled_at: Instant,
    maintained_at: Instant,
    /// When the last hint was given, and when the next is due.
    notified_at: Option<Instant>,
    notify_due: Option<Instant>,
    /// What the last beat said, and what was committed then.
    beat: Beat,
    committed_at_beat: u64,
}

impl Delivery {
    /// Connected to nothing yet.
    pub fn new(feed: Feed, shape: Shape, status: Shared, stop: watch::Receiver<bool>) -> Self {
        let (users, former) = (Directory::default(), Former::default());
        Self {
            feed,
            shape,
            status,
            users,
            former,
            delivered: false,
            shrunk: 0,
            unreadable: false,
            rejected_told_at: None,
            stop,
        }
    }

    /// The last connection was good for something.
    pub fn delivered(&self) -> bool {
        self.delivered
    }

    /// Connects, and delivers until something fails, or the daemon stops and nothing is left.
    pub async fn connection(&mut self, database: &DatabaseUrl) -> Result<(), Trouble> {
        self.delivered = false;
        let instance_id = self.instance_id().await;
        self.status.update(|status| status.state = "connecting".into());
        let unusable = |error: anyhow::Error| Trouble::new(Verdict::Stop(""), format!("{error:#}"));
        let target = database.target().map_err(unusable)?;
        // Whoever connects is present soon: not for a loop that is stuck.
        self.alive().await;
        let connected = connect(&target, Purpose::Presence).await?;
        let mut open = self.open(connected, instance_id).await?;
        let (host, generation) = (open.connected.host.clone(), open.writer.tenure().generation);
        self.status.update(|status| {
            status.host = Some(host);
            status.generation = Some(generation);
            status.connections += 1;
            status.failures = 0;
            status.last_error = None;
        });
        // With `open` the connection is closed: presence ends now, not when the server finds out.
        let beat = self.feed.beat.clone();
        tokio::select! {
            outcome = self.deliver(&mut open) => outcome,
            () = hung(beat) => Err(Trouble::new(Verdict::Reconnect, "the loop that drains the ring gave no sign of life for 12 s; is the machine overloaded?")),
        }
    }

    /// Who the state directory is: a journal that cannot be opened yet does not know.
    async fn instance_id(&mut self) -> Uuid {
        loop {
            if let Some(id) = self.feed.history.instance_id() {
                return id;
            }
            self.status.update(|status| status.state = "waiting".into());
            sleep(NOTIFY_EVERY).await;
        }
    }

    /// From an open connection to presence.
    async fn open(&mut self, connected: Connected, instance_id: Uuid) -> Result<Open, Trouble> {
        let check = timeout(ANSWER_WAIT, schema::check(&connected.client));
        check
            .await
            .unwrap_or_else(|_| Err(Trouble::new(Verdict::Reconnect, "the database does not answer")))?;
        self.former.connected(connected.backend_pid);
        let host_no = claim(&connected, &self.feed.identity, instance_id, &self.former).await?;
        maintain(&connected).await?;
        let map = self.map().await?;
        let extent = self.feed.history.extent();
        let who = Who::New { host_no, identity: &self.feed.identity, instance_id };
        let (client, names) = (&connected.client, self.users.names());
        let done = reconcile(client, who, &map, extent.last_seq, self.shape, names).await?;
        self.former.generation = Some(done.tenure.generation);
        self.rejected(&done.rejected);
        let writer = Writer::new(client, done.tenure).await?;
        let beat = self.feed.beat.borrow_and_update().clone();
        Ok(Open {
            connected,
            writer,
            position: Position { stream_id: map.stream_id.to_string(), seq: done.cursor },
            compared: Arc::default(),
            state_after: map.after_seq,
            reconciled_at: Instant::now(),
            maintained_at: Instant::now(),
            notified_at: None,
            notify_due: Some(Instant::now()),
            beat,
            committed_at_beat: extent.last_seq,
        })
    }

    /// The live map, with names for its users.
    async fn map(&mut self) -> Result<LiveMap, Trouble> {
        let silent = || {
            Trouble::new(Verdict::Reconnect, "the daemon's loop does not answer; is the machine overloaded?")
        };
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.feed.map.send(reply).await.map_err(|_| silent())?;
            answer.await.map_err(|_| silent())
        };
        let map = timeout(LOOP_WAIT, ask).await.map_err(|_| silent())??;
        self.users.learn(uids(map.sessions.iter().map(String::as_str))).await;
        Ok(map)
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the loop that drains the ring has given a sign of life just now, or the daemon stops.
    async fn alive(&mut self) {
        let fresh = |beat: &Beat| beat.at.elapsed() < BEAT_AGE_MAX;
        let beat = self.feed.beat.wait_for(fresh);
        tokio::select! {
            Ok(_) = beat => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Batches as they come, until something fails.
    async fn deliver(&mut self, open: &mut Open) -> Result<(), Trouble> {
        loop {
            let extent = self.feed.history.extent();
            if *extent.stream_id != *open.position.stream_id {
                self.change_stream(open, &extent).await?;
                continue;
            }
            let cursor = open.position.seq.cast_unsigned();
            match self.shares_past(open, &extent).await? {
                Some(true) => {}
                Some(false) => {
                    self.begin_anew(open).await?;
                    continue;
                }
                None => {
                    if self.stopping() {
                        return Ok(());
                    }
                    // The connection is present, and history waits.
                    self.status.update(|status| {
                        status.pending = extent.last_seq.saturating_sub(cursor);
                        status.state = "catching_up".into();
                    });
                    self.pause(open, REFRESH_EVERY).await?;
                    self.refresh(open).await?;
                    continue;
                }
            }
            if open.maintained_at.elapsed() >= MAINTAIN_EVERY {
                open.maintained_at = Instant::now();
                maintain(&open.connected).await?;
            }
            self.feed.history.acknowledged(&extent.stream_id, cursor);
            let pending = extent.last_seq - cursor;
            self.status.update(|status| {
                status.pending = pending;
                status.state = if pending == 0 { "ok".into() } else { "catching_up".into() };
            });
            if pending > 0 {
                self.batch(open, &extent).await?;
            } else if self.stopping() {
                return Ok(());
            } else {
                self.wait(open).await?;
            }
            self.notify(open).await?;
        }
    }

    /// The journal began a new stream: its cursor, and the state as of one of its numbers.
    async fn change_stream(&mut self, open: &mut Open, extent: &Extent) -> Result<(), Trouble> {
        self.refresh(open).await?;
        if *extent.stream_id != *open.position.stream_id {
            // The loop knows of the new stream before it is committed, or hears of it in a moment.
            self.pause(open, REFRESH_EVERY).await?;
        }
        Ok(())
    }

    /// Takes the state from the map again.
    async fn refresh(&mut self, open: &mut Open) -> Result<(), Trouble> {
        let map = self.map().await?;
        let last_seq = self.feed.history.extent().last_seq;
        let who = Who::Same(open.writer.tenure());
        let names = self.users.names();
        let done = reconcile(&open.connected.client, who, &map, last_seq, self.shape, names).await?;
        self.rejected(&done.rejected);
        open.position = Position { stream_id: map.stream_id.to_string(), seq: done.cursor };
        open.state_after = map.after_seq;
        open.reconciled_at = Instant::now();
        open.notify_due.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Writes the next entries.
    async fn batch(&mut self, open: &mut Open, extent: &Extent) -> Result<(), Trouble> {
        let cursor = open.position.seq.cast_unsigned();
        let far = cursor + (BATCH_ENTRIES_MAX as u64) < open.state_after;
        if far && extent.last_seq > open.state_after && open.reconciled_at.elapsed() >= REFRESH_EVERY {
            return self.refresh(open).await;
        }
        let Some(events) = self.read(extent, cursor, (BATCH_ENTRIES_MAX >> self.shrunk).max(1)) else {
            self.pause(open, REFRESH_EVERY).await?;
            return self.refresh(open).await;
        };
        if events.is_empty() {
            // Set aside between the look at its extent and now.
            return self.pause(open, RETRY_WAIT).await;
        }
        let items = self.items(events, open.state_after).await;
        let began = Instant::now();
        if let Err(trouble) = self.write(open, &items, extent.last_seq).await {
            // As much in one statement may take the server longer than it has for one.
            self.shrunk = (self.shrunk + 1).min(BATCH_ENTRIES_MAX.ilog2());
            return Err(trouble);
        }
        if began.elapsed() < EASY {
            self.shrunk = self.shrunk.saturating_sub(1);
        }
        self.delivered = true;
        if items.iter().any(|item| item.state_lost) {
            self.refresh(open).await?;
        }
        open.notify_due
            .get_or_insert_with(|| open.notified_at.map_or_else(Instant::now, |at| at + NOTIFY_EVERY));
        Ok(())
    }

    async fn items(&mut self, events: Vec<Event>, state_after: u64) -> Vec<Item> {
        let sessions = events.iter().filter(|event| event.kind.starts_with("session_"));
        self.users.learn(uids(sessions.map(|event| event.detail.as_str()))).await;
        let names = self.users.names();
        events.into_iter().map(|event| item(event, state_after, self.shape, names)).collect()
    }

    /// Writes `items`, again for what passes, but not for long: the state ages meanwhile.
    async fn write(&mut self, open: &mut Open, items: &[Item], last_seq: u64) -> Result<(), Trouble> {
        let began = Instant::now();
        let mut behind = false;
        loop {
            let done = items.iter().take_while(|item| item.seq <= open.position.seq).count();
            let left = items.get(done..).unwrap_or_default();
            let caught_up = items.last().is_some_and(|item| item.seq.cast_unsigned() >= last_seq);
            open.writer.rejected = Rejected::default();
            let outcome =
                open.writer.write(&open.connected.client, left, &mut open.position, caught_up).await;
            self.rejected(&open.writer.rejected);
            match outcome {
                Err(trouble) if is_passing(&trouble) && began.elapsed() < STALE_MAX => {
                    if trouble.verdict == Verdict::Maintain {
                        maintain(&open.connected).await?;
                    }
                    self.status.update(|status| {
                        status.state = "retrying".into();
                        status.failures += 1;
                        status.last_error = Some(trouble.message);
                    });
                    if !std::mem::replace(&mut behind, true) {
                        self.fall_behind(open).await?;
                    }
                    sleep(RETRY_WAIT).await;
                }
                Err(trouble) => return Err(trouble),
                Ok(()) => {
                    self.status.update(|status| {
                        status.failures = 0;
                        status.last_error = None;
                    });
                    return Ok(());
                }
            }
        }
    }

    /// Readers are told that the state is not of now, unless that has to wait, too.
    async fn fall_behind(&mut self, open: &mut Open) -> Result<(), Trouble> {
        let tenure = open.writer.tenure();
        let told =
            execute(&open.connected.client, sql::FALL_BEHIND, &[&tenure.host_no, &tenure.generation]).await;
        told.map(|_| ()).or_else(|trouble| if is_passing(&trouble) { Ok(()) } else { Err(trouble) })
    }

    /// Counts what the database refused, and tells of it.
    fn rejected(&mut self, rejected: &Rejected) {
        let Rejected { count, why: Some(why) } = rejected else { return };
        self.status.update(|status| status.rejected += count);
        if self.rejected_told_at.is_none_or(|at| at.elapsed() >= REJECTED_TOLD_EVERY) {
            self.rejected_told_at = Some(Instant::now());
            eprintln!(
                "observer: warning: the database refuses what is mirrored ({count} just now: {}); look for constraints and \
                 triggers that were added to the schema observer",
                to_line(why.as_bytes())
            );
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self, open: &mut Open) -> Result<(), Trouble> {
        let notify_due = open.notify_due;
        let due = async {
            match notify_due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let stop = async {
            // An error: nobody is left to stop it.
            let _ = self.stop.wait_for(|stop| *stop).await;
        };
        let beaten = tokio::select! {
            () = self.feed.history.changed() => false,
            () = due => false,
            () = stop => false,
            trouble = &mut open.connected.ended => return Err(ended(trouble)),
            // An error: the loop has ended, and the daemon is about to.
            Ok(()) = self.feed.beat.changed() => true,
        };
        if beaten { self.pulse(open).await } else { Ok(()) }
    }

    /// Waits a moment, unless the connection ends.
    async fn pause(&mut self, open: &mut Open, wait: Duration) -> Result<(), Trouble> {
        tokio::select! {
            () = sleep(wait) => Ok(()),
            trouble = &mut open.connected.ended => Err(ended(trouble)),
        }
    }

    /// The loop goes round: the server is told by an empty query, which also shows whether it is still there. Where the
    /// journal does not keep up with the map, the state is taken from the map.
    async fn pulse(&mut self, open: &mut Open) -> Result<(), Trouble> {
        let beat = self.feed.beat.borrow_and_update().clone();
        answer(PULSE_WAIT, open.connected.client.batch_execute("")).await?;
        let committed = self.feed.history.extent().last_seq;
        let stuck = committed == open.committed_at_beat && beat.numbered > committed.max(open.state_after);
        let lost = beat.dropped != open.beat.dropped;
        open.committed_at_beat = committed;
        open.beat = beat;
        if stuck || lost {
            self.refresh(open).await?;
        }
        Ok(())
    }

    /// Gives the hint, if one is due: in a transaction of its own, since transactions that notify wait for each other.
    async fn notify(&mut self, open: &mut Open) -> Result<(), Trouble> {
        let now = Instant::now();
        if open.notify_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        open.notify_due = None;
        open.notified_at = Some(now);
        let payload = open.writer.tenure().host_no.to_string();
        // No longer than for a sign of life: who does not answer this is gone.
        let params: [&(dyn ToSql + Sync); 2] = [&sql::CHANNEL, &payload];
        let hint = open.connected.client.execute(sql::NOTIFY, &params);
        match answer(PULSE_WAIT, hint).await {
            Err(trouble) if trouble.verdict == Verdict::Reconnect => Err(trouble),
            Err(_) => {
                self.status.update(|status| status.notify_failures += 1);
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Resolves when the loop has given no sign of life for too long.
async fn hung(mut beat: watch::Receiver<Beat>) {
    loop {
        let at = beat.borrow_and_update().at;
        tokio::select! {
            () = sleep_until(at + BEAT_AGE_MAX) => return,
            changed = beat.changed() => if changed.is_err() {
                // The loop has ended, and the daemon is about to.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn is_passing(trouble: &Trouble) -> bool {
    matches!(trouble.verdict, Verdict::Retry | Verdict::Maintain)
}

/// Has partitions made and dropped. That somebody holds a lock is for the next time.
async fn maintain(connected: &Connected) -> Result<(), Trouble> {
    match execute(&connected.client, sql::MAINTAIN, &[]).await {
        Err(trouble) if !is_passing(&trouble) => Err(trouble),
        _ => Ok(()),
    }
}

/// What the task of the connection said at its end.
fn ended(told: Result<Trouble, oneshot::error::RecvError>) -> Trouble {
    told.unwrap_or_else(|_| Trouble::new(Verdict::Reconnect, "the connection was closed"))
}

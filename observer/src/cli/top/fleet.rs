//! The source of the sessions of all hosts for `observer top`: the database to which their daemons mirror them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::asked::{Asked, NextQuestion, QuestionTimes, pause};
use super::event::{Details, DetailsWanted, EventLine, SeenSession, SessionsSeen, TopEvent, Wake};
use super::lines::event_line;
use super::local::EVENTS_MAX;
use crate::api::words::FrameKind;
use crate::cli::database::DatabaseFlags;
use crate::cli::user;
use crate::clock;
use crate::mirror::connect::{Connected, Purpose};
use crate::mirror::follow::{FleetFrame, Follow};
use crate::mirror::history::{EventQuery, each};
use crate::mirror::schema;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::to_json;

/// How long is waited before another attempt to reach the database.
const RETRY: Duration = Duration::from_secs(2);
/// How far back the last events of a session are looked for, µs.
const EVENTS_AGE_US: i64 = 86_400_000_000;

/// Starts to follow the sessions that `filter` wants. Fails where the database cannot be reached.
pub(super) fn start(
    database: DatabaseFlags,
    filter: WatchFilter,
    out: &SyncSender<Wake>,
) -> anyhow::Result<Arc<Asked>> {
    database.with(Purpose::Read, async |connected| Ok(schema::check(&connected.client).await?))?;
    let database = Arc::new(database);
    let questions = Arc::new(Asked::default());
    let asked = Arc::clone(&questions);
    let threads = "cannot start a thread; see `ulimit -u`";
    let (followed, events) = (Arc::clone(&database), out.clone());
    let follow = move || {
        loop {
            let ended =
                followed.with(Purpose::Read, async |connected| follow(connected, &filter, &events).await);
            let Err(error) = ended else { return };
            if events.send(Wake::Event(TopEvent::Away(format!("{error:#}")))).is_err() {
                return;
            }
            thread::sleep(RETRY);
        }
    };
    thread::Builder::new().name("follow".into()).spawn(follow).context(threads)?;
    let out = out.clone();
    thread::Builder::new()
        .name("details".into())
        .spawn(move || answer(&database, &asked, &out))
        .context(threads)?;
    Ok(questions)
}

/// Sends the state, then every change. Ends where nobody receives them.
async fn follow(connected: Connected, filter: &WatchFilter, out: &SyncSender<Wake>) -> anyhow::Result<()> {
    schema::check(&connected.client).await?;
    let (mut follow, frames) = Follow::begin(connected).await?;
    let mut all = SessionsSeen { is_certain: true, ..SessionsSeen::default() };
    let mut events = Vec::new();
    for frame in frames {
        match event(frame, filter) {
            Some(TopEvent::Changed(seen, _)) => all.sessions.push(*seen),
            other => events.extend(other),
        }
    }
    events.push(TopEvent::Sessions(all));
    loop {
        for event in events {
            if out.send(Wake::Event(event)).is_err() {
                return Ok(());
            }
        }
        events = follow.next().await?.into_iter().filter_map(|frame| event(frame, filter)).collect();
    }
}

/// Returns the event of a frame; `None`: the frame has nothing that is shown, or no daemon wrote it.
fn event(mut frame: FleetFrame, filter: &WatchFilter) -> Option<TopEvent> {
    let text = |frame: &FleetFrame, name: &str| Some(frame.get(name)?.as_str()?.to_owned());
    let kind = FrameKind::from(text(&frame, "kind")?.as_str());
    let host_id = text(&frame, "host_id")?;
    match kind {
        FrameKind::Host | FrameKind::HostPresent | FrameKind::HostLost => {
            let is_present = frame.get("present")?.as_bool()?;
            Some(TopEvent::Presence(host_id, is_present))
        }
        FrameKind::Session
        | FrameKind::SessionStarted
        | FrameKind::SessionChanged
        | FrameKind::SessionEnded => {
            // Frames about hosts say whether the host is present.
            if let Some(recorded) = frame.remove("recorded_state") {
                frame.insert("state".into(), recorded);
            }
            let host = text(&frame, "host")?;
            let session = serde_json::from_value(Value::Object(frame)).ok()?;
            let seen = SeenSession { host_id, host, session };
            let (name, home) = (seen.session.name.as_bytes(), seen.session.home.as_bytes());
            let wanted = filter.wants(FrameScope::Session { name, home });
            wanted.then(|| TopEvent::Changed(Box::new(seen), 0))
        }
        _ => None,
    }
}

/// Answers one question at a time, the newest of those that wait.
fn answer(database: &DatabaseFlags, asked: &Asked, out: &SyncSender<Wake>) {
    let now = Instant::now();
    let mut times = QuestionTimes { details_from: now, list_from: now, list_due: None };
    loop {
        // Frames have all sessions, so questions for these are not answered.
        let NextQuestion::Details(wanted) = asked.next(times) else { continue };
        let begun = Instant::now();
        let events = database.with(Purpose::Read, async |connected| events(connected, &wanted).await);
        let details = Details {
            user: user::shown(wanted.id.uid),
            processes: Err("processes are known to the host's own daemon: see `observer ps` there".into()),
            events: events.map_err(|error| format!("{error:#}")),
            id: wanted.id,
        };
        times.details_from = Instant::now() + pause(begun.elapsed());
        if out.send(Wake::Event(TopEvent::Details(Box::new(details)))).is_err() {
            return;
        }
    }
}

/// The last events of a session, the newest first.
async fn events(connected: Connected, wanted: &DetailsWanted) -> anyhow::Result<Vec<EventLine>> {
    let now_us = i64::try_from(clock::realtime_ns() / 1_000).unwrap_or(i64::MAX);
    let query = EventQuery {
        host: Some(wanted.id.host_id.clone()),
        home: Some(to_json(&wanted.id.home).into_owned()),
        since_us: Some(now_us.saturating_sub(EVENTS_AGE_US)),
        ..EventQuery::default()
    };
    let mut newest = VecDeque::new();
    each(&connected, &query, |past| {
        let (at_ns, kind) = (past.at_us.saturating_mul(1_000), past.kind.as_str().into());
        newest.push_front(event_line(at_ns, &kind, past.pid.map(i32::cast_unsigned), &past.detail));
        newest.truncate(EVENTS_MAX);
        Ok(())
    })
    .await?;
    Ok(newest.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::words::SessionState;

    fn frame(value: Value) -> FleetFrame {
        let Value::Object(frame) = value else { panic!("an object") };
        frame
    }

    #[test]
    fn frames_of_sessions_and_hosts_change_the_model_and_others_do_not() {
        let all = WatchFilter::default();
        let session = json!({"kind": "session", "host": "web1", "host_id": "h1", "state": "unknown",
            "recorded_state": "detached", "name": "a", "home": "/srv/a", "pid": 7, "uid": 3});
        let Some(TopEvent::Changed(seen, 0)) = event(frame(session.clone()), &all) else {
            panic!("a session")
        };
        assert_eq!((seen.host.as_str(), seen.host_id.as_str()), ("web1", "h1"));
        assert_eq!((seen.session.state, seen.session.primary.pid), (SessionState::Detached, 7));
        let other = WatchFilter::new(false, Some("b*")).unwrap();
        assert!(event(frame(session), &other).is_none());
        let host = json!({"kind": "host_lost", "host": "web1", "host_id": "h1", "present": false});
        assert!(matches!(event(frame(host), &all), Some(TopEvent::Presence(id, false)) if id == "h1"));
        for nothing in [
            json!({"kind": "gap", "host_id": "h1"}),
            json!({"kind": "session", "host_id": "h1", "host": "x", "home": 7}),
            json!({"kind": 7}),
            json!({}),
        ] {
            assert!(event(frame(nothing.clone()), &all).is_none(), "{nothing}");
        }
    }
}

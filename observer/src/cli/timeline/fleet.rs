//! Lives of the sessions of all hosts or one, from the database to which their daemons mirror them.

use serde::Deserialize;
use serde_json::Value;

use super::lives::{Lives, PastEntry, RowKey};
use super::scale::Window;
use crate::api::words::FrameKind;
use crate::cli::database::DatabaseFlags;
use crate::mirror::connect::{Connected, Purpose, connect};
use crate::mirror::follow::{FleetFrame, Follow};
use crate::mirror::history::{EventQuery, KnownHost, each, known_hosts};
use crate::mirror::schema;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::from_json;

/// What identifies a session, in the JSON of an event.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Identity {
    home_mnt_ns: Option<u32>,
    uid: u32,
    instance: u32,
}

/// Lives of the sessions that `filter` wants, of the host with this name or id or of all.
pub(super) async fn read(
    connected: Connected,
    database: &DatabaseFlags,
    host: Option<&str>,
    filter: &WatchFilter,
    window: Window,
) -> anyhow::Result<Lives> {
    schema::check(&connected.client).await?;
    let mut lives = Lives::new(window);
    let hosts = known_hosts(&connected, host).await?;
    // Gaps are given in the order of time: this one is before all entries of the host.
    for host in &hosts {
        not_known_before(&mut lives, host);
    }
    let us = |ns: i64| Some(ns.div_euclid(1_000));
    let query = EventQuery {
        host: host.map(Into::into),
        // What came after the window says what lived in it.
        since_us: us(window.since_ns),
        ..EventQuery::default()
    };
    each(&connected, &query, |past| {
        let home = past.home.as_deref().map(from_json);
        let name = past.name.as_deref().map(from_json).unwrap_or_default();
        if let Some(home) = &home
            && !filter.wants(FrameScope::Session { name: &name, home })
        {
            return Ok(());
        }
        let identity: Identity = serde_json::from_str(&past.detail).unwrap_or_default();
        lives.take(PastEntry {
            key: home.map(|home| identity.key(&past.host, &past.host_id, home)),
            host_id: past.host_id,
            name,
            at_ns: past.at_us.saturating_mul(1_000),
            kind: past.kind.as_str().into(),
            pid: past.pid.map(i32::cast_unsigned),
            detail: &past.detail,
        });
        Ok(())
    })
    .await?;
    drop(connected);
    for host in &hosts {
        not_known_after(&mut lives, host);
    }
    let url = database
        .url()?
        .ok_or_else(|| anyhow::anyhow!("no database; name it with --database-url-file FILE"))?;
    let (_, frames) = Follow::begin(connect(&url.target()?, Purpose::Read).await?).await?;
    for frame in frames.iter().filter(|frame| is_of(frame, host)) {
        live(&mut lives, frame, filter);
    }
    Ok(lives)
}

impl Identity {
    fn key(&self, host: &str, host_id: &str, home: Vec<u8>) -> RowKey {
        RowKey {
            host: host.into(),
            host_id: host_id.into(),
            home,
            mnt_ns: self.home_mnt_ns,
            uid: self.uid,
            instance: self.instance.max(1),
        }
    }
}

fn ns(us: i64) -> i64 {
    us.saturating_mul(1_000)
}

/// Of what was before a host was first mirrored, and before its oldest event, nobody knows anything.
fn not_known_before(lives: &mut Lives, host: &KnownHost) {
    let (since_ns, from_ns) = (ns(host.since_us), lives.window.since_ns);
    if since_ns > from_ns {
        lives.gap(host.host_id.clone(), from_ns, since_ns);
    }
}

/// Of what happened since a host was last present, or that it did not send yet, nobody knows anything.
fn not_known_after(lives: &mut Lives, host: &KnownHost) {
    if let Some(until_us) = host.until_us {
        lives.gap(host.host_id.clone(), ns(until_us), lives.window.until_ns);
    }
}

fn text<'f>(frame: &'f FleetFrame, name: &str) -> Option<&'f str> {
    frame.get(name).and_then(Value::as_str)
}

fn is_of(frame: &FleetFrame, host: Option<&str>) -> bool {
    host.is_none_or(|host| [text(frame, "host"), text(frame, "host_id")].contains(&Some(host)))
}

/// A session of the present state.
fn live(lives: &mut Lives, frame: &FleetFrame, filter: &WatchFilter) {
    let session = || {
        let (host, host_id) = (text(frame, "host")?, text(frame, "host_id")?);
        let (home, name) = (from_json(text(frame, "home")?), from_json(text(frame, "name")?));
        Some((host, host_id, home, name))
    };
    if text(frame, "kind").map(FrameKind::from) != Some(FrameKind::Session) {
        return;
    }
    let Some((host, host_id, home, name)) = session() else { return };
    if !filter.wants(FrameScope::Session { name: &name, home: &home }) {
        return;
    }
    let detail = Value::Object(frame.clone()).to_string();
    let identity: Identity = serde_json::from_str(&detail).unwrap_or_default();
    lives.lives(identity.key(host, host_id, home), name, &detail);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::lives::Span;
    use super::super::lives::tests::{BASE, HOUR, rfc3339, window};
    use super::*;

    #[test]
    fn a_session_of_the_state_lives() {
        let frame = |value: Value| match value {
            Value::Object(frame) => frame,
            _ => FleetFrame::new(),
        };
        let (mut lives, all) = (Lives::new(window()), WatchFilter::default());
        let session = json!({"kind": "session", "host": "web1", "host_id": "h", "name": "a", "home": "/srv/a", "uid": 3,
            "instance": 1, "state": "unknown", "at": rfc3339(BASE + 20 * HOUR), "started_at": rfc3339(BASE + HOUR)});
        live(&mut lives, &frame(session.clone()), &all);
        for nothing in [json!({}), json!({"kind": "session"}), json!({"kind": "host", "host": "web1"})] {
            live(&mut lives, &frame(nothing), &all);
        }
        live(&mut lives, &frame(session.clone()), &WatchFilter::new(false, Some("b")).unwrap());
        let (key, row) = lives.rows.first_key_value().unwrap();
        assert_eq!((key.host.as_str(), key.host_id.as_str(), key.uid), ("web1", "h", 3));
        assert_eq!((row.bars.len(), lives.rows.len()), (1, 1));
        assert!(is_of(&frame(session.clone()), Some("h")) && is_of(&frame(session.clone()), Some("web1")));
        assert!(!is_of(&frame(session), Some("web2")));
    }

    #[test]
    fn what_was_before_a_host_was_mirrored_and_what_happens_while_it_is_absent_is_not_known() {
        let mut lives = Lives::new(window());
        let us = |hour: i64| (BASE + hour * HOUR) / 1_000;
        let absent = KnownHost { host_id: "absent".into(), since_us: us(3), until_us: Some(us(20)) };
        let present = KnownHost { host_id: "present".into(), since_us: us(-50), until_us: None };
        let gone = KnownHost { host_id: "gone".into(), since_us: us(-50), until_us: Some(us(-9)) };
        for host in [&absent, &present, &gone] {
            not_known_before(&mut lives, host);
        }
        for host in [&absent, &present, &gone] {
            not_known_after(&mut lives, host);
        }
        let span = |from, to| Span { from_ns: BASE + from * HOUR, to_ns: BASE + to * HOUR };
        assert_eq!(lives.gaps["absent"], [span(0, 3), span(20, 24)]);
        assert_eq!(lives.gaps["gone"], [span(0, 24)]);
        assert!(!lives.gaps.contains_key("present"), "{lives:#?}");
    }
}

//! Lives of the sessions of all hosts or one, from the database to which their daemons mirror them.

use serde::Deserialize;
use serde_json::Value;

use super::lives::{Lives, PastEntry, RowKey};
use super::scale::Window;
use crate::api::words::FrameKind;
use crate::cli::database::DatabaseFlags;
use crate::mirror::connect::{Connected, Purpose, connect};
use crate::mirror::follow::{FleetFrame, Follow};
use crate::mirror::history::{EventQuery, each};
use crate::mirror::schema;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::from_json;
use crate::text::time::unix_ns;

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
    let us = |ns: i64| Some(ns.div_euclid(1_000));
    let query = EventQuery {
        host: host.map(Into::into),
        // What came after the window says what lived in it.
        since_us: us(window.since_ns),
        ..EventQuery::default()
    };
    each(&connected.client, &query, |past| {
        let home = past.home.as_deref().map(from_json);
        let name = past.name.as_deref().map(from_json).unwrap_or_default();
        if let Some(home) = &home
            && !filter.wants(FrameScope::Session { name: &name, home })
        {
            return Ok(());
        }
        let identity: Identity = serde_json::from_str(&past.detail).unwrap_or_default();
        lives.take(PastEntry {
            key: home.map(|home| identity.key(&past.host, home)),
            host: past.host,
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
    fn key(&self, host: &str, home: Vec<u8>) -> RowKey {
        RowKey {
            host: host.into(),
            home,
            mnt_ns: self.home_mnt_ns,
            uid: self.uid,
            instance: self.instance.max(1),
        }
    }
}

fn text<'f>(frame: &'f FleetFrame, name: &str) -> Option<&'f str> {
    frame.get(name).and_then(Value::as_str)
}

fn is_of(frame: &FleetFrame, host: Option<&str>) -> bool {
    host.is_none_or(|host| [text(frame, "host"), text(frame, "host_id")].contains(&Some(host)))
}

/// A session of the present state. Of a host that is not there nobody knows what happened since it was.
fn live(lives: &mut Lives, frame: &FleetFrame, filter: &WatchFilter) {
    let session = || {
        let (host, home) = (text(frame, "host")?, from_json(text(frame, "home")?));
        let name = from_json(text(frame, "name")?);
        Some((host, home, name))
    };
    if text(frame, "kind").map(FrameKind::from) != Some(FrameKind::Session) {
        return;
    }
    let Some((host, home, name)) = session() else { return };
    if !filter.wants(FrameScope::Session { name: &name, home: &home }) {
        return;
    }
    let detail = Value::Object(frame.clone()).to_string();
    let identity: Identity = serde_json::from_str(&detail).unwrap_or_default();
    lives.lives(identity.key(host, home), name, &detail);
    if text(frame, "state") == Some("unknown")
        && let Some(as_of) = text(frame, "at").and_then(unix_ns)
    {
        lives.gap(host.to_owned(), as_of, lives.window.until_ns);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::lives::Span;
    use super::super::lives::tests::{BASE, HOUR, rfc3339, window};
    use super::*;

    #[test]
    fn a_session_of_the_state_lives_and_what_an_absent_host_does_is_not_known() {
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
        assert_eq!((key.host.as_str(), key.uid, row.bars.len(), lives.rows.len()), ("web1", 3, 1, 1));
        assert_eq!(lives.gaps["web1"], [Span { from_ns: BASE + 20 * HOUR, to_ns: BASE + 24 * HOUR }]);
        assert!(is_of(&frame(session.clone()), Some("h")) && is_of(&frame(session.clone()), Some("web1")));
        assert!(!is_of(&frame(session), Some("web2")));
    }
}

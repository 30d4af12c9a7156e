//! `observer history --database-url …`: events of one host or all, from the mirror.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::lines::Lines;
use super::shown::{EntryLine, Form, Shown};
use crate::mirror::connect::Connected;
use crate::mirror::history::{EventQuery, FleetEvent, each};
use crate::mirror::schema;
use crate::text::bytes::from_json;

/// Prints the events that are `wanted`. Returns how many of them concern sessions.
pub async fn print(
    connected: Connected,
    wanted: &EventQuery,
    form: Form,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    schema::check(&connected.client).await?;
    let mut lines = Lines::new(form, true);
    let mut found = 0;
    each(&connected, wanted, |past| {
        let shown: Shown<'_> = serde_json::from_str(&past.detail).unwrap_or_default();
        let is_session = past.name.is_some();
        if is_session && form.forced && !shown.is_forced_end() {
            return Ok(());
        }
        found += u64::from(is_session);
        if form.json {
            writeln!(out, "{}", object(&past))?;
        } else {
            print_entry(&past, &shown, &mut lines, out)?;
        }
        Ok(())
    })
    .await?;
    lines.flush(out)?;
    Ok(found)
}

fn object(past: &FleetEvent) -> Value {
    let mut object = match serde_json::from_str(&past.detail) {
        Ok(Value::Object(object)) => object,
        other => Map::from_iter([("detail".to_owned(), other.unwrap_or(Value::Null))]),
    };
    object.extend([
        ("host".to_owned(), json!(past.host)),
        ("host_id".to_owned(), json!(past.host_id)),
        ("stream_id".to_owned(), json!(past.stream_id)),
        ("event_seq".to_owned(), json!(past.seq)),
        ("kind".to_owned(), json!(past.kind)),
    ]);
    Value::Object(object)
}

fn print_entry(
    past: &FleetEvent,
    shown: &Shown<'_>,
    lines: &mut Lines,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let raw = |text: &Option<String>| text.as_deref().map(from_json).unwrap_or_default();
    let (home, name) = (raw(&past.home), raw(&past.name));
    let line = EntryLine {
        at_unix_ns: past.at_us.saturating_mul(1_000),
        kind: past.kind.as_str().into(),
        home: &home,
        name: &name,
        pid: past.pid.map(i32::cast_unsigned),
    };
    lines.push(shown, &line, Some(&past.host), out)
}

//! `observer history --database-url …`: one host or all.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::history::{COLUMNS, Shown};
use crate::journal::Entry;
use crate::journal::reader::Stored;
use crate::mirror::connect::Connected;
use crate::mirror::history::{EventQuery, FleetEvent, each};
use crate::mirror::schema;
use crate::text::bytes::{from_json, to_line};
use crate::text::table::{Align, Cell, LongTable};

/// How to write it.
pub struct Form {
    /// JSON: an object a line.
    pub json: bool,
    /// Only deaths by a signal or the lack of memory.
    pub violent: bool,
    /// Of the terminal.
    pub width: Option<usize>,
}

/// How many events of sessions were written.
pub async fn tell(
    connected: Connected,
    wanted: &EventQuery,
    form: &Form,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    schema::check(&connected.client).await?;
    let columns: Vec<_> = std::iter::once(("HOST", Align::Left)).chain(COLUMNS).collect();
    let mut table = LongTable::new(&columns, form.width);
    let mut found = 0;
    each(&connected.client, wanted, |past| {
        let shown: Shown<'_> = serde_json::from_str(&past.detail).unwrap_or_default();
        let is_session = past.name.is_some();
        if is_session && form.violent && !shown.violent() {
            return Ok(());
        }
        found += u64::from(is_session);
        if form.json {
            writeln!(out, "{}", line(&past))?;
        } else {
            let mut row = vec![Cell::new(to_line(past.host.as_bytes()).into_owned())];
            row.extend(shown.row(&stored(&past)));
            table.push(row, out)?;
        }
        Ok(())
    })
    .await?;
    table.flush(out)?;
    Ok(found)
}

fn line(past: &FleetEvent) -> Value {
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

/// As the journal of that host has it.
fn stored(past: &FleetEvent) -> Stored {
    let raw = |text: &Option<String>| text.as_deref().map(from_json);
    Stored {
        seq: past.seq.unsigned_abs(),
        entry: Entry {
            at_unix_ns: past.at_us.saturating_mul(1_000),
            boottime_ns: 0,
            boot_id: String::new(),
            kind: past.kind.clone(),
            home: raw(&past.home),
            home_mnt_ns: None,
            name: raw(&past.name),
            pid: past.pid.map(i32::cast_unsigned),
            start_boottime_ns: None,
            detail: past.detail.clone(),
        },
    }
}

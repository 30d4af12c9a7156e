//! `observer watch --database-url …`: all hosts in one terminal.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Exit;
use super::watch::shown;
use crate::mirror::connect::Connected;
use crate::mirror::follow::{FleetFrame, Follow};
use crate::mirror::schema;
use crate::socket::hub::{Interest, Scope};
use crate::text::bytes::from_json;

/// Writes the state, then what changes, until the connection ends.
pub async fn watch(connected: Connected, interest: Interest, json: bool) -> anyhow::Result<Exit> {
    schema::check(&connected.client).await?;
    let mut out = io::BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
    let mut json_out = io::BufWriter::new(io::stdout());
    let (mut follow, mut frames) = Follow::begin(connected).await?;
    let mut seq = 0_u64;
    loop {
        for mut frame in frames.into_iter().filter(|frame| wanted(&interest, frame)) {
            seq += 1;
            frame.insert("seq".into(), json!(seq));
            if json {
                writeln!(json_out, "{}", serde_json::to_string(&frame)?)?;
            } else if let Some(line) = shown(&frame) {
                writeln!(out, "{line}")?;
            }
        }
        json_out.flush()?;
        out.flush()?;
        frames = follow.next().await?;
    }
}

fn wanted(interest: &Interest, frame: &FleetFrame) -> bool {
    let text = |name: &str| frame.get(name).and_then(Value::as_str).map(from_json);
    match (text("name"), text("home")) {
        (Some(name), Some(home)) => interest.wants(Scope::Session { name: &name, home: &home }),
        _ => interest.wants(Scope::Always),
    }
}

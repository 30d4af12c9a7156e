//! `observer watch --database-url …`: sessions of all hosts, from a database.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::frame::line_of_host;
use crate::cli::exit::Exit;
use crate::mirror::connect::Connected;
use crate::mirror::follow::{FleetFrame, Follow};
use crate::mirror::schema;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::from_json;

/// Prints the state, then every change, until the connection ends: that is an error.
pub async fn watch(connected: Connected, filter: WatchFilter, json: bool) -> anyhow::Result<Exit> {
    schema::check(&connected.client).await?;
    let mut out = io::BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
    let mut json_out = io::BufWriter::new(io::stdout());
    let (mut follow, mut frames) = Follow::begin(connected).await?;
    let mut seq = 0_u64;
    loop {
        for mut frame in frames.into_iter().filter(|frame| wanted(&filter, frame)) {
            seq += 1;
            frame.insert("seq".into(), json!(seq));
            if json {
                writeln!(json_out, "{}", serde_json::to_string(&frame)?)?;
            } else if let Some(line) = line_of_host(&frame) {
                writeln!(out, "{line}")?;
            }
        }
        json_out.flush()?;
        out.flush()?;
        frames = follow.next().await?;
    }
}

fn wanted(filter: &WatchFilter, frame: &FleetFrame) -> bool {
    let text = |name: &str| frame.get(name).and_then(Value::as_str).map(from_json);
    match (text("name"), text("home")) {
        (Some(name), Some(home)) => filter.wants(FrameScope::Session { name: &name, home: &home }),
        _ => filter.wants(FrameScope::Always),
    }
}

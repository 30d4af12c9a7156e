//! `observer timeline`

mod fleet;
mod labels;
mod lives;
mod local;
mod scale;
mod svg;
mod text;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use jiff::tz::TimeZone;

use self::lives::Lives;
use self::scale::Window;
use super::exit::{Exit, Failure};
use super::past::{PastFlags, PastSource, when};
use super::term;
use crate::clock;
use crate::mirror::connect::Purpose;
use crate::socket::hub::WatchFilter;
use crate::text::bytes::to_line;

/// Cells of a line where standard output is not a terminal.
const WIDTH_DEFAULT: usize = 80;

/// When sessions lived and how they ended: a row for each. Reads the journal's file as `history` does.
#[derive(Args)]
pub struct TimelineArgs {
    /// Only sessions whose name matches; with a `/` in it, those whose home does
    glob: Option<String>,
    /// From then on: a span before now (24h, 7d), a date, or an RFC 3339 moment
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = when)]
    since: i64,
    /// Write a picture to this file (`-`: standard output), for a browser or a document
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    past: PastFlags,
}

impl TimelineArgs {
    /// 0 some, 1 certainly none, 2 wrong usage, 4 the journal or the database cannot be read.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let usage = |message: String| Failure { exit: Exit::Usage, message };
        let filter = WatchFilter::new(false, self.glob.as_deref()).map_err(usage)?;
        let now_ns = i64::try_from(clock::realtime_ns()).unwrap_or(i64::MAX);
        let window = Window { since_ns: self.since, until_ns: self.past.until.unwrap_or(now_ns) };
        if window.since_ns >= window.until_ns {
            return Err(usage(
                "--since must be earlier than --until, and than now; correct one of them".into(),
            )
            .into());
        }
        let PastFlags { places, database, host, .. } = &self.past;
        let lives = match self.past.source()? {
            PastSource::Mirror => database.with(Purpose::Read, async |connected| {
                fleet::read(connected, database, host.as_deref(), &filter, window).await
            })?,
            PastSource::Journal => local::read(places, socket, &filter, window)?,
        };
        self.show(&lives)
    }

    fn show(&self, lives: &Lives) -> anyhow::Result<Exit> {
        let zone = TimeZone::system();
        match &self.svg {
            Some(path) if path.as_os_str() == "-" => term::print_text(&svg::document(lives, &zone))?,
            Some(path) => fs::write(path, svg::document(lives, &zone)).with_context(|| {
                let path = to_line(path.as_os_str().as_encoded_bytes());
                format!("cannot write {path}; name a file in a directory that you may write to")
            })?,
            None if lives.rows.is_empty() => {}
            None => {
                let mut out = io::BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
                for line in text::lines(lives, term::width().unwrap_or(WIDTH_DEFAULT), &zone) {
                    writeln!(out, "{line}")?;
                }
                out.flush()?;
            }
        }
        if lives.rows.is_empty() {
            anstream::eprintln!(
                "observer: no session is known that lived in that time; `observer history` shows all that is known"
            );
            return Ok(Exit::None);
        }
        Ok(Exit::Found)
    }
}

//! `observer history`

mod fleet;
mod lines;
mod local;
mod reason;
mod sentence;
pub(super) mod shown;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Args;

use self::local::LocalHistory;
use self::shown::{Form, local_time};
use super::exit::{Exit, Failure};
use super::past::{PastFlags, PastSource, when};
use super::{home, term};
use crate::journal::{EntryFilter, JournalReader};
use crate::mirror::connect::Purpose;
use crate::mirror::history::EventQuery;
use crate::text::bytes::{to_json, to_line};

/// Reads the journal's file: the one that is named, else that of the daemon on --socket, else the default one. Needs root, or
/// the group observer.
#[derive(Args)]
pub struct HistoryArgs {
    /// Only this session's name, or its home: an absolute path, `.` or a path that begins with `./` or `../`
    #[arg(value_name = "NAME|HOME")]
    session: Option<OsString>,
    /// No earlier: a span before now (24h, 7d), a date, or an RFC 3339 moment
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<i64>,
    /// Only sessions that a signal or the lack of memory ended, in sentences
    #[arg(long = "killed")]
    forced: bool,
    /// JSON: an object a line (docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    past: PastFlags,
}

/// Streams and the form of the output.
struct Output<'a, O, E> {
    out: &'a mut O,
    err: &'a mut E,
    form: Form,
}

impl HistoryArgs {
    /// 0 found, 1 certainly nothing, 2 wrong usage, 3 several homes have the name, 4 the journal or the database cannot
    /// be read.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let mut out = io::BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
        let exit = self.print(socket, &mut out, &mut io::stderr().lock(), term::width())?;
        out.flush()?;
        Ok(exit)
    }

    fn print(
        &self,
        socket: &Path,
        out: &mut impl Write,
        err: &mut impl Write,
        width: Option<usize>,
    ) -> anyhow::Result<Exit> {
        let usage = |message: String| Err(Failure { exit: Exit::Usage, message }.into());
        if let (Some(since), Some(until)) = (self.since, self.past.until)
            && since >= until
        {
            let (since, until) = (local_time(since), local_time(until));
            return usage(format!(
                "--since ({since}) must be earlier than --until ({until}); correct one of them"
            ));
        }
        let form = Form { json: self.json, forced: self.forced, width };
        let output = Output { out, err, form };
        let session = self.session.as_ref().map(|session| home::absolute(session.as_bytes())).transpose()?;
        match self.past.source()? {
            PastSource::Mirror => self.print_mirrored(session.as_deref(), output),
            PastSource::Journal => self.print_local(socket, session.as_deref(), output),
        }
    }

    /// History of this machine, or of `session` on it, from its journal.
    fn print_local(
        &self,
        socket: &Path,
        session: Option<&[u8]>,
        output: Output<'_, impl Write, impl Write>,
    ) -> anyhow::Result<Exit> {
        let found = self.past.places.journal(socket)?;
        if let Some(why) = found.why {
            let path = to_line(found.path.as_os_str().as_encoded_bytes());
            writeln!(output.err, "observer: this is the journal {path}, {why}")?;
        }
        let filter = EntryFilter {
            since_ns: self.since,
            until_ns: self.past.until,
            ends: self.forced,
            ..EntryFilter::default()
        };
        let history = LocalHistory::new(JournalReader::open(&found.path)?, filter);
        history.print(session, output.form, output.out, output.err)
    }

    /// History of all hosts or one, from the mirror. A name may belong to several homes there.
    fn print_mirrored(
        &self,
        session: Option<&[u8]>,
        output: Output<'_, impl Write, impl Write>,
    ) -> anyhow::Result<Exit> {
        let text = |bytes: &[u8]| to_json(bytes).into_owned();
        let (home, name) = match session {
            Some(home) if home.starts_with(b"/") => (Some(text(home::plain(home))), None),
            name => (None, name.map(text)),
        };
        let wanted = EventQuery {
            host: self.past.host.clone(),
            since_us: self.since.map(|ns| ns.div_euclid(1_000)),
            until_us: self.past.until.map(|ns| ns.div_euclid(1_000)),
            name,
            home,
            ends: self.forced,
        };
        let found = self.past.database.with(Purpose::Read, async |connected| {
            fleet::print(connected, &wanted, output.form, output.out).await
        })?;
        if found > 0 {
            return Ok(Exit::Found);
        }
        writeln!(
            output.err,
            "observer: the mirror holds nothing of that; see SELECT host, host_id FROM observer.hosts"
        )?;
        Ok(Exit::None)
    }
}

#[cfg(test)]
mod tests;

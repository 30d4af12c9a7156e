//! `observer watch`

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use anstyle::Style;
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::database::DatabaseFlags;
use super::{Exit, Failure, fleet};
use crate::api::death::DeathJson;
use crate::mirror::connect::Purpose;
use crate::socket::client::{Client, decode, told};
use crate::socket::frame::Request;
use crate::socket::hub::Interest;
use crate::text::bytes::{Text, to_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::time::time_of_day;

/// A snapshot, then every change, until interrupted. Needs the daemon: exits 4 without one.
#[derive(Args)]
pub struct Watch {
    /// JSON: a frame a line (docs/json.md)
    #[arg(long)]
    json: bool,
    /// Also processes that are in no session
    #[arg(long)]
    all: bool,
    /// Only what matches: a session's name (with --all: a comm); with a `/` in it, its home
    glob: Option<String>,
    /// All hosts that mirror to this database, without a daemon
    #[command(flatten)]
    database: DatabaseFlags,
}

impl Watch {
    /// 4 when the daemon goes; else it does not end by itself.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        if self.database.url()?.is_some() {
            return self.fleet();
        }
        let mut client = Client::connect(socket)?;
        client.send(&Request::Watch { all: self.all, glob: self.glob.clone() })?;
        client.wait_for_ever()?;
        let mut out = io::BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
        let mut json_out = io::BufWriter::new(io::stdout());
        let mut unnumbered = Unnumbered::default();
        loop {
            let line = client.read_line()?;
            told(&line)?;
            if self.json {
                json_out.write_all(&line)?;
                json_out.write_all(b"\n")?;
            } else {
                let frame = decode::<Frame<'_>>(&line)?;
                if let Some(shown) = frame.shown(self.all).filter(|_| !unnumbered.repeats(&frame)) {
                    writeln!(out, "{shown}")?;
                }
            }
            if client.is_drained() {
                json_out.flush()?;
                out.flush()?;
            }
        }
    }
}

impl Watch {
    /// 4 when the database goes.
    fn fleet(&self) -> anyhow::Result<Exit> {
        let usage = |message: String| Failure { exit: Exit::Usage, message };
        if self.all {
            return Err(usage("--all: only sessions are mirrored; leave it out".into()).into());
        }
        let interest = Interest::new(false, self.glob.as_deref()).map_err(usage)?;
        self.database
            .with(Purpose::Read, async |connected| fleet::watch(connected, interest, self.json).await)
    }
}

/// The line of a database's frame, if there is one for people. What is there may be anybody's.
pub fn shown(frame: &Map<String, Value>) -> Option<String> {
    let json = serde_json::to_string(frame).ok()?;
    let shown = |json: &str| Some(serde_json::from_str::<Frame<'_>>(json).ok()?.shown(false));
    shown(&json).unwrap_or_else(|| {
        // `host` and `event_seq` are columns; `at` is anybody's.
        let at = frame.get("at").filter(|at| at.is_string());
        let of = [("at", at), ("host", frame.get("host")), ("event_seq", frame.get("event_seq"))]
            .map(|(name, value)| (name.to_owned(), Value::from(value.cloned())));
        let strange = Map::from_iter(of.into_iter().chain([("kind".to_owned(), "strange".into())]));
        shown(&serde_json::to_string(&strange).ok()?).flatten()
    })
}

/// Changes of sessions that were shown before the journal took them: the entry that follows shows nothing new.
#[derive(Default)]
struct Unnumbered {
    /// What was shown last, by home.
    shown: HashMap<Vec<u8>, String>,
}

impl Unnumbered {
    /// Whether the frame shows what the last one of its home showed, which had no number.
    fn repeats(&mut self, frame: &Frame<'_>) -> bool {
        let Some(home) = frame.home.as_ref().filter(|_| frame.kind.starts_with("session_")) else {
            return false;
        };
        if frame.kind == "session_changed" && frame.event_seq.is_none() {
            self.shown.insert(home.as_bytes().to_vec(), frame.session());
            return false;
        }
        let before = self.shown.remove(home.as_bytes());
        frame.kind == "session_changed" && before.is_some_and(|before| before == frame.session())
    }
}

/// What a person is shown of a frame.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Frame<'a> {
    at: Option<String>,
    host: Option<Text<'a>>,
    present: bool,
    kind: String,
    event_seq: Option<u64>,
    name: Option<Text<'a>>,
    home: Option<Text<'a>>,
    pid: u32,
    comm: Text<'a>,
    cwd: Option<Text<'a>>,
    state: String,
    roots: u32,
    tty: Option<Text<'a>>,
    death: Option<DeathJson<'a>>,
    end_reason: Option<String>,
    lost: u64,
    corrected: u64,
}

impl Frame<'_> {
    /// One line; `None` for frames that only matter to programs. Without `all`, a process in a session is told by
    /// its session.
    fn shown(&self, all: bool) -> Option<String> {
        let line = |mark: &str, style: Style, rest: String| {
            let at = self.at.as_deref().map_or_else(|| "never".into(), time_of_day);
            let host = self.host.as_ref().map(|host| format!("{}  ", to_line(host.as_bytes())));
            let host = host.unwrap_or_default();
            Some(format!("{FAINT}{at}{FAINT:#}  {style}{mark:<8}{style:#}  {host}{rest}"))
        };
        match self.kind.as_str() {
            "strange" => {
                let entry = self.event_seq.map_or_else(|| "a session".into(), |seq| format!("event {seq}"));
                line("strange", BAD, format!("{entry} cannot be read: another version's, or not observer's"))
            }
            "session" if self.state == "unknown" => line("unknown", NOTICE, self.session()),
            "session" => line("is", FAINT, self.session()),
            "host_present" => line("present", GOOD, "its daemon is there".into()),
            "host" | "host_lost" if !self.present => {
                line("lost", BAD, "its daemon is not there: nobody can say what its sessions do".into())
            }
            "gap" => line("missing", BAD, "what happened is not known: observer history says why".into()),
            "session_started" => line("started", GOOD, self.session()),
            "session_changed" => {
                line(if self.state == "live" { "changed" } else { &self.state }, NOTICE, self.session())
            }
            "session_ended" => line("ended", BAD, format!("{}  {}", self.session(), self.end())),
            "gap_opened" => line("gap", BAD, "events were lost; the kernel is read again".into()),
            "gap_closed" => {
                line("healed", NOTICE, format!("{} events lost, {} corrections", self.lost, self.corrected))
            }
            "lagged" => line("lagged", BAD, "this reader was too slow; a new snapshot follows".into()),
            "process" if all => line("is", FAINT, self.process()),
            "process_started" if all => line("born", GOOD, self.process()),
            "process_execed" if all => line("exec", NOTICE, self.process()),
            "process_moved" if all => line("moved", NOTICE, self.process()),
            "process_changed" if all => line("changed", FAINT, self.process()),
            "process_ended" if all => line("died", BAD, format!("{}  {}", self.process(), self.end())),
            _ => None,
        }
    }

    fn session(&self) -> String {
        let name = self.name.as_ref().map(|name| to_line(name.as_bytes())).unwrap_or_default();
        let home = self.home.as_ref().map(|home| to_line(home.as_bytes())).unwrap_or_default();
        let others = if self.roots > 1 { format!("  +{} more", self.roots - 1) } else { String::new() };
        let tty = self.tty.as_ref().map(|tty| format!("  {}", to_line(tty.as_bytes()))).unwrap_or_default();
        let comm = to_line(self.comm.as_bytes());
        format!("{STRONG}{name}{STRONG:#}  {}  {comm}{tty}  {home}{others}", self.pid)
    }

    fn process(&self) -> String {
        let cwd = self.cwd.as_ref().map_or("?".into(), |cwd| to_line(cwd.as_bytes()));
        format!("{}  {STRONG}{}{STRONG:#}  {cwd}", self.pid, to_line(self.comm.as_bytes()))
    }

    fn end(&self) -> String {
        let reason = DeathJson::end_words(self.death.as_ref(), self.end_reason.as_deref());
        to_line(reason.as_bytes()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(json: &str, all: bool) -> Option<String> {
        let frame: Frame<'_> = serde_json::from_str(json).unwrap();
        frame.shown(all).map(|line| anstream::adapter::strip_str(&line).to_string())
    }

    #[test]
    fn a_change_that_was_shown_without_a_number_is_not_shown_again_with_it() {
        let frame = |kind: &str, seq: &str, tty: &str| -> Frame<'static> {
            let json = format!(
                r#"{{"kind":"{kind}",{seq}"name":"a","home":"/a","pid":7,"tty":"{tty}","state":"live"}}"#
            );
            serde_json::from_str::<Frame<'_>>(Box::leak(json.into_boxed_str())).unwrap()
        };
        let mut unnumbered = Unnumbered::default();
        let numbered = r#""event_seq":3,"#;
        for (kind, seq, tty, repeats) in [
            ("session_started", numbered, "pts/1", false),
            ("session_changed", numbered, "pts/1", false),
            ("session_changed", "", "pts/2", false),
            ("session_changed", numbered, "pts/2", true),
            ("session_changed", numbered, "pts/2", false),
            ("session_changed", "", "pts/3", false),
            ("session_changed", numbered, "pts/4", false),
            ("session_changed", "", "pts/4", false),
            ("session_ended", numbered, "pts/4", false),
        ] {
            assert_eq!(unnumbered.repeats(&frame(kind, seq, tty)), repeats, "{kind} {seq} {tty}");
        }
    }

    #[test]
    fn frames_are_one_harmless_line() {
        let started = plain(
            r#"{"seq":1,"at":"x\u001b[2J","kind":"session_started","name":"a\nb","home":"/h/\u202e","pid":7,
                "comm":"\u001b]0;","tty":"pts/3","roots":3,"state":"live","death":null}"#,
            false,
        )
        .unwrap();
        let rest = r"x\x1b[2J  started   a\nb  7  \x1b]0;  pts/3  /h/\u{202e}  +2 more";
        assert_eq!(started, rest);
        assert_eq!(plain(r#"{"kind":"snapshot_end"}"#, true), None);
        assert_eq!(plain(r#"{"kind":"process_started","pid":3}"#, false), None);
        assert!(
            plain(r#"{"kind":"process_started","pid":3,"comm":"ls"}"#, true)
                .unwrap()
                .contains("born      3  ls  ?")
        );
    }

    #[test]
    fn what_a_database_has_and_nobody_can_read_is_told_and_ends_nothing() {
        for hostile in [
            r#""pid":"x""#,
            r#""comm":5"#,
            r#""at":"2026-11-21T00:00:00Z","roots":-1"#,
            r#""death":7"#,
            r#""at":8"#,
        ] {
            let json = format!(r#"{{"host":"web\n1","event_seq":8,"kind":"session_started",{hostile}}}"#);
            let line = shown(&serde_json::from_str(&json).unwrap()).unwrap();
            let line = anstream::adapter::strip_str(&line).to_string();
            assert!(
                line.contains("strange") && line.contains("web\\n1") && line.contains("event 8"),
                "{line}"
            );
        }
    }

    #[test]
    fn ends_say_how() {
        let ended = |death: &str| {
            plain(&format!(r#"{{"kind":"session_ended","name":"a","pid":7,"death":{death}}}"#), false)
                .unwrap()
        };
        assert!(ended(r#"{"kind":"signaled","signal":9,"signal_name":"SIGKILL"}"#).ends_with("SIGKILL"));
        assert!(ended(r#"{"kind":"exited","code":3}"#).ends_with("exit 3"));
        assert!(ended(r#"{"kind":"signaled","signal_name":"SIG\u001b"}"#).ends_with(r"SIG\x1b"));
        let frame = r#"{"kind":"session_ended","name":"a","pid":7,"death":null,"end_reason":"not_admitted"}"#;
        assert!(plain(frame, false).unwrap().ends_with("no rule admits it any more"));
    }
}

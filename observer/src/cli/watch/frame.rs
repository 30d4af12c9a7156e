//! A frame of `watch`, as the line that a person sees.

use std::borrow::Cow;
use std::collections::HashMap;

use anstyle::Style;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::changed::Changed;
use crate::api::death::DeathJson;
use crate::api::left::LeftJson;
use crate::api::restarts::RestartsJson;
use crate::api::session::SessionJson;
use crate::api::words::{FrameKind, SessionEndReason, SessionState};
use crate::cli::changes::describe;
use crate::text::bytes::{Text, from_json, to_line, to_one_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::time::time_of_day;

/// Cells that the words about a change take.
const CHANGE_CELLS: usize = 100;

/// Which processes have lines of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// None: the line of a session shows its primary.
    OfSessions,
    /// Every process.
    All,
}

/// The fields of a frame that a person sees.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct WatchFrame<'a> {
    at: Option<String>,
    host: Option<Text<'a>>,
    present: bool,
    kind: FrameKind,
    event_seq: Option<u64>,
    name: Option<Text<'a>>,
    home: Option<Text<'a>>,
    pid: u32,
    comm: Text<'a>,
    program: Option<Text<'a>>,
    cwd: Option<Text<'a>>,
    state: SessionState,
    roots: u32,
    tty: Option<Text<'a>>,
    changed: Option<Changed<'a>>,
    restarts: Option<RestartsJson<'a>>,
    death: Option<DeathJson<'a>>,
    left: Option<LeftJson>,
    end_reason: Option<SessionEndReason>,
    lost: u64,
    corrected: u64,
}

/// Changes of sessions that were shown before the journal took them. The numbered frame that follows shows nothing new.
#[derive(Default)]
pub struct UnnumberedChanges {
    /// The session as it was shown last, by home.
    shown: HashMap<Vec<u8>, SessionJson<'static>>,
}

impl UnnumberedChanges {
    /// Whether `frame` has the values of the last frame of its home, which had no number. `json` is the frame.
    pub fn is_repeated_by(&mut self, frame: &WatchFrame<'_>, json: &[u8]) -> bool {
        let is_session = matches!(
            frame.kind,
            FrameKind::SessionStarted | FrameKind::SessionChanged | FrameKind::SessionEnded
        );
        let Some(home) = frame.home.as_ref().filter(|_| is_session) else { return false };
        let before = self.shown.remove(home.as_bytes());
        if frame.kind != FrameKind::SessionChanged {
            return false;
        }
        let Ok(session) = serde_json::from_slice::<SessionJson<'_>>(json) else { return false };
        let is_repeated = before.is_some_and(|before| Changed::between(&before, &session).is_empty());
        if frame.event_seq.is_none() {
            self.shown.insert(home.as_bytes().to_vec(), session);
        }
        is_repeated
    }
}

/// The line of a frame that came from a database; `None` for frames that concern programs only. Another program may
/// have written what the database holds: a frame that cannot be decoded gets a line that says so.
pub fn line_of_host(frame: &Map<String, Value>) -> Option<String> {
    let json = serde_json::to_string(frame).ok()?;
    match serde_json::from_str::<WatchFrame<'_>>(&json) {
        Ok(frame) => frame.line(Processes::OfSessions),
        Err(_) => Some(unreadable_line(frame)),
    }
}

/// The line of a frame that cannot be decoded. `host` and `event_seq` are columns of the database; `at` may be anything.
fn unreadable_line(frame: &Map<String, Value>) -> String {
    let text = |name: &str| frame.get(name).and_then(Value::as_str);
    let entry = frame.get("event_seq").and_then(Value::as_u64);
    let entry = entry.map_or_else(|| "a session".into(), |seq| format!("event {seq}"));
    let host = text("host").map(|host| Text::from(from_json(host)));
    let rest = format!("{entry} cannot be read: another version's, or not observer's");
    line(text("at"), host.as_ref(), "strange", BAD, &rest)
}

fn line(at: Option<&str>, host: Option<&Text<'_>>, mark: &str, style: Style, rest: &str) -> String {
    let at = at.map_or_else(|| "never".into(), time_of_day);
    let host = host.map(|host| format!("{}  ", to_line(host.as_bytes()))).unwrap_or_default();
    format!("{FAINT}{at}{FAINT:#}  {style}{mark:<8}{style:#}  {host}{rest}")
}

impl WatchFrame<'_> {
    /// The line; `None` for frames that concern programs only, and for those of processes unless all are `wanted`.
    pub fn line(&self, wanted: Processes) -> Option<String> {
        let (mark, style, rest) = self.of_session().or_else(|| self.of_host()).or_else(|| match wanted {
            Processes::All => self.of_process(),
            Processes::OfSessions => None,
        })?;
        Some(line(self.at.as_deref(), self.host.as_ref(), mark, style, &rest))
    }

    /// Mark, style and text of a frame that concerns a session, or every session.
    fn of_session(&self) -> Option<(&'static str, Style, String)> {
        Some(match self.kind {
            FrameKind::Session if self.state == SessionState::Unknown => ("unknown", NOTICE, self.session()),
            FrameKind::Session => ("is", FAINT, self.session()),
            FrameKind::SessionStarted | FrameKind::SessionEnded if let Some(restarts) = &self.restarts => {
                ("restarts", BAD, format!("{}  {}", self.session(), restarts.describe()))
            }
            FrameKind::SessionStarted => ("started", GOOD, self.session()),
            FrameKind::SessionChanged if self.state == SessionState::Live => {
                ("changed", NOTICE, self.changed_session())
            }
            FrameKind::SessionChanged => (self.state.as_str(), NOTICE, self.changed_session()),
            FrameKind::SessionEnded => ("ended", BAD, format!("{}  {}", self.session(), self.end())),
            FrameKind::SessionLeft => {
                let left = self.left.as_ref().and_then(LeftJson::describe).unwrap_or_default();
                ("leftover", NOTICE, format!("{}  {left}", self.session()))
            }
            FrameKind::GapOpened => ("gap", BAD, "events were lost; the kernel is read again".into()),
            FrameKind::GapClosed => {
                ("healed", NOTICE, format!("{} events lost, {} corrections", self.lost, self.corrected))
            }
            FrameKind::Lagged => ("lagged", BAD, "this reader was too slow; a new snapshot follows".into()),
            _ => return None,
        })
    }

    /// The same for a frame that concerns a host.
    fn of_host(&self) -> Option<(&'static str, Style, String)> {
        Some(match self.kind {
            FrameKind::HostPresent => ("present", GOOD, "its daemon is there".into()),
            FrameKind::Host | FrameKind::HostLost if !self.present => {
                ("lost", BAD, "its daemon is not there: nobody can say what its sessions do".into())
            }
            FrameKind::Gap => {
                ("missing", BAD, "what happened is not known: observer history says why".into())
            }
            _ => return None,
        })
    }

    /// The same for a frame that concerns a process.
    fn of_process(&self) -> Option<(&'static str, Style, String)> {
        Some(match self.kind {
            FrameKind::Process => ("is", FAINT, self.process()),
            FrameKind::ProcessStarted => ("born", GOOD, self.process()),
            FrameKind::ProcessExeced => ("exec", NOTICE, self.process()),
            FrameKind::ProcessMoved => ("moved", NOTICE, self.process()),
            FrameKind::ProcessChanged => ("changed", FAINT, self.process()),
            FrameKind::ProcessEnded => ("died", BAD, format!("{}  {}", self.process(), self.end())),
            _ => return None,
        })
    }

    fn session(&self) -> String {
        let name = self.name.as_ref().map(|name| to_line(name.as_bytes())).unwrap_or_default();
        let home = self.home.as_ref().map(|home| to_line(home.as_bytes())).unwrap_or_default();
        let others = if self.roots > 1 { format!("  +{} more", self.roots - 1) } else { String::new() };
        let tty = self.tty.as_ref().map(|tty| format!("  {}", to_line(tty.as_bytes()))).unwrap_or_default();
        let program = self.shown_program();
        format!("{STRONG}{name}{STRONG:#}  {}  {program}{tty}  {home}{others}", self.pid)
    }

    /// The session, and what changed.
    fn changed_session(&self) -> String {
        let words = self.changed.as_ref().map(|changed| describe(changed, CHANGE_CELLS)).unwrap_or_default();
        let gap = if words.is_empty() { "" } else { "  " };
        format!("{}{gap}{words}", self.session())
    }

    fn process(&self) -> String {
        let cwd = self.cwd.as_ref().map_or("?".into(), |cwd| to_line(cwd.as_bytes()));
        format!("{}  {STRONG}{}{STRONG:#}  {cwd}", self.pid, self.shown_program())
    }

    fn shown_program(&self) -> Cow<'_, str> {
        to_line(self.program.as_ref().unwrap_or(&self.comm).as_bytes())
    }

    fn end(&self) -> String {
        let death = self.death.as_ref().map(|death| death.describe_in_full(Some(self.pid)));
        let end = DeathJson::describe_end(death, self.end_reason);
        to_one_line(&end).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(json: &str, wanted: Processes) -> Option<String> {
        let frame: WatchFrame<'_> = serde_json::from_str(json).unwrap();
        frame.line(wanted).map(|line| anstream::adapter::strip_str(&line).to_string())
    }

    #[test]
    fn a_change_that_was_shown_without_a_number_is_not_shown_again_with_it() {
        let mut unnumbered = UnnumberedChanges::default();
        let numbered = r#""event_seq":3,"#;
        for (kind, seq, tty, cwd, repeats) in [
            ("session_started", numbered, "pts/1", "/a", false),
            ("session_changed", numbered, "pts/1", "/a", false),
            ("session_changed", "", "pts/2", "/a", false),
            ("session_changed", numbered, "pts/2", "/a", true),
            ("session_changed", numbered, "pts/2", "/a", false),
            ("session_changed", "", "pts/3", "/a", false),
            ("session_changed", numbered, "pts/4", "/a", false),
            ("session_changed", "", "pts/4", "/a", false),
            ("session_changed", "", "pts/4", "/a/b", false),
            ("session_changed", numbered, "pts/4", "/a/b", true),
            // The journal had no room.
            ("session_changed", "", "pts/4", "/a/e", false),
            ("session_changed", r#""event_seq":null,"#, "pts/4", "/a/e", true),
            // It went and came back, of which the journal has nothing, and goes again.
            ("session_changed", "", "pts/4", "/a/c", false),
            ("session_changed", "", "pts/4", "/a/b", false),
            ("session_changed", numbered, "pts/4", "/a/d", false),
            ("session_changed", "", "pts/4", "/a/b", false),
            ("session_ended", numbered, "pts/4", "/a/b", false),
            ("session_changed", numbered, "pts/4", "/a/b", false),
        ] {
            let json = format!(
                r#"{{"kind":"{kind}",{seq}"name":"a","home":"/a","pid":7,"tty":"{tty}","cwd":"{cwd}","state":"live"}}"#
            );
            let frame: WatchFrame<'_> = serde_json::from_str(&json).unwrap();
            let is_repeated = unnumbered.is_repeated_by(&frame, json.as_bytes());
            assert_eq!(is_repeated, repeats, "{kind} {seq} {tty} {cwd}");
        }
    }

    #[test]
    fn frames_are_one_harmless_line() {
        let started = plain(
            r#"{"seq":1,"at":"x\u001b[2J","kind":"session_started","name":"a\nb","home":"/h/\u202e","pid":7,
                "comm":"MainThread","program":"\u001b]0;","tty":"pts/3","roots":3,"state":"live","death":null}"#,
            Processes::OfSessions,
        )
        .unwrap();
        let rest = r"x\x1b[2J  started   a\nb  7  \x1b]0;  pts/3  /h/\u{202e}  +2 more";
        assert_eq!(started, rest);
        assert_eq!(plain(r#"{"kind":"snapshot_end"}"#, Processes::All), None);
        let left = r#"{"kind":"session_left","name":"a","home":"/srv/a","pid":7,"program":"vim","left":{"processes":2,"rss_bytes":5000000}}"#;
        assert_eq!(
            plain(left, Processes::OfSessions).unwrap(),
            "never  leftover  a  7  vim  /srv/a  left 2 processes, 5.0 MB"
        );
        assert_eq!(plain(r#"{"kind":"process_started","pid":3}"#, Processes::OfSessions), None);
        assert!(
            plain(r#"{"kind":"process_started","pid":3,"comm":"ls"}"#, Processes::All)
                .unwrap()
                .contains("born      3  ls  ?")
        );
    }

    #[test]
    fn the_line_of_a_change_states_what_changed() {
        let changed = |rest: &str| {
            let frame =
                format!(r#"{{"kind":"session_changed","name":"a","home":"/a","pid":7,"comm":"vim",{rest}}}"#);
            plain(&frame, Processes::OfSessions).unwrap()
        };
        let line = changed(r#""state":"live","changed":{"cwd":["/a","/a/\u001bb"]}"#);
        assert_eq!(line, r"never  changed   a  7  vim  /a  in /a/\x1bb");
        let line = changed(r#""state":"left","changed":{"state":["live","left"],"moved_to":[null,"/b"]}"#);
        assert_eq!(line, "never  left      a  7  vim  /a  left for /b");
        for nothing in [r#""changed":null"#, r#""changed":{}"#, r#""changed":{"future":[1,2]}"#] {
            let line = changed(&format!(r#""state":"live",{nothing}"#));
            assert_eq!(line, "never  changed   a  7  vim  /a", "{nothing}");
        }
    }

    #[test]
    fn an_unreadable_frame_of_a_database_is_reported_and_does_not_end_the_watch() {
        for hostile in [
            r#""pid":"x""#,
            r#""comm":5"#,
            r#""at":"2026-11-21T00:00:00Z","roots":-1"#,
            r#""death":7"#,
            r#""at":8"#,
        ] {
            let json = format!(r#"{{"host":"web\n1","event_seq":8,"kind":"session_started",{hostile}}}"#);
            let line = line_of_host(&serde_json::from_str(&json).unwrap()).unwrap();
            let line = anstream::adapter::strip_str(&line).to_string();
            assert!(
                line.contains("strange") && line.contains("web\\n1") && line.contains("event 8"),
                "{line}"
            );
        }
    }

    #[test]
    fn the_line_of_an_end_describes_the_death() {
        let ended = |death: &str| {
            plain(
                &format!(r#"{{"kind":"session_ended","name":"a","pid":7,"death":{death}}}"#),
                Processes::OfSessions,
            )
            .unwrap()
        };
        assert!(ended(r#"{"kind":"signaled","signal":9,"signal_name":"SIGKILL"}"#).ends_with("SIGKILL"));
        assert!(ended(r#"{"kind":"exited","code":3}"#).ends_with("exit 3"));
        assert!(ended(r#"{"kind":"signaled","signal_name":"SIG\u001b"}"#).ends_with(r"SIG\x1b"));
        let frame = r#"{"kind":"session_ended","name":"a","pid":7,"death":null,"end_reason":"not_admitted"}"#;
        assert!(plain(frame, Processes::OfSessions).unwrap().ends_with("no rule admits it any more"));
    }
}

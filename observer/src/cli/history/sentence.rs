//! A killed session in the words of a colleague: who sent which signal, when, and after how long a life.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::reason::{process, reason};
use super::shown::{EntryLine, Shown};
use crate::api::death::{DeathJson, signal_name};
use crate::api::left::LeftJson;
use crate::api::restarts::RestartsJson;
use crate::api::signal::{PoliteSignal, Sender, SenderKind};
use crate::api::words::{DeathCause, EntryKind};
use crate::text::bytes::{to_line, to_one_line};
use crate::text::time::{span, unix_ns};

/// Milliseconds up to which a span has a fraction of a second, and up to which it is in seconds alone.
const FRACTION_MS: u64 = 10_000;
const SECONDS_MS: u64 = 120_000;

/// An entry as its date and time, and a text without line breaks.
pub fn paragraph(shown: &Shown<'_>, line: &EntryLine<'_>, host: Option<&str>) -> (String, String) {
    let when = local(line.at_unix_ns, "%Y-%m-%d %H:%M:%S");
    let on_host = host.map(|host| format!(" on {host}")).unwrap_or_default();
    let end = EndContext { date: local(line.at_unix_ns, "%Y-%m-%d"), pid: line.pid };
    let words = match (&shown.restarts, &shown.death) {
        (Some(restarts), _) => end.restarts(restarts),
        (None, Some(death)) => end.end(death),
        (None, None) if line.kind == EntryKind::SessionLeft => shown.what_is_left(),
        (None, None) => {
            let (event, how) = shown.words(&line.kind, line.pid);
            return (when, to_one_line(&format!("{event}{on_host}: {how}")).into_owned());
        }
    };
    let program = to_line(shown.program.as_ref().unwrap_or(&shown.comm).as_bytes());
    let pid = line.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let (name, home) = (to_line(line.name), to_line(line.home));
    let after = match line.kind {
        EntryKind::ProcessEnded => " Another process took its place.",
        _ => "",
    };
    let text = format!("{name}{on_host} ({program}{pid}, in {home}) {words}.{after}");
    (when, to_one_line(&text).into_owned())
}

/// What all clauses about one end need.
struct EndContext {
    /// The date of the end.
    date: String,
    /// The process that ended.
    pid: Option<u32>,
}

impl EndContext {
    fn restarts(&self, restarts: &RestartsJson<'_>) -> String {
        let (first, last) = (self.time(&restarts.first), self.time(&restarts.last));
        // A death after the last of these starts is counted with the next ones, so these are two facts.
        let forced = restarts.deaths.signaled + restarts.deaths.oom_killed;
        let times = if restarts.count == 1 { "once" } else { &format!("{} times", restarts.count) };
        let were = if forced == 1 { "was" } else { "were" };
        let text = format!("started {times} from {first} to {last}, and {forced} {were} killed in that time");
        match &restarts.last_death {
            Some(death) if matches!(death.kind, DeathCause::Signaled | DeathCause::OomKilled) => {
                format!("{text}; the last time, {}", self.causes(death, None))
            }
            Some(death) => format!("{text}; the last one ended with {}", death.describe()),
            None => text,
        }
    }

    fn end(&self, death: &DeathJson<'_>) -> String {
        let life = death.lifetime_ms.map(|ms| format!(" after {}", lasting(ms))).unwrap_or_default();
        let dumped = if death.core_dumped == Some(true) { "; it dumped its core" } else { "" };
        let left = death.left.as_ref().and_then(LeftJson::describe);
        let left = left.map(|left| format!("; it {left}")).unwrap_or_default();
        format!("was killed{life}: {}{dumped}{left}", self.causes(death, death.between.as_ref()))
    }

    /// The signals that led to the end. `between`: nobody saw when it was.
    fn causes(&self, death: &DeathJson<'_>, between: Option<&[String; 2]>) -> String {
        let at = match between {
            Some([from, to]) => format!("between {} and {}", self.time(from), self.time(to)),
            None => format!("at {}", self.time(&death.at)),
        };
        let polite = death.polite_signal.as_ref();
        let before = polite.map(|polite| self.polite(polite, &death.at)).unwrap_or_default();
        let known = polite.and_then(|polite| polite.sender.as_ref()?.pid);
        let signal = death.signal.unwrap_or_default();
        let name = match &death.signal_name {
            Some(name) => name.clone(),
            None => signal_name(signal),
        };
        let fatal = match (death.kind, &death.sender) {
            (DeathCause::OomKilled, _) => {
                format!("the kernel killed it {at} for lack of memory{}", scope(death))
            }
            (_, Some(sender)) if sender.kind != SenderKind::Unknown => {
                self.sent(sender, signal, &name, &at, known)
            }
            _ => format!("{name} ended it {at}, and who sent it is not known"),
        };
        before + &fatal
    }

    /// The signal that asked it to end before, and how long it went on: `pid 1 (systemd) sent SIGTERM at 09:02:20; it did not
    /// end within 90 s; `.
    fn polite(&self, polite: &PoliteSignal<'_>, end: &str) -> String {
        let name = signal_name(polite.signal);
        let at = format!("at {}", self.time(&polite.at));
        let sent = match &polite.sender {
            Some(sender) if sender.kind != SenderKind::Unknown => {
                self.sent(sender, polite.signal, &name, &at, None)
            }
            _ => format!("{name} came {at}, from whom is not known"),
        };
        let ms = unix_ns(end).zip(unix_ns(&polite.at)).map(|(end, at)| end.saturating_sub(at) / 1_000_000);
        let within = ms.and_then(|ms| u64::try_from(ms).ok()).map(|ms| format!(" within {}", lasting(ms)));
        format!("{sent}; it did not end{}; ", within.unwrap_or_default())
    }

    /// Who sent a signal. A process that is `known` is named by its pid alone.
    fn sent(&self, sender: &Sender<'_>, signal: u8, name: &str, at: &str, known: Option<u32>) -> String {
        if sender.kind == SenderKind::Kernel {
            let sent = format!("the kernel sent {name} {at}");
            return match reason(signal, sender, self.pid) {
                Some(reason) if reason.starts_with("for ") => format!("{sent} {reason}"),
                Some(reason) => format!("{sent}, because {reason}"),
                None => sent,
            };
        }
        match sender.pid {
            Some(pid) if Some(pid) == self.pid => format!("it sent {name} to itself {at}"),
            Some(pid) if Some(pid) == known => format!("pid {pid} sent {name} {at}"),
            Some(_) => format!("{} sent {name} {at}", process(sender)),
            None => format!("a process that is not known sent {name} {at}"),
        }
    }

    /// The time of day, with the date where that is not the one of the end; the text itself where it is no time.
    fn time(&self, rfc3339: &str) -> String {
        let Some(ns) = unix_ns(rfc3339) else { return to_line(rfc3339.as_bytes()).into_owned() };
        if local(ns, "%Y-%m-%d") == self.date {
            local(ns, "%H:%M:%S")
        } else {
            local(ns, "%Y-%m-%d %H:%M:%S")
        }
    }
}

/// Where memory ran out.
fn scope(death: &DeathJson<'_>) -> String {
    let Some(oom) = &death.oom else { return String::new() };
    match (oom.scope.as_str(), &oom.cgroup) {
        (_, Some(cgroup)) => format!(" in the cgroup {}", to_line(cgroup.as_bytes())),
        ("global", None) => " on the whole machine".into(),
        _ => String::new(),
    }
}

/// A span for people: `340 ms`, `2.5 s`, `90 s`, `2h 5m`.
fn lasting(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..FRACTION_MS => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        FRACTION_MS..SECONDS_MS => format!("{} s", ms / 1_000),
        _ => span(ms / 1_000),
    }
}

/// A time, ns since 1970, in this machine's time zone.
fn local(unix_ns: i64, form: &str) -> String {
    let time = Timestamp::from_nanosecond(i128::from(unix_ns));
    time.map_or_else(|_| "?".into(), |time| time.to_zoned(TimeZone::system()).strftime(form).to_string())
}

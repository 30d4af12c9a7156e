//! Deaths as JSON: one shape for every kind of death.

use observer_core::BootTime;
use observer_core::death::{Death, DeathKind, MemoryScope};
use serde::{Deserialize, Serialize};

use super::cost::CostJson;
use super::left::LeftJson;
use super::signal::{PoliteSignal, Sender};
use super::words::{DeathCause, OomScope, SessionEndReason};
use crate::text::bytes::{Text, to_line};
use crate::text::time::{rfc3339, time_of_day, unix_ns};

/// A death, as docs/json.md describes it. A field that is not known is null, never left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeathJson<'a> {
    /// How the process ended.
    pub kind: DeathCause,
    /// Exit code, where it exited.
    pub code: Option<u8>,
    /// Number of the fatal signal, where a signal ended it.
    pub signal: Option<u8>,
    /// Name of the fatal signal.
    pub signal_name: Option<String>,
    /// Whether the kernel reports a core dump.
    pub core_dumped: Option<bool>,
    /// The status that wait(2) returns.
    pub raw_status: Option<u32>,
    /// When it died, RFC 3339; of an unobserved death the end of the interval.
    pub at: String,
    /// From the process's start to `at`; null for an unobserved death.
    pub lifetime_ms: Option<u64>,
    /// Who sent the fatal signal.
    pub sender: Option<Sender<'a>>,
    /// The last signal before it that the process could have handled.
    pub polite_signal: Option<PoliteSignal<'a>>,
    /// What ran out of memory.
    pub oom: Option<Oom<'a>>,
    /// The interval of an unobserved death.
    pub between: Option<[String; 2]>,
    /// What it used, and its descendants that have ended; null for an unobserved death.
    pub cost: Option<CostJson>,
    /// What was born in its session and outlived it; null of what was no session, and where it is not known.
    pub left: Option<LeftJson>,
}

/// Number of SIGKILL.
const SIGKILL: u8 = nix::libc::SIGKILL as u8;

/// What ran out of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Oom<'a> {
    /// What had no memory left.
    pub scope: OomScope,
    /// Path of the cgroup.
    pub cgroup: Option<Text<'a>>,
}

impl Oom<'_> {
    fn new(scope: &MemoryScope) -> Self {
        match scope {
            MemoryScope::Unknown => Self::default(),
            MemoryScope::Host => Self { scope: OomScope::Global, cgroup: None },
            MemoryScope::Cgroup(path) => {
                let cgroup = path.as_ref().map(|path| Text::from(path.to_vec()));
                Self { scope: OomScope::Cgroup, cgroup }
            }
        }
    }
}

impl DeathJson<'_> {
    /// The JSON of the death of a process that started at `start` in the boot `boot_id`.
    pub fn new(death: &Death, start: BootTime, wall_offset_ns: i64, boot_id: &str) -> Self {
        let mut json = Self {
            raw_status: death.raw_status,
            at: rfc3339(death.at, wall_offset_ns),
            lifetime_ms: Some(death.at.since(start) / 1_000_000),
            sender: death.fatal_signal.as_ref().map(|received| Sender::new(received, boot_id)),
            polite_signal: death.polite_signal.as_ref().map(|received| {
                PoliteSignal::new(received, signal_name(received.sent.signal), wall_offset_ns, boot_id)
            }),
            cost: death.cost.as_ref().map(CostJson::new),
            left: death.left.as_ref().map(|left| LeftJson::new(left, boot_id)),
            ..Self::default()
        };
        match death.kind {
            DeathKind::Exited { code } => {
                json.kind = DeathCause::Exited;
                json.code = Some(code);
            }
            DeathKind::Signaled { signal, core_dumped } => {
                json.kind = DeathCause::Signaled;
                json.signal = Some(signal);
                json.signal_name = Some(signal_name(signal));
                json.core_dumped = Some(core_dumped);
            }
            DeathKind::OomKilled => {
                json.kind = DeathCause::OomKilled;
                json.signal = Some(SIGKILL);
                json.signal_name = Some(signal_name(SIGKILL));
                json.core_dumped = Some(false);
                json.oom = Some(Oom::new(&death.memory_scope));
            }
            DeathKind::Unobserved { from, to } => {
                json.kind = DeathCause::Unobserved;
                json.lifetime_ms = None;
                json.between = Some([rfc3339(from, wall_offset_ns), rfc3339(to, wall_offset_ns)]);
            }
        }
        json
    }

    /// A description of a session's end for people: that of the death, or the reason; empty where it is not known.
    pub fn describe_end(death: Option<String>, end_reason: Option<SessionEndReason>) -> String {
        match (death, end_reason) {
            (Some(death), _) => death,
            (None, Some(SessionEndReason::ExecedAway)) => "became another program".into(),
            (None, Some(SessionEndReason::Replaced)) => "its home was replaced".into(),
            (None, Some(SessionEndReason::Moved)) => "it moved to another home".into(),
            (None, Some(SessionEndReason::UserChanged)) => "it changed its user".into(),
            (None, Some(SessionEndReason::NotAdmitted)) => "no rule admits it any more".into(),
            (None, Some(SessionEndReason::Died | SessionEndReason::Unknown) | None) => String::new(),
        }
    }

    /// A description for people, of the death of the process `pid`, with the signals that led to it, and what its session left:
    /// `SIGKILL by oomd (77), 90.0 s after SIGTERM by systemd (1); left 9 processes, 2.5 GB`.
    pub fn describe_in_full(&self, pid: Option<u32>) -> String {
        let left = self.left.as_ref().and_then(LeftJson::describe);
        [Some(self.describe_with_signals(pid)), left].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    fn describe_with_signals(&self, pid: Option<u32>) -> String {
        let by = |sender: Option<&Sender<'_>>| match sender.map(|sender| sender.describe(pid)) {
            Some(sender) if !sender.is_empty() => format!(" by {sender}"),
            _ => String::new(),
        };
        // For lack of memory the kernel alone kills.
        let sender = self.sender.as_ref().filter(|_| self.kind != DeathCause::OomKilled);
        let text = format!("{}{}", self.describe(), by(sender));
        let Some(polite) = &self.polite_signal else { return text };
        let name = signal_name(polite.signal);
        let sent = format!("{name}{}", by(polite.sender.as_ref()));
        match seconds_between(&polite.at, &self.at) {
            Some(seconds) => format!("{text}, {seconds:.1} s after {sent}"),
            None => format!("{text}, after {sent}"),
        }
    }

    /// A short description for people: `exit 3`, `SIGKILL`, `SIGSEGV, core dumped`.
    pub fn describe(&self) -> String {
        match (self.kind, self.code, &self.signal_name, &self.between) {
            (DeathCause::Exited, Some(code), ..) => format!("exit {code}"),
            (DeathCause::Signaled, _, Some(name), _) if self.core_dumped == Some(true) => {
                format!("{name}, core dumped")
            }
            (DeathCause::Signaled, _, Some(name), _) => name.clone(),
            (DeathCause::OomKilled, ..) => self.describe_oom(),
            (DeathCause::Unobserved, _, _, Some([from, to])) => {
                format!("unobserved, between {} and {}", time_of_day(from), time_of_day(to))
            }
            _ => "unknown".into(),
        }
    }
}

impl DeathJson<'_> {
    /// `killed for lack of memory in the cgroup /a`.
    fn describe_oom(&self) -> String {
        let how = "killed for lack of memory";
        let cgroup = self.oom.as_ref().and_then(|oom| oom.cgroup.as_ref());
        match (cgroup, self.oom.as_ref().map(|oom| oom.scope)) {
            (Some(cgroup), _) => format!("{how} in the cgroup {}", to_line(cgroup.as_bytes())),
            (None, Some(OomScope::Cgroup)) => format!("{how} in its cgroup"),
            (None, Some(OomScope::Global)) => format!("{how} on the host"),
            (None, _) => how.into(),
        }
    }
}

/// Seconds from one moment to another, both RFC 3339.
fn seconds_between(from: &str, to: &str) -> Option<f64> {
    Some(unix_ns(to)?.checked_sub(unix_ns(from)?)? as f64 / 1e9)
}

/// `SIGKILL`, `SIGRTMIN+3`; `SIG32` and `SIG33` are the C library's own.
pub fn signal_name(signal: u8) -> String {
    match (nix::sys::signal::Signal::try_from(i32::from(signal)), signal) {
        (Ok(known), _) => known.as_str().into(),
        (_, 34) => "SIGRTMIN".into(),
        (_, 35..=64) => format!("SIGRTMIN+{}", signal - 34),
        _ => format!("SIG{signal}"),
    }
}

#[cfg(test)]
mod tests {
    use observer_core::cost::Cost;
    use serde_json::json;

    use super::*;

    fn shown(death: Death) -> serde_json::Value {
        serde_json::to_value(DeathJson::new(&death, BootTime(1_000_000_000), 0, "boot")).unwrap()
    }

    #[test]
    fn every_field_is_there_and_null_where_unknown() {
        assert_eq!(
            shown(Death::from_status(3 << 8, BootTime(2_500_000_000))),
            json!({"kind": "exited", "code": 3, "signal": null, "signal_name": null, "core_dumped": null,
                "raw_status": 768, "at": "1970-01-01T00:00:02.500Z", "lifetime_ms": 1500, "sender": null,
                "polite_signal": null, "oom": null, "between": null, "cost": null, "left": null})
        );
        assert_eq!(
            shown(Death::from_status(0x8b, BootTime(1_000_000_000))),
            json!({"kind": "signaled", "code": null, "signal": 11, "signal_name": "SIGSEGV", "core_dumped": true,
                "raw_status": 139, "at": "1970-01-01T00:00:01.000Z", "lifetime_ms": 0, "sender": null,
                "polite_signal": null, "oom": null, "between": null, "cost": null, "left": null})
        );
        assert_eq!(
            shown(Death::unobserved(BootTime(2_000_000_000), BootTime(3_000_000_000))),
            json!({"kind": "unobserved", "code": null, "signal": null, "signal_name": null, "core_dumped": null,
                "raw_status": null, "at": "1970-01-01T00:00:03.000Z", "lifetime_ms": null, "sender": null,
                "polite_signal": null, "oom": null, "cost": null, "left": null,
                "between": ["1970-01-01T00:00:02.000Z", "1970-01-01T00:00:03.000Z"]})
        );
    }

    #[test]
    fn a_death_that_was_observed_has_a_cost() {
        let cost = Cost {
            cpu_ns: 1_999_999,
            children_cpu_ns: 3_000_000_000,
            max_rss_pages: 2,
            processes: Some(10_000),
        };
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap();
        let death = Death { cost: Some(cost), ..Death::from_status(0, BootTime(1_000_000_000)) };
        let expected =
            json!({"cpu_ms": 1, "cpu_children_ms": 3000, "max_rss_bytes": 2 * page, "processes": 10_000});
        assert_eq!(shown(death)["cost"], expected);
        let unknown = Death { cost: Some(Cost::default()), ..Death::from_status(0, BootTime(1_000_000_000)) };
        let expected = json!({"cpu_ms": 0, "cpu_children_ms": 0, "max_rss_bytes": null, "processes": null});
        assert_eq!(shown(unknown)["cost"], expected);
    }

    #[test]
    fn a_death_for_lack_of_memory_says_no_more_than_is_known() {
        let mut death = Death::from_status(9, BootTime(1_000_000_000));
        death.kind = DeathKind::OomKilled;
        let at = "1970-01-01T00:00:01.000Z";
        assert_eq!(
            shown(death),
            json!({"kind": "oom_killed", "code": null, "signal": 9, "signal_name": "SIGKILL", "core_dumped": false,
                "raw_status": 9, "at": at, "lifetime_ms": 0, "sender": null, "polite_signal": null,
                "oom": {"scope": "unknown", "cgroup": null}, "between": null, "cost": null, "left": null})
        );
        let of_scope = |memory_scope| {
            let mut death = Death::from_status(9, BootTime(1_000_000_000));
            (death.kind, death.memory_scope) = (DeathKind::OomKilled, memory_scope);
            shown(death).get("oom").cloned()
        };
        assert_eq!(of_scope(MemoryScope::Host), Some(json!({"scope": "global", "cgroup": null})));
        assert_eq!(of_scope(MemoryScope::Cgroup(None)), Some(json!({"scope": "cgroup", "cgroup": null})));
        let path = Some(b"/user/a\n".as_slice().into());
        let expected = json!({"scope": "cgroup", "cgroup": "/user/a\n"});
        assert_eq!(of_scope(MemoryScope::Cgroup(path)), Some(expected));
        let told = |scope, cgroup: Option<&[u8]>| {
            let oom = Some(Oom { scope, cgroup: cgroup.map(|path| Text::from(path.to_vec())) });
            let sender = Some(Sender { kind: super::super::signal::SenderKind::Kernel, ..Sender::default() });
            DeathJson { kind: DeathCause::OomKilled, oom, sender, ..DeathJson::default() }
                .describe_in_full(Some(7))
        };
        assert_eq!(told(OomScope::Unknown, None), "killed for lack of memory");
        assert_eq!(told(OomScope::Global, None), "killed for lack of memory on the host");
        let cgroup: &[u8] = b"/user\n/a";
        let expected = "killed for lack of memory in the cgroup /user";
        assert!(told(OomScope::Cgroup, Some(cgroup)).starts_with(expected));
    }

    #[test]
    fn signals_have_names() {
        let names: Vec<_> = [1, 9, 15, 31, 32, 34, 40, 64, 65].map(signal_name).into();
        let expected = [
            "SIGHUP",
            "SIGKILL",
            "SIGTERM",
            "SIGSYS",
            "SIG32",
            "SIGRTMIN",
            "SIGRTMIN+6",
            "SIGRTMIN+30",
            "SIG65",
        ];
        assert_eq!(names, expected);
    }
}

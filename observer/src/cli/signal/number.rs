//! Signals as arguments.

use std::fmt;

use nix::sys::signal::Signal;

use crate::api::death::signal_name;

/// What other names stand for: signal(7).
const ALIASES: [(&str, Signal); 3] =
    [("IOT", Signal::SIGABRT), ("CLD", Signal::SIGCHLD), ("POLL", Signal::SIGIO)];

/// The number of a signal that the kernel knows; 0: none is sent, and the rights to send one are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalNumber(u8);

impl SignalNumber {
    /// No signal: only the rights to send one are checked.
    pub const NONE: Self = Self(0);

    /// The number.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Whether a stopped process need not be continued for it to have its effect.
    pub fn reaches_stopped(self) -> bool {
        self == Self::NONE || [libc::SIGKILL, libc::SIGCONT, libc::SIGSTOP].contains(&self.number())
    }

    /// Reads a name with or without `SIG`, in any case, `RTMIN+N`, `RTMAX-N`, or a number.
    pub fn parse(typed: &str) -> Result<Self, String> {
        let wrong = || {
            "expected a signal: TERM, INT, HUP, QUIT, KILL, STOP, CONT, USR1, USR2, another name of `kill -l`, RTMIN+N, \
             RTMAX-N, a number up to 64, or 0 to check only whether it could be sent"
                .to_owned()
        };
        if typed.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = typed.parse().ok().filter(|&number| i32::from(number) <= libc::SIGRTMAX());
            return number.map(Self).ok_or_else(wrong);
        }
        let name = typed.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|&(_, signal)| signal);
        let known = alias.or_else(|| format!("SIG{name}").parse().ok());
        let number = known.map(|signal| signal as i32).or_else(|| realtime(name));
        number.and_then(|number| u8::try_from(number).ok()).map(Self).ok_or_else(wrong)
    }
}

/// The number of `RTMIN`, `RTMIN+N`, `RTMAX` or `RTMAX-N`.
fn realtime(name: &str) -> Option<i32> {
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let offset = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u8>().ok()).flatten().map(i32::from)
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => first,
        (_, Some("")) => last,
        (Some(above), _) => first + offset(above.strip_prefix('+')?)?,
        (_, Some(below)) => last - offset(below.strip_prefix('-')?)?,
        (None, None) => return None,
    };
    (first..=last).contains(&number).then_some(number)
}

/// `SIGTERM`, `SIGRTMIN+3`; `no signal` for 0.
impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("no signal"),
            number => f.write_str(&signal_name(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_signals() {
        let cases = [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("term", 15),
            ("sigTerm", 15),
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("USR1", libc::SIGUSR1),
            ("IO", libc::SIGIO),
            ("poll", libc::SIGIO),
            ("CLD", libc::SIGCHLD),
            ("IOT", libc::SIGABRT),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
        ];
        for (typed, number) in cases {
            assert_eq!(SignalNumber::parse(typed).map(SignalNumber::number), Ok(number), "{typed}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_with_the_common_ones() {
        let wrong = [
            "",
            "SIG",
            "NONE",
            "-9",
            "+9",
            "65",
            "999",
            "1.5",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN++1",
            "RTMAX-31",
            "SIGSIGTERM",
            "TERM ",
        ];
        for typed in wrong {
            let refused = SignalNumber::parse(typed);
            assert!(refused.is_err_and(|message| message.contains("TERM, INT, HUP")), "{typed:?}");
        }
    }

    #[test]
    fn a_signal_is_shown_by_its_name() {
        let shown = |number| SignalNumber(number).to_string();
        assert_eq!([shown(15), shown(37), shown(0)], ["SIGTERM", "SIGRTMIN+3", "no signal"]);
    }
}

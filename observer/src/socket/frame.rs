//! The lines of the protocol: the first line, requests, refusals and numbered frames. Without I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Version of the protocol, in the first line of every connection.
pub const PROTOCOL: u32 = 1;
/// Bytes of the longest request line that the daemon reads.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;

/// The first line of a connection, which the daemon sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the daemon's program.
    pub observer: String,
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The id of this boot.
    pub boot_id: String,
    /// The daemon's tgid.
    pub pid: u32,
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum ClientRequest {
    /// Asks for every session.
    List {
        /// Whether sessions that have ended are included.
        #[serde(default)]
        ended: bool,
    },
    /// Asks for every live process.
    Processes {},
    /// Asks for every live process that was born in a session which is over.
    Leftovers {},
    /// Asks for a snapshot, then every change.
    Watch {
        /// Whether processes that are in no session are included.
        #[serde(default)]
        all: bool,
        /// Only frames that match: by a session's name or a process's comm, or, with a `/` in it, by home or cwd.
        #[serde(default)]
        glob: Option<String>,
    },
    /// Asks for the daemon's counters.
    Status {},
    /// Asks for a comparison of the map with the kernel.
    Audit {},
    /// Has the daemon read its rules again; root and the daemon's own user may.
    Reload {},
    /// Asks why a process is a session, or is not.
    Explain {
        /// Its tgid.
        pid: u32,
    },
}

/// Why the daemon does not serve a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A line longer than [`REQUEST_BYTES_MAX`].
    LineTooLong,
    /// The line is no request.
    BadRequest,
    /// The glob of a watch cannot be compiled.
    BadGlob,
    /// The client sent no request for too long.
    Idle,
    /// There are too many connections.
    Busy,
    /// Clients have too much unread, and this one is among those with the most.
    Overloaded,
    /// The user has no right to ask.
    Denied,
    /// The user may ask, but may not have the rules read again.
    NotAllowed,
    /// The daemon stops.
    Stopping,
}

impl Refusal {
    /// The code, as docs/socket.md has it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::LineTooLong => "line_too_long",
            Self::BadRequest => "bad_request",
            Self::BadGlob => "bad_glob",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
            Self::Stopping => "stopping",
        }
    }

    /// What happened, and the next step.
    const fn sentence(self) -> &'static str {
        match self {
            Self::LineTooLong => "a request is one line of at most 65536 bytes: send it shorter",
            Self::BadRequest => {
                "a request is one line such as {\"request\":\"list\"}; list, processes, leftovers, watch, status, audit, explain and reload exist: \
                 see docs/socket.md"
            }
            Self::BadGlob => "the glob does not compile: correct it",
            Self::Idle => "nothing was asked for 30 seconds: connect again when there is a question",
            Self::Busy => "too many connections: close some, then connect again",
            Self::Overloaded => {
                "clients have not read 128 MiB of answers, and this user's have most of it: end those that do not read, then try again"
            }
            Self::Denied => "this user may not ask: become root, or a member of the group `observer`",
            Self::NotAllowed => {
                "only root and the service's own user may have the rules read again: run `sudo observer reload`, or `sudo \
                 systemctl reload observer`"
            }
            Self::Stopping => "the daemon is stopping: connect again when it runs",
        }
    }
}

/// The line that states why a client is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLine {
    /// `error`.
    pub kind: String,
    /// [`Refusal::code`].
    pub error: String,
    /// What happened, and the next step.
    pub message: String,
}

/// `refusal` as a line with its end. `detail` precedes the message.
pub fn error_line(refusal: Refusal, detail: Option<&dyn fmt::Display>) -> Vec<u8> {
    let message = match detail {
        Some(detail) => format!("{detail}; {}", refusal.sentence()),
        None => refusal.sentence().into(),
    };
    line(&ErrorLine { kind: "error".into(), error: refusal.code().into(), message })
}

/// `value` as one line of JSON with its end.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    // Every value that is sent has strings, numbers and structs only: serializing it into memory cannot fail.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Decodes a request line, without its end.
pub fn parse_request(line: &[u8]) -> Result<ClientRequest, serde_json::Error> {
    serde_json::from_slice(line)
}

/// Appends the frame `body`, a JSON object, as number `seq` of its connection.
pub fn push_numbered(out: &mut Vec<u8>, seq: u64, body: &[u8]) {
    out.extend_from_slice(b"{\"seq\":");
    out.extend_from_slice(seq.to_string().as_bytes());
    out.push(b',');
    out.extend_from_slice(body.strip_prefix(b"{").unwrap_or(body));
    out.push(b'\n');
}

/// Cuts a stream of bytes into lines. Holds at most one line.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Bytes at the front that are known to contain no line end.
    searched: usize,
}

impl LineBuffer {
    /// Appends bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete line without its end, CR LF or LF; `None`: more bytes must arrive first.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|&byte| byte == b'\n') else {
            self.searched = self.bytes.len();
            return if self.bytes.len() > REQUEST_BYTES_MAX { Err(Refusal::LineTooLong) } else { Ok(None) };
        };
        let end = self.searched + at;
        if end > REQUEST_BYTES_MAX {
            return Err(Refusal::LineTooLong);
        }
        let rest = self.bytes.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.bytes, rest);
        self.searched = 0;
        line.truncate(end);
        if line.ends_with(b"\r") {
            line.truncate(end - 1);
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_parsed_strictly() {
        assert_eq!(parse_request(br#"{"request":"list"}"#).unwrap(), ClientRequest::List { ended: false });
        assert_eq!(parse_request(br#"{"request":"processes"}"#).unwrap(), ClientRequest::Processes {});
        let watch = ClientRequest::Watch { all: true, glob: Some("a*".into()) };
        assert_eq!(parse_request(br#"{"request":"watch","all":true,"glob":"a*"}"#).unwrap(), watch);
        assert_eq!(parse_request(&line(&watch)).unwrap(), watch);
        for wrong in [
            "",
            "list",
            "{}",
            r#"{"request":"kill"}"#,
            r#"{"request":"list","x":1}"#,
            r#"{"request":"status","x":1}"#,
        ] {
            assert!(parse_request(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_number_is_the_first_field_of_a_frame() {
        let mut out = Vec::new();
        push_numbered(&mut out, 7, br#"{"kind":"x"}"#);
        assert_eq!(out, b"{\"seq\":7,\"kind\":\"x\"}\n");
    }

    #[test]
    fn a_line_beyond_the_bound_is_refused() {
        let mut lines = LineBuffer::default();
        lines.push(&vec![b'x'; REQUEST_BYTES_MAX]);
        assert_eq!(lines.next(), Ok(None));
        lines.push(b"\n");
        assert_eq!(lines.next().unwrap().unwrap().len(), REQUEST_BYTES_MAX);
        lines.push(&vec![b'x'; REQUEST_BYTES_MAX + 1]);
        assert_eq!(lines.next(), Err(Refusal::LineTooLong));
    }

    #[test]
    fn error_lines_end_with_the_next_step() {
        let error: ErrorLine = serde_json::from_slice(&error_line(Refusal::BadRequest, Some(&"no"))).unwrap();
        assert_eq!((error.kind.as_str(), error.error.as_str()), ("error", "bad_request"));
        assert!(
            error.message.starts_with("no; a request is") && error.message.ends_with("see docs/socket.md")
        );
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            wanted in prop::collection::vec("[a-z ]{0,20}", 0..8), chunk in 1usize..9,
        ) {
            let stream: String = wanted.iter().map(|line| format!("{line}\n")).collect();
            let mut lines = LineBuffer::default();
            let mut found = Vec::new();
            for piece in stream.as_bytes().chunks(chunk) {
                lines.push(piece);
                while let Some(line) = lines.next().unwrap() {
                    found.push(String::from_utf8(line).unwrap());
                }
            }
            prop_assert_eq!(found, wanted);
        }
    }
}

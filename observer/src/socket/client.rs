//! The client side of the socket, for commands.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::de::DeserializeOwned;

use super::frame::{ClientRequest, ErrorLine, Hello, PROTOCOL, line};
use super::listen::is_stale;
use crate::boot::boot_id;

/// Bytes of the longest line that is read from a daemon: some 50,000 processes with long arguments.
const LINE_BYTES_MAX: u64 = 512 << 20;
/// How long a command waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Why the daemon gave no answer.
#[derive(Debug)]
pub enum ClientError {
    /// No daemon listens.
    NoDaemon(PathBuf),
    /// The user has no right to connect to the socket.
    Denied(PathBuf),
    /// The daemon uses another version of the protocol.
    Version(u32),
    /// The daemon refused the request, with this message.
    Refused(String),
    /// Its pids are not those of this process.
    OtherPids(PathBuf),
    /// The answer cannot be decoded.
    Garbled(String),
    /// The connection broke, or no answer came in time.
    Broken(PathBuf, io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon(path) => write!(
                f,
                "no daemon listens on {}: start it with `observer run`, or name its socket with --socket",
                path.display()
            ),
            Self::Denied(path) => write!(
                f,
                "{}: permission denied: become root, or a member of the group `observer`",
                path.display()
            ),
            Self::Version(found) => write!(
                f,
                "the daemon speaks protocol {found}, this program {PROTOCOL}: restart the daemon, or use its program"
            ),
            Self::Refused(message) => f.write_str(message),
            Self::OtherPids(path) => write!(
                f,
                "the pids of the daemon on {} mean other processes here (it is in another pid namespace, on another host or \
                 behind a proxy): run this command where the daemon runs",
                path.display()
            ),
            Self::Garbled(what) => {
                write!(f, "the answer cannot be read ({what}): is this observer's socket?")
            }
            Self::Broken(path, error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                write!(
                    f,
                    "the daemon on {} did not answer within {} s: it may still be starting; look at its log",
                    path.display(),
                    ANSWER_MAX.as_secs()
                )
            }
            Self::Broken(path, error) if error.kind() == ErrorKind::UnexpectedEof => write!(
                f,
                "the daemon on {} closed the connection: look whether it still runs, then ask again",
                path.display()
            ),
            Self::Broken(path, error) => {
                write!(f, "the connection to {} broke ({error}): ask again", path.display())
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// A connection to the daemon, whose first line was read.
pub struct Client {
    path: PathBuf,
    reader: BufReader<UnixStream>,
    /// The daemon's first line.
    pub hello: Hello,
}

impl Client {
    /// Connects, and checks the version of the protocol.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => ClientError::Denied(path.into()),
            _ if is_stale(&error) => ClientError::NoDaemon(path.into()),
            _ => ClientError::Broken(path.into(), error),
        })?;
        let broken = |error| ClientError::Broken(path.into(), error);
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(broken)?;
        stream.set_write_timeout(Some(ANSWER_MAX)).map_err(broken)?;
        let hello = Hello { observer: String::new(), protocol: PROTOCOL, boot_id: String::new(), pid: 0 };
        let mut client = Self { path: path.into(), reader: BufReader::new(stream), hello };
        let first = client.read_line()?;
        client.hello = decode(&first)?;
        if client.hello.protocol != PROTOCOL {
            return Err(ClientError::Version(client.hello.protocol));
        }
        Ok(client)
    }

    /// Fails where the pids of the daemon's answers are not those of this process. The kernel gives the peer's pid in the
    /// pid namespace of whoever asks (0: it is not in it), and the daemon gives its pid in its own, which is the initial one.
    pub fn check_pids(&self) -> Result<(), ClientError> {
        let peer = getsockopt(self.reader.get_ref(), PeerCredentials).map(|peer| peer.pid().cast_unsigned());
        let is_here = boot_id().is_ok_and(|boot| boot == self.hello.boot_id) && peer == Ok(self.hello.pid);
        if is_here { Ok(()) } else { Err(ClientError::OtherPids(self.path.clone())) }
    }

    /// The user that the daemon runs as.
    pub fn daemon_uid(&self) -> Option<u32> {
        getsockopt(self.reader.get_ref(), PeerCredentials).ok().map(|peer| peer.uid())
    }

    /// Sends `request`.
    pub fn send(&mut self, request: &ClientRequest) -> Result<(), ClientError> {
        let path = &self.path;
        self.reader
            .get_mut()
            .write_all(&line(request))
            .map_err(|error| ClientError::Broken(path.clone(), error))
    }

    /// Sends `request` and reads the line of the answer.
    pub fn ask(&mut self, request: &ClientRequest) -> Result<Vec<u8>, ClientError> {
        self.send(request)?;
        let answer = self.read_line()?;
        check_refusal(&answer)?;
        Ok(answer)
    }

    /// From here on [`Client::read_line`] waits without a timeout, because frames come only when something changes.
    pub fn wait_without_timeout(&mut self) -> Result<(), ClientError> {
        self.wait_for(None)
    }

    /// From here on [`Client::read_line`] waits so long; `None`: without a timeout.
    pub fn wait_for(&mut self, timeout: Option<Duration>) -> Result<(), ClientError> {
        let path = &self.path;
        self.reader
            .get_ref()
            .set_read_timeout(timeout)
            .map_err(|error| ClientError::Broken(path.clone(), error))
    }

    /// Whether everything that arrived was read.
    pub fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty()
    }

    /// The next line without its end.
    pub fn read_line(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        let broken = |error| ClientError::Broken(self.path.clone(), error);
        read.map_err(broken)?;
        if bytes.pop() != Some(b'\n') {
            return Err(broken(ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }
}

/// An error if `line` is the daemon's refusal.
pub fn check_refusal(line: &[u8]) -> Result<(), ClientError> {
    match serde_json::from_slice::<ErrorLine>(line) {
        Ok(error) if error.kind == "error" => {
            Err(ClientError::Refused(crate::text::bytes::to_line(error.message.as_bytes()).into_owned()))
        }
        _ => Ok(()),
    }
}

/// Decodes `line`. A refusal of the daemon is an error.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, ClientError> {
    check_refusal(line)?;
    serde_json::from_slice(line).map_err(|error| ClientError::Garbled(error.to_string()))
}

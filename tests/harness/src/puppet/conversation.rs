//! What a puppet is asked and what it answers: the connection to its test, the words of a request, and the answer.

use std::ffi::CString;
use std::io::{self, BufReader, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::protocol;

/// The arguments after the verb.
pub type Args<'a> = &'a [Vec<u8>];
/// The numbers of the answer.
pub type Done = io::Result<Vec<u64>>;

/// One conversation with a test.
pub struct Conversation {
    /// The name of the abstract socket of the test's fixture.
    pub address: Vec<u8>,
    /// The connection to it.
    pub stream: BufReader<UnixStream>,
}

impl Conversation {
    /// Connects, and sends the token and the pid.
    pub fn begin(address: Vec<u8>, token: &[u8]) -> io::Result<Self> {
        let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&address)?)?;
        // SAFETY: getpid has no preconditions.
        let pid = unsafe { libc::getpid() };
        stream.write_all(&protocol::line(&[token.to_vec(), pid.to_string().into_bytes()]))?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }
}

/// What follows a request.
pub enum Then {
    /// The puppet answers with this.
    Answer(Done),
    /// The puppet answers nothing: it is a new process, or a thread that took over, and has answered already.
    Listen,
}

impl From<Done> for Then {
    fn from(done: Done) -> Self {
        Self::Answer(done)
    }
}

/// The argument at `at`.
pub fn word<'a>(args: Args<'a>, at: usize) -> io::Result<&'a [u8]> {
    args.get(at).map(Vec::as_slice).ok_or_else(|| io::Error::other(format!("argument {at} is missing")))
}

/// The argument at `at`, for a system call.
pub fn text(args: Args<'_>, at: usize) -> io::Result<CString> {
    Ok(CString::new(word(args, at)?)?)
}

/// The argument at `at`, a decimal number.
pub fn number<T: std::str::FromStr>(args: Args<'_>, at: usize) -> io::Result<T> {
    let word = String::from_utf8_lossy(word(args, at)?).into_owned();
    word.parse().map_err(|_| io::Error::other(format!("{word:?} is no number")))
}

/// A system call's result: -1 is errno.
pub fn check(result: impl Into<i64>) -> io::Result<u64> {
    u64::try_from(result.into()).map_err(|_| io::Error::last_os_error())
}

//! A puppet: `puppet ADDRESS TOKEN [IGNORED…]` connects to the abstract socket ADDRESS, says TOKEN, and then does
//! one thing for each line that it reads. See `crate::stage`.

mod births;
mod ends;
mod narrow;
mod overlay;
mod places;
mod races;
mod storms;
mod terminals;
mod threads;

use std::ffi::CString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::protocol;

/// The words after the verb.
type Args<'a> = &'a [Vec<u8>];
/// Numbers for the answer.
type Done = io::Result<Vec<u64>>;

/// One conversation with a test.
struct Conversation {
    address: Vec<u8>,
    stream: BufReader<UnixStream>,
}

/// What follows a request.
enum Then {
    /// Answer with this.
    Say(Done),
    /// Answer nothing: this is a new process, or a thread that took over, and it has said hello.
    Listen,
}

/// Runs a puppet until its test closes the connection.
pub fn main() {
    let mut args = std::env::args_os().skip(1).map(std::os::unix::ffi::OsStringExt::into_vec);
    let (Some(address), Some(token)) = (args.next(), args.next()) else {
        eprintln!("usage: puppet ADDRESS TOKEN; the tests start it");
        std::process::exit(2);
    };
    match Conversation::begin(address, &token) {
        Ok(conversation) => conversation.go_on(),
        Err(error) => {
            eprintln!("puppet: cannot connect to its stage: {error}");
            std::process::exit(2);
        }
    }
}

impl Conversation {
    /// Connects and says hello.
    fn begin(address: Vec<u8>, token: &[u8]) -> io::Result<Self> {
        let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&address)?)?;
        // SAFETY: getpid has no preconditions.
        let pid = unsafe { libc::getpid() };
        stream.write_all(&protocol::line(&[token.to_vec(), pid.to_string().into_bytes()]))?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    /// Drops the inherited connection and begins one of this process's own.
    fn begin_again(&mut self, token: &[u8]) -> Then {
        match Self::begin(self.address.clone(), token) {
            Ok(own) => {
                *self = own;
                Then::Listen
            }
            Err(_) => ends::exit(2),
        }
    }

    /// Listens and acts until the test hangs up.
    fn go_on(mut self) -> ! {
        loop {
            let mut line = String::new();
            if !matches!(self.stream.read_line(&mut line), Ok(count) if count > 0) {
                ends::exit(0);
            }
            let words = protocol::words(&line).unwrap_or_default();
            let Some((verb, args)) = words.split_first() else { ends::exit(2) };
            if let Then::Say(done) = self.act(&String::from_utf8_lossy(verb), args) {
                let mut said = Vec::new();
                match done {
                    Ok(numbers) => {
                        said.push(b"ok".to_vec());
                        said.extend(numbers.iter().map(|number| number.to_string().into_bytes()));
                    }
                    Err(error) => said.extend([b"failed".to_vec(), error.to_string().into_bytes()]),
                }
                if self.stream.get_mut().write_all(&protocol::line(&said)).is_err() {
                    ends::exit(0);
                }
            }
        }
    }

    fn act(&mut self, verb: &str, args: Args<'_>) -> Then {
        match verb {
            "fork" | "clone" | "clone3" => births::bear(self, verb, args),
            "vfork" => Then::Say(births::vfork(&self.address, args)),
            "spawn" => Then::Say(births::spawn(&self.address, args)),
            "exec" => Then::Say(births::exec(&self.address, args)),
            "exec_by_thread" => Then::Say(births::exec_by_thread(&self.address, args)),
            "exec_fails" => Then::Say(births::exec_fails(args)),
            "exit" => ends::exit_as(args),
            "die" => Then::Say(ends::die(args)),
            "wait" => Then::Say(ends::wait(args)),
            "ignore" => Then::Say(ends::ignore(args)),
            "waits_in_overlay" => overlay::waits(self, args),
            "leader_exits" => threads::leader_exits(self, args),
            "exit_thread" => threads::exit_thread(args),
            _ => Then::Say(quiet(verb, args)),
        }
    }
}

/// What leaves the conversation as it is.
fn quiet(verb: &str, args: Args<'_>) -> Done {
    match verb {
        "facts" => places::facts(),
        "chdir" => places::chdir(args),
        "chdir32" => narrow::chdir(args),
        "move_mount32" => narrow::move_mount(args),
        "pivots32" => narrow::pivots(args),
        "setns_mounts32" => narrow::setns_mounts(args),
        "mkdir" => places::mkdir(args),
        "fchdir" => places::fchdir(args),
        "unshare_quietly" => places::unshare_quietly(),
        "unshare_mounts" => places::unshare_mounts(),
        "mount_tmpfs" => places::mount_tmpfs(args),
        "umount_lazily" => places::umount_lazily(args),
        "mount_moves" => places::mount_moves(args),
        "move_mount" => places::move_mount(args),
        "pivots" => places::pivots(args),
        "setns_mounts" => places::setns_mounts(args),
        "renames_by_uring" => places::renames_by_uring(args),
        "setsid" => terminals::setsid(),
        "setpgid" => terminals::setpgid(args),
        "setresuid" => terminals::setresuid(args),
        "setname" => terminals::setname(args),
        "gains_terminal" => terminals::gain(args),
        "steals_terminal" => terminals::steal(args),
        "opens_terminal" => terminals::open(args),
        "loses_terminal" => terminals::lose(),
        "terminal_foreground" => terminals::foreground(args),
        "thread_exits" => threads::thread_exits(),
        "thread_names_itself" => threads::names_itself(args),
        "thread_names_leader" => threads::names_leader(args),
        "thread_moves_alone" => threads::moves_alone(args),
        "thread_setresuid" => threads::setresuid(args),
        "thread_stays" => threads::stays(),
        "many_threads" => threads::many(args),
        "reuses_pid" => births::reuses_pid(args),
        "chdir_race" => races::chdir(args),
        "fork_race" => races::fork(args),
        "renames_for" => races::renames_for(args),
        "fchdirs_for" => races::fchdirs_for(args),
        "loop_for_ever" => races::loop_for_ever(args),
        "becomes_subreaper" => ends::becomes_subreaper(),
        "storm" => storms::storm(args),
        "bears_many" => storms::bears_many(args),
        other => Err(io::Error::other(format!("no such verb: {other}"))),
    }
}

/// The word at `at`.
fn word<'a>(args: Args<'a>, at: usize) -> io::Result<&'a [u8]> {
    args.get(at).map(Vec::as_slice).ok_or_else(|| io::Error::other(format!("word {at} is missing")))
}

/// The word at `at`, for a system call.
fn text(args: Args<'_>, at: usize) -> io::Result<CString> {
    Ok(CString::new(word(args, at)?)?)
}

/// The word at `at`, a decimal number.
fn number<T: std::str::FromStr>(args: Args<'_>, at: usize) -> io::Result<T> {
    let word = String::from_utf8_lossy(word(args, at)?).into_owned();
    word.parse().map_err(|_| io::Error::other(format!("{word:?} is no number")))
}

/// A system call's result: -1 is errno.
fn check(result: impl Into<i64>) -> io::Result<u64> {
    u64::try_from(result.into()).map_err(|_| io::Error::last_os_error())
}

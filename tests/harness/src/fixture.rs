//! A fixture and its puppets: real processes, each of which does one thing at a time on command.
//!
//! Every puppet, however it was born, connects to the fixture's abstract socket and names its token; so a child made
//! by vfork, in another mount namespace or with a hostile name is led like any other. A puppet whose connection
//! closes exits.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use crate::pty::{Pty, take_terminal};
use crate::puppet::Verb;
use crate::wait::{self, Waited};
use crate::{eventually, protocol};

/// How long a puppet may take to connect or to answer, unless a test sets another limit.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lives that a test runs in one home, where it wants an entry for each start and end: of a session that starts more often,
/// the journal counts the starts.
pub const LIVES_A_HOME: usize = 8;

/// Where the puppets of one test connect, and a directory of its own.
#[derive(Debug)]
pub struct Fixture {
    /// The abstract socket's name.
    pub address: String,
    listener: UnixListener,
    arrived: RefCell<Vec<(String, u32, BufReader<UnixStream>)>>,
    dir: tempfile::TempDir,
    tokens: AtomicU32,
    /// Lives that [`Fixture::short_lives`] ran.
    lives: AtomicUsize,
}

/// How a puppet is started by the test itself.
#[derive(Debug, Default)]
pub struct PuppetOptions<'a> {
    /// Program file: the puppet itself, or a link to it under another name.
    pub program: Option<PathBuf>,
    /// Words before the program: a wrapper and its options.
    pub wrapper: Vec<OsString>,
    /// Words after the two that the puppet needs.
    pub args: Vec<OsString>,
    /// Working directory.
    pub dir: Option<PathBuf>,
    /// Controlling terminal: the puppet (or its wrapper) leads a POSIX session on it.
    pub pty: Option<&'a Pty>,
    /// Environment, in addition.
    pub env: Vec<(OsString, OsString)>,
    /// User and group id.
    pub uid: Option<u32>,
}

/// Exchanges the names of two files.
#[track_caller]
pub fn exchange(one: &Path, other: &Path) {
    let path = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let (one, other, at) = (path(one), path(other), libc::AT_FDCWD);
    // SAFETY: the paths are valid C strings that outlive the call.
    let done = unsafe { libc::renameat2(at, one.as_ptr(), at, other.as_ptr(), libc::RENAME_EXCHANGE) };
    assert_eq!(done, 0, "exchange: {}", io::Error::last_os_error());
}

impl Fixture {
    /// An empty fixture. Fails where the test is not run by root.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        crate::failure::require_root();
        let address =
            format!("observer-tests-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let listener = SocketAddr::from_abstract_name(&address)
            .and_then(|address| UnixListener::bind_addr(&address))
            .expect("listen on the fixture's socket");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let dir = tempfile::Builder::new()
            .prefix("observer-fixture-")
            .tempdir()
            .expect("a directory for the fixture");
        // Puppets of other users look for their names here.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("open the fixture's directory to all");
        Self {
            address,
            listener,
            arrived: RefCell::default(),
            dir,
            tokens: AtomicU32::new(0),
            lives: AtomicUsize::new(0),
        }
    }

    /// The fixture's own directory, gone with it; canonical.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("the fixture's directory exists")
    }

    /// A fresh directory in the fixture's own.
    pub fn mkdir(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.dir().join(name.as_ref());
        std::fs::create_dir_all(&path).expect("create a directory");
        path
    }

    /// The puppet's program under another name: what the kernel calls comm.
    pub fn program(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.mkdir("bin").join(name.as_ref());
        if !path.exists() {
            std::os::unix::fs::symlink(puppet_program(), &path).expect("link the puppet's program");
        }
        path
    }

    /// An executable file of these bytes at `path`. Written by a process of its own: a descriptor open for writing
    /// in this one could be inherited by another test's child and make the exec fail with ETXTBSY.
    #[track_caller]
    pub fn install(&self, bytes: &[u8], path: &Path) {
        let source = self.dir().join(format!(".source-{}", self.token()));
        std::fs::write(&source, bytes).expect("write the file's source");
        let done = Command::new("install").args(["-m", "755", "--"]).args([&source, path]).status();
        assert!(done.is_ok_and(|status| status.success()), "install {}", path.display());
    }

    /// Runs the smallest program as `agent`, so many times, one after the other: each run that a rule admits is a session
    /// that starts and ends. They are in directories whose names begin with that of `dir`, [`LIVES_A_HOME`] in each.
    #[track_caller]
    pub fn short_lives(&self, dir: &Path, args: &[OsString], runs: usize) {
        self.short_lives_of(None, dir, args, runs);
    }

    /// The same as this user; `None`: as the test's own.
    pub fn short_lives_of(&self, uid: Option<u32>, dir: &Path, args: &[OsString], runs: usize) {
        let program = self.mkdir("tiny").join("agent");
        if !program.exists() {
            self.install(&crate::tiny::image(), &program);
        }
        for _ in 0..runs {
            let life = self.lives.fetch_add(1, Ordering::Relaxed);
            let mut home = dir.as_os_str().to_owned();
            home.push(format!("-{}", life / LIVES_A_HOME));
            std::fs::create_dir_all(&home).expect("create a home");
            let mut command = Command::new(&program);
            if let Some(uid) = uid {
                command.uid(uid);
            }
            let status = command.args(args).current_dir(&home).status();
            let code = status.unwrap_or_else(|error| panic!("run {}: {error}", program.display())).code();
            assert_eq!(code, Some(crate::tiny::CODE));
        }
    }

    /// A token that no puppet of this fixture has yet.
    pub fn token(&self) -> String {
        format!("t{}", self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// A puppet, child of the test.
    pub fn puppet(&self) -> Puppet {
        self.cast(&PuppetOptions::default())
    }

    /// A puppet as cast, once it is there.
    pub fn cast(&self, casting: &PuppetOptions<'_>) -> Puppet {
        let token = self.token();
        let mut command = self.command(casting, &token);
        #[expect(
            clippy::zombie_processes,
            reason = "reaped by its pid, through the puppet or through `OwnedProcess`"
        )]
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let child_pid = child.id();
        let mut puppet = self.meet(&token);
        if puppet.pid == child_pid {
            puppet.child = true;
        } else {
            puppet.wrapper = Some(OwnedProcess::new(child_pid));
        }
        puppet
    }

    fn command(&self, casting: &PuppetOptions<'_>, token: &str) -> Command {
        let program = casting.program.clone().unwrap_or_else(puppet_program);
        let mut words: Vec<OsString> = casting.wrapper.clone();
        words.extend([program.into_os_string(), OsString::from(&self.address), OsString::from(token)]);
        words.extend(casting.args.iter().cloned());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
        command.current_dir(casting.dir.clone().unwrap_or_else(|| self.dir()));
        command.envs(casting.env.iter().cloned());
        let slave = casting.pty.map(|pty| {
            std::ffi::CString::new(pty.path.as_os_str().as_bytes()).expect("a device's path has no NUL")
        });
        let uid = casting.uid;
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // A test run in the background or under nohup(1) ignores these, and so would the puppet.
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                if let Some(slave) = &slave {
                    take_terminal(slave)?;
                }
                match uid {
                    Some(uid)
                        if libc::setresgid(uid, uid, uid) != 0 || libc::setresuid(uid, uid, uid) != 0 =>
                    {
                        Err(io::Error::last_os_error())
                    }
                    _ => Ok(()),
                }
            });
        }
        command
    }

    /// Waits for the puppet that has this token to connect.
    #[track_caller]
    pub fn meet(&self, token: &str) -> Puppet {
        let (pid, stream) = eventually(&format!("puppet {token} connects"), PATIENCE, || {
            self.accept();
            let mut arrived = self.arrived.borrow_mut();
            let at = arrived.iter().position(|(name, ..)| name == token).ok_or("it did not")?;
            let (_, pid, stream) = arrived.swap_remove(at);
            Ok((pid, stream))
        });
        Puppet { pid, pidfd: OwnedProcess::new(pid), stream, child: false, wrapper: None }
    }

    fn accept(&self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(false).expect("a stream that blocks");
            stream.set_read_timeout(Some(PATIENCE)).expect("a deadline for answers");
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).expect("a puppet sends its token");
            let mut words = protocol::words(&line).expect("a token and a pid are words").into_iter();
            let token =
                String::from_utf8(words.next().expect("a puppet sends its token")).expect("tokens are text");
            words.next().expect("a puppet sends its pid, as its own namespace has it");
            let pid = peer_pid(stream.get_ref());
            self.arrived.borrow_mut().push((token, pid, stream));
        }
    }
}

/// pid of the process that connected, as this process sees it.
fn peer_pid(stream: &UnixStream) -> u32 {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel fills `peer`, whose size it is given.
    let result = unsafe {
        let (option, value) = (libc::SO_PEERCRED, (&raw mut peer).cast());
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, option, value, &raw mut length)
    };
    assert_eq!(result, 0, "who connected: {}", io::Error::last_os_error());
    peer.pid.cast_unsigned()
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

/// The puppet's program, beside the test binary's directory.
pub fn puppet_program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let path = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are built below the target directory")
        .join("puppet");
    assert!(path.exists(), "{} is missing: run the tests through cargo", path.display());
    path
}

/// A process named by a pidfd, so that no stranger is ever signalled; killed and, if it is a child, reaped on drop.
#[derive(Debug)]
pub struct OwnedProcess {
    pid: u32,
    pidfd: Option<OwnedFd>,
}

impl OwnedProcess {
    /// The process that has this pid now.
    pub fn new(pid: u32) -> Self {
        // SAFETY: pidfd_open takes two integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: a descriptor returned just now belongs to nobody else.
        let pidfd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) });
        Self { pid, pidfd }
    }

    /// Waits for its end (it may stay a zombie); false if it lives on.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let Some(pidfd) = &self.pidfd else { return true };
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)) == 1 }
    }

    /// Sends a signal; true if the process was still there.
    pub fn signal(&self, signal: i32) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| {
            // SAFETY: a valid pidfd; a null siginfo means what kill(2) sends.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) == 0 }
        })
    }
}

impl Drop for OwnedProcess {
    fn drop(&mut self) {
        if self.signal(libc::SIGKILL) {
            let _ = wait::reap(self.pid.cast_signed());
        }
    }
}

/// A process of the fixture.
#[derive(Debug)]
pub struct Puppet {
    /// Its tgid.
    pub pid: u32,
    stream: BufReader<UnixStream>,
    child: bool,
    pidfd: OwnedProcess,
    wrapper: Option<OwnedProcess>,
}

impl Puppet {
    /// Asks it to do something that may fail; returns its answer's words, or its error.
    pub fn attempt(&mut self, verb: Verb, args: &[&[u8]]) -> Result<Vec<Vec<u8>>, String> {
        self.request(verb, args);
        self.answer(verb)
    }

    /// Asks it to do something and does not wait for the answer.
    pub fn request(&mut self, verb: Verb, args: &[&[u8]]) {
        let mut words = vec![verb.name().as_bytes().to_vec()];
        words.extend(args.iter().map(|arg| arg.to_vec()));
        self.stream.get_mut().write_all(&protocol::line(&words)).expect("the puppet listens");
    }

    /// Waits for the answer to an earlier [`Puppet::request`].
    pub fn answer(&mut self, verb: Verb) -> Result<Vec<Vec<u8>>, String> {
        let mut line = String::new();
        let count =
            self.stream.read_line(&mut line).map_err(|error| format!("{verb:?}: no answer: {error}"))?;
        if count == 0 {
            return Err(format!("{verb:?}: the puppet is gone"));
        }
        let mut words =
            protocol::words(&line).ok_or_else(|| format!("{verb:?}: answered {line:?}"))?.into_iter();
        match words.next().as_deref() {
            Some(b"ok") => Ok(words.collect()),
            _ => Err(format!(
                "{verb:?}: {}",
                words.map(|word| String::from_utf8_lossy(&word).into_owned()).collect::<String>()
            )),
        }
    }

    /// Whether it has not answered its last request yet.
    pub fn is_silent(&self) -> bool {
        let mut poll =
            libc::pollfd { fd: self.stream.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        self.stream.buffer().is_empty() && unsafe { libc::poll(&raw mut poll, 1, 0) } == 0
    }

    /// Asks it to do something that must succeed; returns the answer's numbers.
    #[track_caller]
    pub fn does(&mut self, verb: Verb, args: &[&[u8]]) -> Vec<u64> {
        match self.attempt(verb, args) {
            Ok(words) => words.iter().map(|word| number(word)).collect(),
            Err(error) => panic!("puppet {} could not {error}", self.pid),
        }
    }

    /// Changes its directory.
    #[track_caller]
    pub fn chdir(&mut self, dir: &Path) {
        self.does(Verb::Chdir, &[dir.as_os_str().as_bytes()]);
    }

    /// Gives it more time for its answers than usual.
    pub fn patience(&self, limit: Duration) {
        self.stream.get_ref().set_read_timeout(Some(limit)).expect("a deadline for answers");
    }

    /// Has it bear a child by `verb` (which takes the token last) and waits for it. The child and the boot times
    /// between which it was born.
    #[track_caller]
    pub fn bears(&mut self, fixture: &Fixture, verb: Verb, args: &[&[u8]]) -> (Puppet, Birth) {
        let token = fixture.token();
        let mut words = args.to_vec();
        words.push(token.as_bytes());
        let answer = self.does(verb, &words);
        let [pid, after, before] = answer.as_slice() else { panic!("{verb:?} answered {answer:?}") };
        let child = fixture.meet(&token);
        assert_eq!(u64::from(child.pid), *pid, "the child that {verb:?} returned is the one that connected");
        (child, Birth { after: *after, before: *before })
    }

    /// Has a child of the test end by `verb`, and returns what wait(2) returned.
    #[track_caller]
    pub fn ends(mut self, verb: Verb, args: &[&[u8]]) -> Waited {
        assert!(self.child, "only a child of the test can be waited for here");
        self.request(verb, args);
        self.reap()
    }

    /// Kills a child of the test, and returns what wait(2) returned.
    #[track_caller]
    pub fn killed(mut self, signal: i32) -> Waited {
        assert!(self.signal(signal), "the puppet is there to be signalled");
        self.reap()
    }

    /// Sends a signal; true if it was still there.
    pub fn signal(&self, signal: i32) -> bool {
        self.pidfd.signal(signal)
    }

    /// Sends a signal to its wrapper.
    pub fn signal_wrapper(&self, signal: i32) -> bool {
        self.wrapper.as_ref().is_some_and(|wrapper| wrapper.signal(signal))
    }

    /// pid of the wrapper that it was started through, if that stayed.
    pub fn wrapper_pid(&self) -> Option<u32> {
        self.wrapper.as_ref().map(|wrapper| wrapper.pid)
    }

    /// It ends within `limit`, and waits to be reaped.
    pub fn is_gone_within(&self, limit: Duration) -> bool {
        self.pidfd.ends_within(limit)
    }

    /// Waits for a child of the test to end.
    #[track_caller]
    pub fn reap(&mut self) -> Waited {
        self.child = false;
        assert!(self.pidfd.ends_within(PATIENCE), "puppet {} did not end within {PATIENCE:?}", self.pid);
        wait::reap(self.pid.cast_signed())
            .unwrap_or_else(|error| panic!("wait for puppet {}: {error}", self.pid))
    }
}

/// Boot times around a birth, ns, read by the parent.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Not before this.
    pub after: u64,
    /// Not after this.
    pub before: u64,
}

/// A decimal number in a puppet's answer.
#[track_caller]
pub fn number(word: &[u8]) -> u64 {
    std::str::from_utf8(word)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{:?} is no number", String::from_utf8_lossy(word)))
}

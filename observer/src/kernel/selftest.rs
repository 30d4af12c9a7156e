//! The self-test at start: processes of our own must come through ring and iterator with every field as the system
//! calls gave it. On any mismatch observer refuses to start: a wrong offset would make every row wrong.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use observer_core::decode::join_path;
use observer_core::input::{Facts, Row};
use observer_core::process::Comm;
use observer_core::{BootTime, Input, Tgid};

use super::{Kernel, sys};
use crate::clock;

/// Where the child goes: three levels deep, across a mount, and there on every machine that observer runs on.
const DIRECTORY: &CStr = c"/sys/kernel/btf";
/// What the child calls itself: everything that a process name can do to a reader.
const COMM: &[u8; 16] = b"o)\n\x1b[7m\xff\xc3( x\"\0\0\0";
const SIGNAL: libc::c_int = libc::SIGUSR1;
const DEADLINE: Duration = Duration::from_secs(5);

/// Marks the child that execs this program once more: should it ever come here, it stops.
const CHILD_MARK: &str = "OBSERVER_SELF_TEST_CHILD";

/// Runs it; `kernel`'s ring is drained, which is harmless before the first snapshot.
pub fn run(kernel: &mut Kernel) -> Result<()> {
    ensure!(
        std::env::var_os(CHILD_MARK).is_none(),
        "the self-test's child does not run observer: unset {CHILD_MARK}"
    );
    killed_child(kernel).context(REFUSAL)?;
    execed_child(kernel).context(REFUSAL)
}

const REFUSAL: &str = "observer's self-test failed: what the kernel programs read differs from what the system calls \
                       say, so nothing they read on this kernel can be trusted; please report this with `uname -r`";

/// A forked child with a terminal, a POSIX session, a comm and a directory of its own, killed by a known signal.
fn killed_child(kernel: &mut Kernel) -> Result<()> {
    let terminal = Terminal::open().context("open a pseudo-terminal")?;
    let before = clock::boottime();
    let child = Child::fork(&terminal.slave)?;
    let after = clock::boottime();
    child.wait_ready()?;
    let truth = Truth::ask(child.pid, &terminal)?;

    let row = find_row(kernel, child.pid)?;
    truth.compare("iterator", &row.facts)?;
    let start = row.start;
    ensure!(
        before <= start && start <= after,
        "iterator: start_boottime_ns {} is not between the readings of the boot clock before ({}) and after ({}) the fork",
        start.0,
        before.0,
        after.0
    );
    same("iterator: cwd", row.cwd.as_deref(), Some(DIRECTORY.to_bytes()))?;
    let exe = fs::read_link("/proc/self/exe").context("read the own executable's path")?;
    same("iterator: exe", row.exe.as_deref(), Some(exe.as_os_str().as_bytes()))?;

    let status = child.kill_and_reap()?;
    let mut seen = Seen::default();
    seen.collect(kernel, child.pid, |seen| seen.exit.is_some())?;
    let (born, facts) = seen.fork.context("ring: the birth never came")?;
    same("ring: start_boottime_ns at birth", born, start)?;
    same("ring: ppid at birth", facts.parent.tgid.0, std::process::id())?;
    same("ring: uid at birth", facts.uids.uid, truth.uid)?;
    same("ring: comm", seen.comm, Some(Comm(*COMM)))?;
    same("ring: sid after setsid", seen.sid, Some(truth.sid))?;
    same("ring: cwd", seen.cwd.as_deref(), Some(DIRECTORY.to_bytes()))?;
    let (died, raw_status) = seen.exit.context("ring: the death never came")?;
    same("ring: start_boottime_ns at death", died, start)?;
    same("ring: wait status", raw_status, status)
}

/// A child that execs this program once more.
fn execed_child(kernel: &mut Kernel) -> Result<()> {
    let mut child = Command::new("/proc/self/exe")
        .arg("--version")
        .env(CHILD_MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start this program once more")?;
    let pid = child.id();
    let status = child.wait().context("wait for this program")?.into_raw();
    let mut seen = Seen::default();
    seen.collect(kernel, pid, |seen| seen.exit.is_some())?;
    let exec = seen.exec.context("ring: the exec never came")?;
    let exe = fs::read_link("/proc/self/exe").context("read the own executable's path")?;
    same("ring: exe", exec.exe.as_deref(), Some(exe.as_os_str().as_bytes()))?;
    same("ring: argv", exec.argv.as_slice(), b"/proc/self/exe\0--version\0".as_slice())?;
    same("ring: filename", exec.filename.as_slice(), b"/proc/self/exe".as_slice())?;
    same("ring: ppid at exec", exec.facts.parent.tgid.0, std::process::id())?;
    let (_, raw_status) = seen.exit.context("ring: the death never came")?;
    same("ring: wait status of an exit", raw_status, status.cast_unsigned())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{what} is {got:?}, expected {expected:?}");
    Ok(())
}

/// What the system calls say of the child.
struct Truth {
    pid: u32,
    sid: u32,
    pgid: u32,
    uid: u32,
    euid: u32,
    tty_dev: u32,
    tty_name: String,
    cwd_ino: u64,
    cwd_dev: u32,
    mnt_ns: u32,
}

impl Truth {
    fn ask(pid: u32, terminal: &Terminal) -> Result<Self> {
        let raw = pid.cast_signed();
        let directory = fs::metadata(std::ffi::OsStr::from_bytes(DIRECTORY.to_bytes()))
            .context("look at /sys/kernel/btf")?;
        // SAFETY: four queries without side effects.
        let (sid, pgid, uid, euid) =
            unsafe { (libc::getsid(raw), libc::getpgid(raw), libc::getuid(), libc::geteuid()) };
        Ok(Self {
            pid,
            sid: sid.cast_unsigned(),
            pgid: pgid.cast_unsigned(),
            uid,
            euid,
            tty_dev: kernel_dev(terminal.rdev),
            tty_name: terminal.name.replace("/dev/pts/", "pts"),
            cwd_ino: directory.ino(),
            cwd_dev: kernel_dev(directory.dev()),
            mnt_ns: sys::own_mnt_ns(),
        })
    }

    fn compare(&self, via: &str, facts: &Facts) -> Result<()> {
        let field = |name: &str| format!("{via}: {name} of child {}", self.pid);
        same(&field("ppid"), facts.parent.tgid.0, std::process::id())?;
        same(&field("sid"), facts.sid, self.sid)?;
        same(&field("pgid"), facts.pgid, self.pgid)?;
        same(&field("uid"), facts.uids.uid, self.uid)?;
        same(&field("euid"), facts.uids.euid, self.euid)?;
        same(&field("comm"), facts.comm, Comm(*COMM))?;
        same(&field("cwd inode"), facts.cwd.ino, self.cwd_ino)?;
        same(&field("cwd device"), facts.cwd.dev, self.cwd_dev)?;
        same(&field("mount namespace"), facts.mnt_ns, self.mnt_ns)?;
        let tty = facts.tty.with_context(|| field("terminal is missing"))?;
        same(&field("terminal device"), tty.dev, self.tty_dev)?;
        same(&field("terminal name"), Comm(tty.name).as_bytes(), self.tty_name.as_bytes())
    }
}

/// A device number as the kernel holds it, from what stat(2) says.
fn kernel_dev(dev: u64) -> u32 {
    (libc::major(dev) << 20) | libc::minor(dev)
}

/// What an iterator row said.
struct Found {
    start: BootTime,
    facts: Facts,
    cwd: Option<Vec<u8>>,
    exe: Option<Vec<u8>>,
}

fn find_row(kernel: &mut Kernel, pid: u32) -> Result<Found> {
    let mut found = None;
    let snapshot = kernel.snapshot();
    snapshot.rows(|input| {
        if let Input::PassRow(Row { key, facts, cwd_path, exe, .. }) = input
            && key.tgid == Tgid(pid)
        {
            let path = |raw| join_path(raw).map(|path| path.to_vec());
            found = Some(Found { start: key.start_boottime, facts, cwd: path(cwd_path), exe: path(exe) });
        }
    });
    snapshot.into_result()?;
    found.with_context(|| format!("iterator: no row for child {pid}"))
}

/// What the ring said of one child.
#[derive(Default)]
struct Seen {
    fork: Option<(BootTime, Facts)>,
    comm: Option<Comm>,
    sid: Option<u32>,
    cwd: Option<Vec<u8>>,
    exec: Option<SeenExec>,
    exit: Option<(BootTime, u32)>,
}

struct SeenExec {
    facts: Facts,
    exe: Option<Vec<u8>>,
    filename: Vec<u8>,
    argv: Vec<u8>,
}

impl Seen {
    /// Drains until `done`, or says which records came.
    fn collect(&mut self, kernel: &mut Kernel, pid: u32, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let mut others: BTreeMap<u32, u64> = BTreeMap::new();
        while !done(self) {
            kernel.drain(usize::MAX, |input| {
                if input.tgid() == Some(Tgid(pid)) {
                    self.note(input);
                } else {
                    *others.entry(input.tgid().map_or(0, |tgid| tgid.0)).or_default() += 1;
                }
            });
            if Instant::now() > deadline {
                bail!(
                    "ring: the records of child {pid} did not come within {} s ({} records of {} other processes did)",
                    DEADLINE.as_secs(),
                    others.values().sum::<u64>(),
                    others.len()
                );
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn note(&mut self, input: Input<'_>) {
        match input {
            Input::Fork { key, facts, .. } => self.fork = Some((key.start_boottime, facts)),
            Input::Comm { comm, .. } => self.comm = Some(comm),
            Input::Ids { sid, .. } => self.sid = Some(sid),
            Input::Cwd { path, .. } => self.cwd = join_path(path).map(|path| path.to_vec()),
            Input::Exit { key, raw_status, .. } => self.exit = Some((key.start_boottime, raw_status)),
            Input::Exec { facts, exe, filename, argv, .. } => {
                self.exec = Some(SeenExec {
                    facts,
                    exe: join_path(exe).map(|path| path.to_vec()),
                    filename: filename.to_vec(),
                    argv: argv.bytes.to_vec(),
                });
            }
            _ => {}
        }
    }
}

/// A pseudo-terminal; its master keeps the slave alive.
struct Terminal {
    _master: OwnedFd,
    slave: CString,
    name: String,
    rdev: u64,
}

impl Terminal {
    fn open() -> Result<Self> {
        // SAFETY: a new descriptor that nothing else owns.
        let master = unsafe {
            let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            ensure!(fd >= 0, io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let mut name = [0_u8; 64];
        // SAFETY: writes a terminated string of at most 64 bytes.
        unsafe {
            ensure!(libc::unlockpt(master.as_raw_fd()) == 0, io::Error::last_os_error());
            ensure!(
                libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) == 0,
                io::Error::last_os_error()
            );
        }
        let slave = CStr::from_bytes_until_nul(&name).context("name of the terminal")?.to_owned();
        let text = slave.to_string_lossy().into_owned();
        let rdev = fs::metadata(&text).with_context(|| format!("look at {text}"))?.rdev();
        Ok(Self { _master: master, slave, name: text, rdev })
    }
}

/// The forked child; killed and reaped when dropped.
struct Child {
    pid: u32,
    ready: OwnedFd,
    reaped: std::cell::Cell<bool>,
}

impl Child {
    fn fork(slave: &CStr) -> Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: writes two descriptors.
        ensure!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0, io::Error::last_os_error());
        // SAFETY: both are new and ours.
        let (ready, told) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        // SAFETY: the child calls nothing but async-signal-safe functions, and never returns.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { child_main(slave, told.as_raw_fd()) }
        }
        ensure!(pid > 0, "fork: {}", io::Error::last_os_error());
        Ok(Self { pid: pid.cast_unsigned(), ready, reaped: false.into() })
    }

    /// Until the child has done everything that it is to be seen with.
    fn wait_ready(&self) -> Result<()> {
        let mut byte = 0_u8;
        // SAFETY: writes one byte. The child's end closes when it exits, so this returns.
        let read = unsafe { libc::read(self.ready.as_raw_fd(), (&raw mut byte).cast(), 1) };
        ensure!(
            read == 1 && byte == 0,
            "the self-test's child could not take its terminal or change its directory"
        );
        Ok(())
    }

    fn kill_and_reap(&self) -> Result<u32> {
        let mut status = 0;
        // SAFETY: our own child, not reaped yet, so the pid is still its.
        unsafe {
            ensure!(libc::kill(self.pid.cast_signed(), SIGNAL) == 0, io::Error::last_os_error());
            ensure!(
                libc::waitpid(self.pid.cast_signed(), &raw mut status, 0) > 0,
                io::Error::last_os_error()
            );
        }
        self.reaped.set(true);
        Ok(status.cast_unsigned())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped.get() {
            // SAFETY: our own child, not reaped yet.
            unsafe {
                libc::kill(self.pid.cast_signed(), libc::SIGKILL);
                libc::waitpid(self.pid.cast_signed(), std::ptr::null_mut(), 0);
            }
        }
    }
}

/// What the child does.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
unsafe fn child_main(slave: &CStr, told: libc::c_int) -> ! {
    // SAFETY: see above; every pointer is to memory that the child has a copy of.
    unsafe {
        libc::signal(SIGNAL, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        let mut failed = libc::setsid() < 0;
        let tty = libc::open(slave.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        failed |= libc::ioctl(tty, libc::TIOCSCTTY, 0) != 0;
        failed |= libc::prctl(libc::PR_SET_NAME, COMM.as_ptr()) != 0;
        failed |= libc::chdir(DIRECTORY.as_ptr()) != 0;
        let byte = u8::from(failed);
        libc::write(told, (&raw const byte).cast(), 1);
        loop {
            libc::pause();
        }
    }
}

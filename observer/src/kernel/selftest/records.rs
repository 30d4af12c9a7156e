//! The ring's part: compares the records of the children, those whose rows were compared and two more.
//!
//! The ring is drained while the children live, because on a busy machine a small ring would fill up meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use observer_common::hooks::Fact;
use observer_common::record::{KIND_COMM, KIND_COUNT, KIND_CWD, KIND_SIGNAL, hint};
use observer_core::cost::ProcessUsage;
use observer_core::death::{SentSignal, SignalOrigin};
use observer_core::input::ProcessFacts;
use observer_core::input::join_path;
use observer_core::process::{Comm, Uids};
use observer_core::{BootTime, Input, Tgid};

use super::children::{COMM, DEADLINE, DIRECTORY, HANDLED, PseudoTerminal, SIGNAL, TestChild};
use super::rows::{EndedChild, TestChildren};
use super::truth::{self, TestDirectory};
use super::usage::{self, UsedByChild};
use super::values::{self, same};
use crate::kernel::programs::{Kernel, RecordOf};
use crate::kernel::snapshot::Snapshot;

/// Environment variable of the child that executes this program once more. If the child ever runs observer, it stops.
pub const CHILD_MARK: &str = "OBSERVER_SELF_TEST_CHILD";

const VIA: &str = "ring";
/// How often a directory is renamed; each rename must raise a hint.
const RENAMES: usize = 3;

/// The records of one child.
#[derive(Default)]
struct ChildRecords {
    fork: Option<(BootTime, ProcessFacts)>,
    comm: Option<Comm>,
    uids: Option<Uids>,
    cwd: Option<Vec<u8>>,
    exec: Option<SeenExec>,
    signal: Option<SentSignal>,
    /// A signal was reported that the child handled.
    has_handled_signal: bool,
    exit: Option<SeenExit>,
    /// CPU time with which the kernel released it, ns.
    released_ns: Option<u64>,
}

struct SeenExec {
    facts: ProcessFacts,
    exe: Option<Vec<u8>>,
    filename: Vec<u8>,
    argv: Vec<u8>,
    env: Vec<u8>,
}

struct SeenExit {
    start: BootTime,
    raw_status: u32,
    led_sid: Option<u32>,
    usage: ProcessUsage,
}

/// The ring, and the records of this process's children.
pub struct RingRecords<'a>(RefCell<Received<'a>>);

struct Received<'a> {
    kernel: &'a mut Kernel,
    children: BTreeMap<u32, ChildRecords>,
    /// [`hint`] bits.
    hints: u64,
    /// Number of records of other processes.
    others: u64,
    /// Records that had been throttled before the test, by kind.
    throttled_before: [u64; KIND_COUNT],
}

impl<'a> RingRecords<'a> {
    /// Reads the ring of `kernel`.
    pub fn new(kernel: &'a mut Kernel) -> Self {
        let throttled_before = kernel.throttled_by_kind();
        let children = BTreeMap::new();
        Self(RefCell::new(Received { kernel, children, hints: 0, others: 0, throttled_before }))
    }

    /// Drains the ring, then runs a pass.
    pub fn snapshot(&self) -> Snapshot {
        self.drain();
        self.0.borrow().kernel.snapshot()
    }

    /// Whether the hooks in use report every change of `fact`.
    fn reports(&self, fact: Fact) -> bool {
        self.0.borrow().kernel.reports(fact)
    }

    /// Whether a record of this kind can be relied on: a hook reports `fact`, and none was throttled. On a busy machine a small
    /// ring is more than half full at times.
    fn must_have(&self, fact: Fact, kind: u32) -> bool {
        let received = self.0.borrow();
        let now = received.kernel.throttled_by_kind();
        let count = |counts: &[u64; KIND_COUNT]| counts.get(kind as usize).copied();
        self.reports(fact) && count(&now) == count(&received.throttled_before)
    }

    fn drain(&self) {
        let Received { kernel, children, hints, others, throttled_before: _ } = &mut *self.0.borrow_mut();
        kernel.drain(usize::MAX, |input| {
            let pid = input.tgid().map_or(0, |tgid| tgid.0);
            if let Input::Hint { bits, .. } = input {
                *hints |= bits;
            }
            if let Input::Fork { creator, .. } = input
                && creator.tgid == Tgid(std::process::id())
            {
                children.insert(pid, ChildRecords::default());
            }
            match children.get_mut(&pid) {
                Some(seen) => seen.add(input),
                None => *others += 1,
            }
            RecordOf::Host
        });
    }

    /// All records of one child, once its death has been received.
    fn of(&self, pid: u32) -> Result<ChildRecords> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.drain();
            let mut received = self.0.borrow_mut();
            if received.children.get(&pid).is_some_and(|seen| seen.exit.is_some()) {
                return Ok(received.children.remove(&pid).unwrap_or_default());
            }
            if Instant::now() > deadline {
                let part = if received.children.contains_key(&pid) { "death" } else { "birth" };
                bail!(
                    "{} within {} s ({} records of other processes did)",
                    never(part, pid),
                    DEADLINE.as_secs(),
                    received.others
                );
            }
            drop(received);
            std::thread::yield_now();
        }
    }
}

/// Compares the records of the children.
pub fn check(records: &RingRecords<'_>, children: &TestChildren) -> Result<()> {
    let seen = birth_and_death(records, &children.killed, Some(children.sid))?;
    // A fact that no hook reports on this kernel is a blind spot, and listed as one.
    if seen.comm.is_some() || records.must_have(Fact::Comm, KIND_COMM) {
        same(VIA, &values::COMM, seen.comm, Some(Comm(*COMM)))?;
    }
    if seen.cwd.is_some() || records.must_have(Fact::Cwd, KIND_CWD) {
        same(VIA, &values::CWD, seen.cwd.as_deref(), Some(DIRECTORY.to_bytes()))?;
    }
    if records.reports(Fact::Uids) {
        same(VIA, &values::UIDS, seen.uids.unwrap_or(children.uids), children.uids)?;
    }
    killed(records, &seen)?;
    birth_and_death(records, &children.threaded, None)?;
    plain(records)?;
    execed(records)?;
    renamed(records)?;
    used(records, &children.busy)
}

/// Compares what the records of a child say that it used. The kernel releases a process some time after it ended, which no call
/// can wait for, so that record is compared if it has come.
fn used(records: &RingRecords<'_>, child: &UsedByChild) -> Result<()> {
    let seen = records.of(child.pid)?;
    let exit = seen.exit.with_context(|| never("death", child.pid))?;
    usage::check_exit(VIA, exit.usage, child)?;
    seen.released_ns.map_or(Ok(()), |cpu_ns| usage::check_release(VIA, cpu_ns, child))
}

/// Compares birth and death of a forked child.
fn birth_and_death(
    records: &RingRecords<'_>,
    child: &EndedChild,
    led_sid: Option<u32>,
) -> Result<ChildRecords> {
    let seen = records.of(child.pid)?;
    let (born, facts) = seen.fork.as_ref().with_context(|| never("birth", child.pid))?;
    same(VIA, &values::START, *born, child.start)?;
    same(VIA, &values::PPID, facts.parent.tgid.0, std::process::id())?;
    same(VIA, &values::UIDS, facts.uids, truth::own_uids())?;
    same(VIA, &values::FORKED, facts.forked, true)?;
    let exit = seen.exit.as_ref().with_context(|| never("death", child.pid))?;
    same(VIA, &values::START, exit.start, child.start)?;
    same(VIA, &values::STATUS, exit.raw_status, child.status)?;
    same(VIA, &values::LED_SID, exit.led_sid, led_sid)?;
    Ok(seen)
}

/// Compares the signals that this process sent to the child: one that it handled, and the one that ended it.
fn killed(records: &RingRecords<'_>, seen: &ChildRecords) -> Result<()> {
    same(VIA, &values::HANDLED, seen.has_handled_signal, false)?;
    if seen.signal.is_none() && !records.must_have(Fact::Signal, KIND_SIGNAL) {
        return Ok(());
    }
    let sent = seen.signal.map(|sent| (sent.signal, sent.origin));
    same(VIA, &values::SIGNAL, sent, Some((SIGNAL as u8, SignalOrigin::Kill)))?;
    let by = seen.signal.and_then(|sent| sent.process).map(|process| (process.key.tgid.0, process.uid));
    same(VIA, &values::SENDER, by, Some((std::process::id(), truth::own_uids().uid)))
}

/// Compares the death of a child whose only thread exits without ending the group; the kernel keeps its status elsewhere.
fn plain(records: &RingRecords<'_>) -> Result<()> {
    let mut child = TestChild::plain()?;
    let status = child.reap()?;
    let seen = records.of(child.pid)?;
    let exit = seen.exit.with_context(|| never("death", child.pid))?;
    same(VIA, &values::STATUS, exit.raw_status, status)?;
    same(VIA, &values::LED_SID, exit.led_sid, Some(child.pid))
}

/// Checks that the rename of a directory raises the hint for paths.
fn renamed(records: &RingRecords<'_>) -> Result<()> {
    if !records.reports(Fact::Paths) {
        return Ok(());
    }
    // Its deletion raises the hint, too, so it is deleted at the end.
    let mut directory = TestDirectory::make();
    for _ in 0..RENAMES {
        records.drain();
        {
            let received = &mut *records.0.borrow_mut();
            received.kernel.clear_hints(hint::PATHS);
            received.hints = 0;
        }
        if !directory.rename()? {
            return Ok(());
        }
        // The hint is raised before the call returns. Another process may raise it too, but hardly between these two lines.
        records.drain();
        same(VIA, &values::RENAMED, records.0.borrow().hints & hint::PATHS != 0, true)?;
    }
    Ok(())
}

/// Compares the records of a child that executes this program once more, on a terminal.
fn execed(records: &RingRecords<'_>) -> Result<()> {
    let terminal = PseudoTerminal::open().context("open a pseudo-terminal")?;
    let slave = terminal.slave.clone();
    let mut command = Command::new("/proc/self/exe");
    command.arg("--version").env_clear().env(CHILD_MARK, "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            let tty = libc::open(slave.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            libc::ioctl(tty, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let mut child = command.spawn().context("start this program once more")?;
    let pid = child.id();
    let status = child.wait().context("wait for this program")?.into_raw();
    let seen = records.of(pid)?;
    let (_, born) = seen.fork.with_context(|| never("birth", pid))?;
    let exec = seen.exec.with_context(|| never("exec", pid))?;
    let exe = fs::read_link("/proc/self/exe").context("read the own executable's path")?;
    let exe = exe.as_os_str().as_bytes();
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    same(VIA, &values::EXE, exec.exe.as_deref(), Some(exe))?;
    same(VIA, &values::ARGV, exec.argv.as_slice(), b"/proc/self/exe\0--version\0".as_slice())?;
    let env = format!("{CHILD_MARK}=1\0");
    same(VIA, &values::ENVIRONMENT, exec.env.as_slice(), env.as_bytes())?;
    same(VIA, &values::FILENAME, exec.filename.as_slice(), b"/proc/self/exe".as_slice())?;
    same(VIA, &values::PPID, exec.facts.parent.tgid.0, std::process::id())?;
    same(VIA, &values::FORKED, (born.forked, exec.facts.forked), (true, false))?;
    same(VIA, &values::EXEC_ID, exec.facts.exec_id, born.exec_id.wrapping_add(1))?;
    let exit = seen.exit.with_context(|| never("death", pid))?;
    same(VIA, &values::STATUS, exit.raw_status, status.cast_unsigned())
}

fn never(what: &str, pid: u32) -> String {
    format!("{VIA}: the {what} of child {pid} never came ({})", values::RECORDS.through())
}

impl ChildRecords {
    fn add(&mut self, input: Input<'_>) {
        match input {
            Input::Fork { key, facts, .. } => self.fork = Some((key.start_boottime, facts)),
            Input::Comm { comm, .. } => self.comm = Some(comm),
            Input::Creds { uids, .. } => self.uids = Some(uids),
            Input::Cwd { path, .. } => self.cwd = join_path(path).map(|path| path.to_vec()),
            Input::Exit { key, raw_status, led_sid, usage, .. } => {
                self.exit = Some(SeenExit { start: key.start_boottime, raw_status, led_sid, usage });
            }
            Input::Release { cpu_ns, .. } => self.released_ns = Some(cpu_ns),
            Input::Signal { sent, .. } if i32::from(sent.signal) == HANDLED => self.has_handled_signal = true,
            Input::Signal { sent, .. } => self.signal = Some(sent),
            Input::Exec { facts, exe, filename, argv, env, .. } => {
                self.exec = Some(SeenExec {
                    facts,
                    exe: join_path(exe).map(|path| path.to_vec()),
                    filename: filename.to_vec(),
                    argv: argv.bytes.to_vec(),
                    env: env.bytes.to_vec(),
                });
            }
            _ => {}
        }
    }
}

//! The ring's half: what records say of the children, those that rows told of and two more.
//!
//! The ring is drained while the children live, for on a busy machine a small one would fill up meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use observer_common::record::hint;
use observer_core::input::ProcessFacts;
use observer_core::input::join_path;
use observer_core::process::{Comm, Uids};
use observer_core::{BootTime, Input, Tgid};

use super::children::{Child, Terminal};
use super::rows::{Past, Told};
use super::truth::Directory;
use super::values;
use super::{CHILD_MARK, COMM, DEADLINE, DIRECTORY, same, truth};

use crate::kernel::{Kernel, Snapshot};

const VIA: &str = "ring";
/// A directory is renamed so often, and each time must be told.
const RENAMES: usize = 3;

/// What the ring said of one child.
#[derive(Default)]
struct Seen {
    fork: Option<(BootTime, ProcessFacts)>,
    comm: Option<Comm>,
    uids: Option<Uids>,
    cwd: Option<Vec<u8>>,
    exec: Option<Exec>,
    exit: Option<Exit>,
}

struct Exec {
    facts: ProcessFacts,
    exe: Option<Vec<u8>>,
    filename: Vec<u8>,
    argv: Vec<u8>,
    env: Vec<u8>,
}

struct Exit {
    start: BootTime,
    raw_status: u32,
    led_sid: Option<u32>,
}

/// The ring, and what it said of this process's children.
pub struct Records<'a>(RefCell<Heard<'a>>);

struct Heard<'a> {
    kernel: &'a mut Kernel,
    children: BTreeMap<u32, Seen>,
    /// [`hint`] bits.
    hints: u64,
    others: u64,
}

impl<'a> Records<'a> {
    /// Of this kernel's ring.
    pub fn new(kernel: &'a mut Kernel) -> Self {
        Self(RefCell::new(Heard { kernel, children: BTreeMap::new(), hints: 0, others: 0 }))
    }

    /// A pass, and what came through the ring until then.
    pub fn look(&self) -> Snapshot {
        self.drain();
        self.0.borrow().kernel.snapshot()
    }

    /// Whether a hook is in use that tells `fact`.
    fn tell(&self, fact: &str) -> bool {
        self.0.borrow().kernel.sources().iter().any(|source| source.fact == fact)
    }

    fn drain(&self) {
        let Heard { kernel, children, hints, others } = &mut *self.0.borrow_mut();
        kernel.drain(usize::MAX, |input| {
            let pid = input.tgid().map_or(0, |tgid| tgid.0);
            if let Input::Hint { bits, .. } = input {
                *hints |= bits;
            }
            if let Input::Fork { creator, .. } = input
                && creator.tgid == Tgid(std::process::id())
            {
                children.insert(pid, Seen::default());
            }
            match children.get_mut(&pid) {
                Some(seen) => seen.note(input),
                None => *others += 1,
            }
        });
    }

    /// All of one child, once its death has come.
    fn of(&self, pid: u32) -> Result<Seen> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.drain();
            let mut heard = self.0.borrow_mut();
            if heard.children.get(&pid).is_some_and(|seen| seen.exit.is_some()) {
                return Ok(heard.children.remove(&pid).unwrap_or_default());
            }
            if Instant::now() > deadline {
                let part = if heard.children.contains_key(&pid) { "death" } else { "birth" };
                bail!(
                    "{} within {} s ({} records of other processes did)",
                    never(part, pid),
                    DEADLINE.as_secs(),
                    heard.others
                );
            }
            drop(heard);
            std::thread::yield_now();
        }
    }
}

/// Compares them.
pub fn check(records: &Records<'_>, told: &Told) -> Result<()> {
    let seen = past(records, &told.killed, Some(told.sid))?;
    // Facts that nothing on this kernel tells are blind spots, and known to be.
    if records.tell("comm") {
        same(VIA, &values::COMM, seen.comm, Some(Comm(*COMM)))?;
    }
    if records.tell("cwd") {
        same(VIA, &values::CWD, seen.cwd.as_deref(), Some(DIRECTORY.to_bytes()))?;
    }
    if records.tell("uids") {
        same(VIA, &values::UIDS, seen.uids.unwrap_or(told.uids), told.uids)?;
    }
    past(records, &told.threaded, None)?;
    plain(records)?;
    execed(records)?;
    renamed(records)
}

/// Birth and death of a forked child.
fn past(records: &Records<'_>, past: &Past, led_sid: Option<u32>) -> Result<Seen> {
    let seen = records.of(past.pid)?;
    let (born, facts) = seen.fork.as_ref().with_context(|| never("birth", past.pid))?;
    same(VIA, &values::START, *born, past.start)?;
    same(VIA, &values::PPID, facts.parent.tgid.0, std::process::id())?;
    same(VIA, &values::UIDS, facts.uids, truth::own_uids())?;
    same(VIA, &values::FORKED, facts.forked, true)?;
    let exit = seen.exit.as_ref().with_context(|| never("death", past.pid))?;
    same(VIA, &values::START, exit.start, past.start)?;
    same(VIA, &values::STATUS, exit.raw_status, past.status)?;
    same(VIA, &values::LED_SID, exit.led_sid, led_sid)?;
    Ok(seen)
}

/// A child whose only thread leaves without ending the group: its status stands elsewhere.
fn plain(records: &Records<'_>) -> Result<()> {
    let mut child = Child::plain()?;
    let status = child.reap()?;
    let seen = records.of(child.pid)?;
    let exit = seen.exit.with_context(|| never("death", child.pid))?;
    same(VIA, &values::STATUS, exit.raw_status, status)?;
    same(VIA, &values::LED_SID, exit.led_sid, Some(child.pid))
}

/// A directory that gets another name: paths below it are to be read again.
fn renamed(records: &Records<'_>) -> Result<()> {
    if !records.tell("paths") {
        return Ok(());
    }
    // Deleting it is told too: it stays until this has been looked at.
    let mut directory = Directory::make();
    for _ in 0..RENAMES {
        records.drain();
        {
            let heard = &mut *records.0.borrow_mut();
            heard.kernel.clear_hints(hint::PATHS);
            heard.hints = 0;
        }
        if !directory.rename()? {
            return Ok(());
        }
        // Raised before the call returns, and looked at at once: hardly by another process, which may raise it too.
        records.drain();
        same(VIA, &values::RENAMED, records.0.borrow().hints & hint::PATHS != 0, true)?;
    }
    Ok(())
}

/// A child that execs this program once more, on a terminal.
fn execed(records: &Records<'_>) -> Result<()> {
    let terminal = Terminal::open().context("open a pseudo-terminal")?;
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

impl Seen {
    fn note(&mut self, input: Input<'_>) {
        match input {
            Input::Fork { key, facts, .. } => self.fork = Some((key.start_boottime, facts)),
            Input::Comm { comm, .. } => self.comm = Some(comm),
            Input::Creds { uids, .. } => self.uids = Some(uids),
            Input::Cwd { path, .. } => self.cwd = join_path(path).map(|path| path.to_vec()),
            Input::Exit { key, raw_status, led_sid, .. } => {
                self.exit = Some(Exit { start: key.start_boottime, raw_status, led_sid });
            }
            Input::Exec { facts, exe, filename, argv, env, .. } => {
                self.exec = Some(Exec {
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

//! Traces a child from system call to system call. Where the child loads a BPF program, the tracer requests
//! the verifier's statistics in its place, into memory below its stack.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use observer_harness::wait;

const BPF_PROG_LOAD: u64 = 5;
const BPF_LOG_STATS: u32 = 4;
/// The offsets in `union bpf_attr` for BPF_PROG_LOAD.
const LOG_LEVEL: usize = 24;
const NAME: usize = 48;
const NAME_LEN: usize = 16;
const ATTACH_BTF_ID: usize = 108;
const ATTR_LEN: usize = ATTACH_BTF_ID + 4;
/// An address far below the child's stack, which grows when the kernel writes there.
const BELOW_STACK: u64 = 64 << 10;
const LOG_BYTES: usize = 8 << 10;

/// One program that was loaded, or that the kernel refused to load.
#[derive(Debug)]
pub struct Load {
    /// The program's name, of 15 bytes at most.
    pub name: String,
    /// The type id of the attachment target; 0 if there is none.
    pub attach_btf_id: u32,
    /// Whether the kernel accepted it.
    pub accepted: bool,
    /// The verifier's log.
    pub log: String,
}

impl Load {
    /// Returns the number of instructions processed.
    pub fn instructions(&self) -> Option<u64> {
        let (_, rest) = self.log.rsplit_once("processed ")?;
        rest.split(' ').next()?.parse().ok()
    }
}

/// Runs a program to its end and returns the named BPF programs that it loads. Unnamed programs are probes of
/// kernel features.
pub fn loads(program: &Path, args: &[&str]) -> Vec<Load> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: the closure makes one async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            Ok(())
        });
    }
    let child = command.spawn().expect("start the program").id().cast_signed();
    let tracee = Tracee(child);
    assert!(tracee.next().is_some(), "it stops at its exec");
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    // SAFETY: the child is stopped and traced by this thread.
    let set = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, child, 0, options) };
    assert_eq!(set, 0, "set the tracer's options");
    let mut loads = Vec::new();
    let mut asked: Option<(u64, Vec<u8>)> = None;
    let mut entered = false;
    let mut signal = 0;
    loop {
        tracee.resume(signal);
        let Some(stop) = tracee.next() else { return loads };
        // With the option above, a bit distinguishes stops at system calls from signals.
        if stop != libc::SIGTRAP | 0x80 {
            signal = stop;
            continue;
        }
        signal = 0;
        entered = !entered;
        if entered {
            asked = tracee.entering();
        } else if let Some((at, attr)) = asked.take() {
            loads.extend(tracee.left(at, &attr));
        }
    }
}

/// What a child's registers hold when it stops at a system call.
struct Registers {
    /// The system call's number.
    number: u64,
    /// Its first arguments, at its entry.
    arguments: [u64; 3],
    /// What it returns, at its exit.
    result: u64,
    /// The end of the stack.
    stack: u64,
}

impl From<libc::user_regs_struct> for Registers {
    #[cfg(target_arch = "x86_64")]
    fn from(registers: libc::user_regs_struct) -> Self {
        let arguments = [registers.rdi, registers.rsi, registers.rdx];
        Self { number: registers.orig_rax, arguments, result: registers.rax, stack: registers.rsp }
    }

    #[cfg(target_arch = "aarch64")]
    fn from(registers: libc::user_regs_struct) -> Self {
        let [first, second, third, _, _, _, _, _, number, ..] = registers.regs;
        Self { number, arguments: [first, second, third], result: first, stack: registers.sp }
    }
}

struct Tracee(i32);

impl Tracee {
    fn resume(&self, signal: i32) {
        // SAFETY: the child is stopped and traced by this thread.
        let gone = unsafe { libc::ptrace(libc::PTRACE_SYSCALL, self.0, 0, signal) };
        assert_eq!(gone, 0, "let the child go on");
    }

    /// Waits for the next stop and returns the signal that caused it, or `None` when the child ended.
    fn next(&self) -> Option<i32> {
        let mut status = 0;
        // SAFETY: the call waits for a child of this process for which no other code waits.
        let found = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert_eq!(found, self.0, "wait for the child");
        libc::WIFSTOPPED(status).then(|| libc::WSTOPSIG(status))
    }

    /// Handles the entry of a system call: if it loads a named program, requests the log. Returns the address
    /// and the previous bytes of its attributes.
    fn entering(&self) -> Option<(u64, Vec<u8>)> {
        let registers = self.registers();
        let [command, at, len] = registers.arguments;
        if registers.number != libc::SYS_bpf as u64 || command != BPF_PROG_LOAD {
            return None;
        }
        let attr = self.read(at, ATTR_LEN.min(len as usize));
        if attr.len() < ATTR_LEN || attr.get(NAME) == Some(&0) {
            return None;
        }
        let mut log = [BPF_LOG_STATS, LOG_BYTES as u32].map(u32::to_ne_bytes).concat();
        log.extend((registers.stack - BELOW_STACK).to_ne_bytes());
        self.write(at + LOG_LEVEL as u64, &log);
        Some((at, attr))
    }

    /// Handles the exit of the system call: reads the log and restores the attributes.
    fn left(&self, at: u64, attr: &[u8]) -> Option<Load> {
        let registers = self.registers();
        let log = self.read(registers.stack - BELOW_STACK, LOG_BYTES);
        // A program that is refused before the verifier sees it has no log and must not get the previous
        // program's log.
        self.write(registers.stack - BELOW_STACK, &vec![0; log.len()]);
        self.write(at + LOG_LEVEL as u64, attr.get(LOG_LEVEL..LOG_LEVEL + 16)?);
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
        };
        let id = attr.get(ATTACH_BTF_ID..ATTACH_BTF_ID + 4)?;
        Some(Load {
            name: text(attr.get(NAME..NAME + NAME_LEN)?),
            attach_btf_id: u32::from_ne_bytes(id.try_into().ok()?),
            accepted: registers.result.cast_signed() >= 0,
            log: text(&log),
        })
    }

    fn registers(&self) -> Registers {
        // SAFETY: the registers are plain integers, which the kernel fills for a stopped child.
        unsafe {
            let mut registers = std::mem::zeroed::<libc::user_regs_struct>();
            let mut place = libc::iovec {
                iov_base: (&raw mut registers).cast(),
                iov_len: size_of::<libc::user_regs_struct>(),
            };
            let got = libc::ptrace(libc::PTRACE_GETREGSET, self.0, libc::NT_PRSTATUS, &raw mut place);
            assert_eq!(got, 0, "read the child's registers");
            registers.into()
        }
    }

    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0_u8; len];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
        let remote = libc::iovec { iov_base: at as *mut _, iov_len: len };
        // SAFETY: the call writes at most `len` bytes into `bytes`.
        let read = unsafe { libc::process_vm_readv(self.0, &raw const local, 1, &raw const remote, 1, 0) };
        bytes.truncate(usize::try_from(read).unwrap_or(0));
        bytes
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: at as *mut _, iov_len: bytes.len() };
        // SAFETY: the call reads only `bytes` here and writes only to the child's memory.
        let wrote = unsafe { libc::process_vm_writev(self.0, &raw const local, 1, &raw const remote, 1, 0) };
        assert_eq!(usize::try_from(wrote).ok(), Some(bytes.len()), "write into the child's memory");
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // SAFETY: the child belongs to this process and is not reaped: its end would have ended the loop.
            unsafe { libc::kill(self.0, libc::SIGKILL) };
            let _ = wait::reap(self.0);
        }
    }
}

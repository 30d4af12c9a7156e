//! System calls that another process is made to call, as a debugger does it: what a process has open, nobody else can close.

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use libc::{c_long, c_void, pid_t, user_regs_struct};

use crate::eventually;
use crate::links::{self, LinkPlace, OpenFile};

/// How long the process may take to sleep in a system call.
const SLEEPS: Duration = Duration::from_secs(20);
/// IORING_UNREGISTER_FILES (include/uapi/linux/io_uring.h).
const UNREGISTER_FILES: u64 = 3;
/// IORING_REGISTER_FILES_UPDATE there.
const FILES_UPDATE: u64 = 6;
/// The instruction that calls the kernel.
const SYSCALL: c_long = 0x050f;

/// Takes the links of its kernel programs away from a daemon: no hook fires from then on. Its iterator stays.
#[track_caller]
pub fn detach_programs(daemon: u32) {
    let mut detached = 0_u32;
    for file in links::open_files(daemon) {
        match &*file.path {
            // It holds the links.
            "anon_inode:[io_uring]" => {
                let result = call(daemon, libc::SYS_io_uring_register, [file.fd, UNREGISTER_FILES, 0, 0]);
                assert_eq!(result, 0, "unregister the links from the ring");
                detached += 1;
            }
            "anon_inode:bpf_link" if file.info.contains("link_type:\titer") => {}
            "anon_inode:bpf_link" | "anon_inode:[perf_event]" => {
                close(daemon, &file);
                detached += 1;
            }
            _ => {}
        }
    }
    assert!(detached > 0, "the daemon has links");
}

/// Takes the links of the programs at one tracepoint away from a daemon: its other hooks go on.
#[track_caller]
pub fn detach_tracepoint(daemon: u32, tracepoint: &str) {
    for program in links::programs_at(tracepoint) {
        // The second program is loaded on some kernels only.
        let Some(place) = links::place_of(daemon, program) else { continue };
        match place {
            LinkPlace::Descriptor(file) => close(daemon, &file),
            LinkPlace::Ring { fd, slot } => unregister(daemon, fd, slot),
        }
        // The kernel may let go of it later.
        eventually("a program is detached", SLEEPS, || match links::place_of(daemon, program) {
            None => Ok(()),
            Some(_) => Err(program.to_owned()),
        });
    }
}

/// Closes a file of the daemon. Its number stays in use, so that the daemon does not close another file in its place.
fn close(daemon: u32, file: &OpenFile) {
    let result = call(daemon, libc::SYS_dup2, [0, file.fd, 0, 0]);
    assert_eq!(result, file.fd.cast_signed(), "close a link");
}

/// Removes the file in this slot of a ring of the daemon.
fn unregister(daemon: u32, ring: u64, slot: u64) {
    // The daemon needs memory with `struct io_uring_files_update` and the new descriptor, -1: below its stack is some that it
    // does not use while it sleeps in a system call.
    let update = |memory: u64| [slot, memory + 16, u64::from(u32::MAX)];
    let result = call_with_memory(daemon, libc::SYS_io_uring_register, update, |memory| {
        [ring, FILES_UPDATE, memory, 1]
    });
    assert_eq!(result, 1, "unregister one link from the ring");
}

/// Has the main thread of a process call the kernel while it sleeps in another call, which it then goes on with. Returns what
/// the kernel returned.
#[track_caller]
pub fn call(pid: u32, number: c_long, arguments: [u64; 4]) -> i64 {
    let traced = eventually("it sleeps in a system call", SLEEPS, || Traced::new(pid));
    traced.call(number, arguments)
}

/// The same with some memory of the process, which holds what `contents` returns for its address during the call.
#[track_caller]
fn call_with_memory<const WORDS: usize>(
    pid: u32,
    number: c_long,
    contents: impl Fn(u64) -> [u64; WORDS],
    arguments: impl Fn(u64) -> [u64; 4],
) -> i64 {
    let traced = eventually("it sleeps in a system call", SLEEPS, || Traced::new(pid));
    // Below what a handler of a signal takes of the stack.
    let memory = (traced.registers().rsp - 16384) & !63;
    for (at, word) in (memory..).step_by(8).zip(contents(memory)) {
        assert_eq!(request(libc::PTRACE_POKEDATA, traced.pid, at, word), 0, "write to {pid}");
    }
    traced.call(number, arguments(memory))
}

/// Has the main thread of a process sleep until it gets a signal, while the other threads go on.
#[track_caller]
pub fn hang(pid: u32) {
    let traced = eventually("it sleeps in a system call", SLEEPS, || Traced::new(pid));
    let saved = traced.registers();
    // It goes on after that call as if its own had been interrupted.
    traced.set_registers(calling(&saved, libc::SYS_pause, [saved.rdi, saved.rsi, saved.rdx, saved.r10]));
    drop(traced);
    let hangs = || {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        let is_pause = call.split(' ').next() == Some(&libc::SYS_pause.to_string());
        if is_pause { Ok(()) } else { Err(call) }
    };
    eventually("its main thread hangs", SLEEPS, hangs);
}

/// The registers with which a thread that is in a system call calls the kernel in place of it.
fn calling(saved: &user_regs_struct, number: c_long, arguments: [u64; 4]) -> user_regs_struct {
    let [rdi, rsi, rdx, r10] = arguments;
    user_regs_struct {
        rip: saved.rip - 2,
        rax: number.cast_unsigned(),
        // No call is started again after this one.
        orig_rax: u64::MAX,
        rdi,
        rsi,
        rdx,
        r10,
        ..*saved
    }
}

/// A stopped thread, which goes on when this is dropped.
struct Traced {
    pid: pid_t,
    /// A signal that it was about to get; 0 for none. It gets it when it goes on.
    signal: Cell<i32>,
}

impl Traced {
    /// Stops the thread if it sleeps in a system call.
    fn new(pid: u32) -> Result<Self, String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| error.to_string())?;
        if !stat.contains(") S ") {
            return Err(stat);
        }
        let pid = pid.cast_signed();
        assert_eq!(request(libc::PTRACE_SEIZE, pid, 0, 0), 0, "seize {pid}");
        let traced = Self { pid, signal: Cell::new(0) };
        assert_eq!(request(libc::PTRACE_INTERRUPT, pid, 0, 0), 0, "interrupt {pid}");
        traced.wait();
        let registers = traced.registers();
        let instruction = request(libc::PTRACE_PEEKTEXT, pid, registers.rip - 2, 0) & 0xffff;
        if registers.orig_rax.cast_signed() < 0 || instruction != SYSCALL {
            return Err("it was in no system call".into());
        }
        Ok(traced)
    }

    /// Has it call the kernel, and go on as before. Returns what the kernel returned.
    fn call(&self, number: c_long, arguments: [u64; 4]) -> i64 {
        let saved = self.registers();
        self.set_registers(calling(&saved, number, arguments));
        // A signal that is being delivered stops it before the call is made.
        let before = self.registers().rip;
        while self.registers().rip == before {
            self.step();
        }
        let result = self.registers().rax.cast_signed();
        self.set_registers(saved);
        result
    }

    /// Waits until it stops; returns the signal by which.
    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is valid for the kernel to fill.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
        assert!(waited == self.pid && libc::WIFSTOPPED(status), "it stops: {waited}, {status:#x}");
        libc::WSTOPSIG(status)
    }

    fn step(&self) {
        assert_eq!(request(libc::PTRACE_SINGLESTEP, self.pid, 0, 0), 0, "step {}", self.pid);
        let signal = self.wait();
        if signal != libc::SIGTRAP {
            self.signal.set(signal);
        }
    }

    fn registers(&self) -> user_regs_struct {
        // SAFETY: all bit patterns are valid, and the kernel fills the struct.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        assert_eq!(
            request(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers as u64),
            0,
            "read registers"
        );
        registers
    }

    fn set_registers(&self, registers: user_regs_struct) {
        assert_eq!(
            request(libc::PTRACE_SETREGS, self.pid, 0, &raw const registers as u64),
            0,
            "set registers"
        );
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        request(libc::PTRACE_DETACH, self.pid, 0, self.signal.get().unsigned_abs().into());
    }
}

fn request(request: libc::c_uint, pid: pid_t, address: u64, data: u64) -> c_long {
    // SAFETY: `data` is 0, or the address of registers that live during the call.
    unsafe { libc::ptrace(request, pid, address as *mut c_void, data as *mut c_void) }
}

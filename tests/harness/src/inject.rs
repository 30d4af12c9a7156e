//! System calls that another process is made to call, as a debugger does it: what a process has open, nobody else can close.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use libc::{c_long, c_void, pid_t, user_regs_struct};

use crate::eventually;

/// How long the process may take to sleep in a system call.
const SLEEPS: Duration = Duration::from_secs(20);
/// IORING_UNREGISTER_FILES (include/uapi/linux/io_uring.h).
const UNREGISTER_FILES: u64 = 3;
/// The instruction that calls the kernel.
const SYSCALL: c_long = 0x050f;

/// Takes the links of its kernel programs away from a daemon: no hook fires from then on. Its iterator stays.
#[track_caller]
pub fn detach_programs(daemon: u32) {
    let fds = fs::read_dir(format!("/proc/{daemon}/fd")).expect("its descriptors");
    let fds: Vec<(u64, PathBuf)> = fds
        .filter_map(|fd| {
            let fd = fd.ok()?;
            Some((fd.file_name().to_str()?.parse().ok()?, fs::read_link(fd.path()).ok()?))
        })
        .collect();
    let mut detached = 0_u32;
    for (fd, file) in fds {
        let info = || fs::read_to_string(format!("/proc/{daemon}/fdinfo/{fd}")).unwrap_or_default();
        match file.to_str() {
            // It holds the links.
            Some("anon_inode:[io_uring]") => {
                let result = call(daemon, libc::SYS_io_uring_register, [fd, UNREGISTER_FILES, 0, 0]);
                assert_eq!(result, 0, "unregister the links from the ring");
                detached += 1;
            }
            Some("anon_inode:bpf_link") if info().contains("link_type:\titer") => {}
            // The number stays in use, so that the daemon does not close another file in its place.
            Some("anon_inode:bpf_link" | "anon_inode:[perf_event]") => {
                let result = call(daemon, libc::SYS_dup2, [0, fd, 0, 0]);
                assert_eq!(result, fd.cast_signed(), "close a link");
                detached += 1;
            }
            _ => {}
        }
    }
    assert!(detached > 0, "the daemon has links");
}

/// Has the main thread of a process call the kernel while it sleeps in another call, which it then goes on with. Returns what
/// the kernel returned.
#[track_caller]
pub fn call(pid: u32, number: c_long, arguments: [u64; 4]) -> i64 {
    let traced = eventually("it sleeps in a system call", SLEEPS, || Traced::new(pid));
    let saved = traced.registers();
    let [rdi, rsi, rdx, r10] = arguments;
    traced.set_registers(user_regs_struct {
        rip: saved.rip - 2,
        rax: number.cast_unsigned(),
        // No call is started again after this one.
        orig_rax: u64::MAX,
        rdi,
        rsi,
        rdx,
        r10,
        ..saved
    });
    // A signal that is being delivered stops it before the call is made.
    let before = traced.registers().rip;
    while traced.registers().rip == before {
        traced.step();
    }
    let result = traced.registers().rax.cast_signed();
    traced.set_registers(saved);
    result
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

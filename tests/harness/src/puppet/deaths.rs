//! Deaths by the kernel, and many deaths by others.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::conversation::{Args, Done, check, number};

/// `takes_memory BYTES`.
pub fn takes_memory(args: Args<'_>) -> Done {
    const PAGE: usize = 4096;
    let mut held = vec![0_u8; number(args, 0)?];
    for page in held.chunks_mut(PAGE) {
        if let Some(byte) = page.first_mut() {
            // SAFETY: a byte of our own, which is written so that the page is there.
            unsafe { std::ptr::write_volatile(byte, 1) };
        }
    }
    std::mem::forget(held);
    Ok(vec![])
}

extern "C" fn wait_to_be_killed(_: *mut libc::c_void) -> libc::c_int {
    // SAFETY: a system call with integers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    pause()
}

/// Waits for a signal that ends this process.
fn pause() -> ! {
    loop {
        // SAFETY: a system call without arguments.
        unsafe { libc::pause() };
    }
}

/// `bears_sharer`.
pub fn bears_sharer() -> Done {
    // The child uses it as long as it lives, and it has this memory.
    let stack = Box::leak(vec![0_u8; 64 << 10].into_boxed_slice());
    let top = stack.as_mut_ptr_range().end.map_addr(|address| address & !15);
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, and makes one system call again and again.
    let pid = unsafe { libc::clone(wait_to_be_killed, top.cast(), flags, std::ptr::null_mut()) };
    check(pid).map(|pid| vec![pid])
}

/// `bears_namespace`.
pub fn bears_namespace() -> Done {
    let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
    let (mut ready, mut child_end) = UnixStream::pair()?;
    // SAFETY: without CLONE_VM the child gets a copy of everything, as with fork, and this process has one thread.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone, i64::from(flags), 0, 0, 0, 0);
        if pid == 0 {
            if libc::fork() == 0 {
                // Nothing but the end of the namespace ends it.
                match child_end.write_all(b".") {
                    Ok(()) => pause(),
                    Err(_) => super::ends::exit(2),
                }
            }
            wait_to_be_killed(std::ptr::null_mut());
        }
        check(pid)?
    };
    drop(child_end);
    ready.read_exact(&mut [0])?;
    Ok(vec![pid])
}

/// `breaks_filter`.
pub fn breaks_filter() -> Done {
    // SAFETY: from here on getppid kills the process; the instructions are valid, and the kernel copies them.
    unsafe {
        let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        let (jump, answer) = ((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, libc::BPF_RET as u16);
        let mut filter = [
            libc::sock_filter { code: load, jt: 0, jf: 0, k: 0 },
            libc::sock_filter { code: jump, jt: 0, jf: 1, k: libc::SYS_getppid as u32 },
            libc::sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_KILL_PROCESS },
            libc::sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::setrlimit(libc::RLIMIT_CORE, &raw const none))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
        libc::syscall(libc::SYS_getppid);
    }
    Ok(vec![])
}

/// Signals that by default end a process. Those of real time follow.
const ENDING: [i32; 23] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31];
/// Processes that kill others.
const KILLERS: u64 = 3;
/// Ways in which they do it.
const WAYS: u64 = 4;

/// A child that kills whoever it is told to.
struct Killer {
    pid: u64,
    orders: UnixStream,
}

impl Killer {
    fn bear() -> io::Result<Self> {
        let (orders, child_end) = UnixStream::pair()?;
        // SAFETY: this process has one thread, so the child may do anything.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            drop(orders);
            kill_as_told(child_end);
        }
        Ok(Self { pid, orders })
    }

    fn order(&mut self, pid: u64, signal: i32, way: u64) -> io::Result<()> {
        let words = [pid as u32, signal.cast_unsigned(), way as u32];
        self.orders.write_all(words.map(u32::to_ne_bytes).as_flattened())
    }
}

fn kill_as_told(mut orders: UnixStream) -> ! {
    let mut words = [[0; 4]; 3];
    while orders.read_exact(words.as_flattened_mut()).is_ok() {
        let [pid, signal, way] = words.map(i32::from_ne_bytes);
        let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
        // SAFETY: integers.
        unsafe {
            match way {
                1 => libc::kill(pid, signal).into(),
                2 => libc::syscall(libc::SYS_tgkill, pid, pid, signal),
                3 => libc::sigqueue(pid, signal, value).into(),
                _ => through_pidfd(pid, signal),
            }
        };
    }
    super::ends::exit(0)
}

/// pidfd_send_signal(2), without a siginfo.
fn through_pidfd(pid: libc::pid_t, signal: libc::c_int) -> libc::c_long {
    // SAFETY: integers, and a descriptor that is closed by whom it was opened.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let sent = libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, 0, 0);
        libc::close(fd as libc::c_int);
        sent
    }
}

/// `dies_in_many_ways COUNT SEED`.
pub fn dies_in_many_ways(args: Args<'_>) -> Done {
    let (count, seed): (u64, u64) = (number(args, 0)?, number(args, 1)?);
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })?;
    // A Rust program ignores the first and handles the others, and so would the children.
    for signal in [libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action needs no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let signals: Vec<i32> = ENDING.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).collect();
    let mut killers = (0..KILLERS).map(|_| Killer::bear()).collect::<io::Result<Vec<_>>>()?;
    let mut answer = Vec::new();
    let mut state = seed | 1;
    for _ in 0..count {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let exits = state.is_multiple_of(3);
        // SAFETY: as in `Killer::bear`.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            if exits {
                super::ends::exit((state >> 32) as u8 as i32);
            }
            wait_to_be_killed(std::ptr::null_mut());
        }
        let (mut by, mut signal, mut way) = (0, 0, 0);
        let index = (state >> 8) % KILLERS;
        if !exits && let Some(killer) = killers.get_mut(index as usize) {
            signal = signals.get((state >> 16) as usize % signals.len()).copied().unwrap_or(libc::SIGKILL);
            (by, way) = (killer.pid, (state >> 40) % WAYS + 1);
            killer.order(pid, signal, way)?;
        }
        let raw_status = crate::wait::reap(pid as i32)?.raw_status;
        answer.extend([pid, by, check(signal)?, way, check(raw_status)?]);
    }
    // Each has the sockets of those before it.
    for Killer { pid, orders } in killers.into_iter().rev() {
        drop(orders);
        crate::wait::reap(pid as i32)?;
    }
    Ok(answer)
}

/// `kills_many COUNT`: children in a group of their own, which one signal ends.
pub fn kills_many(args: Args<'_>) -> Done {
    let count: u64 = number(args, 0)?;
    let mut pids: Vec<i32> = Vec::new();
    for _ in 0..count {
        // SAFETY: as in `Killer::bear`.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            wait_to_be_killed(std::ptr::null_mut());
        }
        pids.push(pid as i32);
        // SAFETY: integers; the first child is not reaped, so the group is its own.
        check(unsafe { libc::setpgid(pid as i32, pids.first().copied().unwrap_or(0)) })?;
    }
    let group = pids.first().copied().ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: integers, as above.
    check(unsafe { libc::kill(-group, libc::SIGKILL) })?;
    let mut answer = Vec::new();
    for pid in pids {
        answer.extend([check(pid)?, check(crate::wait::reap(pid)?.raw_status)?]);
    }
    Ok(answer)
}

//! Ends, and waiting for them.

use super::conversation::{Args, Done, Then, check, number};

/// Exits at once, all threads.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// `exit CODE`: exit_group(2).
pub fn exit_as(args: Args<'_>) -> Then {
    match number(args, 0) {
        Ok(code) => exit(code),
        Err(error) => Then::Answer(Err(error)),
    }
}

/// `die SIGNAL CORE`: this process kills itself; CORE 1 allows a core dump. Answers only where it survived.
pub fn die(args: Args<'_>) -> Done {
    let signal: i32 = number(args, 0)?;
    let core: u64 = number(args, 1)?;
    let limit = libc::rlimit { rlim_cur: core * (64 << 20), rlim_max: core * (64 << 20) };
    // SAFETY: plain system calls; `limit` and `set` are valid.
    unsafe {
        check(libc::setrlimit(libc::RLIMIT_CORE, &raw const limit))?;
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        check(libc::kill(libc::getpid(), signal))?;
    }
    Ok(vec![])
}

/// `faults HOW`.
pub fn faults(args: Args<'_>) -> ! {
    let how = args.first().map(Vec::as_slice).unwrap_or_default();
    // SAFETY: it is not safe, and ends this process, whose handlers and core dumps are left out.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        for signal in [libc::SIGSEGV, libc::SIGILL] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let address = match how {
            b"null" => 8,
            b"user" => {
                let (anonymous, page) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, 1 << 16);
                let mapped = libc::mmap(std::ptr::null_mut(), page, libc::PROT_READ, anonymous, -1, 0);
                libc::munmap(mapped, page);
                mapped.addr()
            }
            b"kernel" => usize::MAX << 47 | 0x1000,
            _ => {
                #[cfg(target_arch = "x86_64")]
                std::arch::asm!("hlt");
                exit(0)
            }
        };
        std::ptr::without_provenance::<u8>(address).read_volatile();
    }
    exit(0)
}

/// `writes_to_closed_pipe`.
pub fn writes_to_closed_pipe() -> Done {
    let mut ends = [0; 2];
    // SAFETY: two descriptors of ours, and one byte.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        check(libc::pipe(ends.as_mut_ptr()))?;
        libc::close(ends[0]);
        libc::write(ends[1], [0_u8].as_ptr().cast(), 1);
    }
    Ok(vec![])
}

/// `ignore SIGNAL`.
pub fn ignore(args: Args<'_>) -> Done {
    // SAFETY: sets a disposition that needs no handler.
    unsafe { libc::signal(number(args, 0)?, libc::SIG_IGN) };
    Ok(vec![])
}

/// `wait PID`: waits for a child of this process; answers si_code, si_status and wait4's status word.
pub fn wait(args: Args<'_>) -> Done {
    let waited = crate::wait::reap(number(args, 0)?)?;
    [waited.si_code, waited.si_status, waited.raw_status].into_iter().map(check).collect()
}

/// `becomes_subreaper`.
pub fn becomes_subreaper() -> Done {
    // SAFETY: prctl with integers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(|_| vec![])
}

/// `ends_with_parent SIGNAL`.
pub fn ends_with_parent(args: Args<'_>) -> Done {
    let signal: libc::c_ulong = number(args, 0)?;
    // SAFETY: prctl with integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(|_| vec![])
}

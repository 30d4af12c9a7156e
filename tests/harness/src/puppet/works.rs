//! Processes that use processor and memory, and measure themselves what they used.

use std::io;

use super::conversation::{Args, Done, check, number, word};

/// Steps of [`compute`] that are timed to find out how many take how long.
const TRIAL_STEPS: u64 = 20_000_000;

/// `works CHILDREN US WAY MIB`.
pub fn works(args: Args<'_>) -> Done {
    let (children, us): (u64, u64) = (number(args, 0)?, number(args, 1)?);
    let (way, mebibytes): (_, usize) = (word(args, 2)?, number(args, 3)?);
    let memory = std::hint::black_box(vec![1_u8; mebibytes << 20]);
    let mut ends = [0; 2];
    // Those that are abandoned become this process's children, for the kernel to reap: the machine's init may take seconds.
    let (adopts, ignores) = (way == b"abandons", way == b"abandons" || way == b"ignores");
    // SAFETY: two descriptors of ours; an action and an attribute that the kernel knows.
    unsafe {
        check(libc::pipe(ends.as_mut_ptr()))?;
        libc::signal(libc::SIGCHLD, if ignores { libc::SIG_IGN } else { libc::SIG_DFL });
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(adopts)))?;
    }
    let steps = us * 1000 * TRIAL_STEPS / trial_ns();
    let mut used_ns = 0;
    for _ in 0..children {
        // SAFETY: the child of one thread, which makes system calls only.
        let child = unsafe { libc::fork() };
        if child == 0 {
            bear_and_work(way, steps);
            end(ends[1]);
        }
        check(child)?;
        if !ignores {
            // SAFETY: a child of ours.
            check(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) })?;
        }
        for _ in 0..if way == b"abandons" || way == b"delegates" { 2 } else { 1 } {
            used_ns += told(ends[0])?;
        }
    }
    drop(memory);
    // SAFETY: descriptors of ours; fills a struct of plain integers.
    let usage = unsafe {
        libc::close(ends[0]);
        libc::close(ends[1]);
        let mut usage = std::mem::zeroed::<libc::rusage>();
        check(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage))?;
        usage
    };
    let max_rss_kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    Ok(vec![used_ns / 1000, max_rss_kib])
}

/// What a child does: the work, or whoever abandons or delegates has it done by a child of its own.
fn bear_and_work(way: &[u8], steps: u64) {
    if way != b"abandons" && way != b"delegates" {
        return compute(steps);
    }
    // SAFETY: the child of one thread, which makes system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        compute(steps);
    } else if way == b"delegates" {
        // SAFETY: a child of ours.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
}

/// Keeps the processor busy without a system call, at each of which the kernel would bring its count up to date.
fn compute(steps: u64) {
    for step in 0..steps {
        std::hint::black_box(step);
    }
}

/// How long [`TRIAL_STEPS`] take here, ns.
fn trial_ns() -> u64 {
    let before = own_ns();
    compute(TRIAL_STEPS);
    u64::try_from(own_ns() - before).unwrap_or(1).max(1)
}

fn own_ns() -> i64 {
    // SAFETY: fills a struct of plain integers.
    unsafe {
        let mut time = std::mem::zeroed::<libc::timespec>();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}

/// Tells what this process has used, and ends it.
fn end(pipe: libc::c_int) -> ! {
    let used = own_ns().to_ne_bytes();
    // SAFETY: reads eight bytes.
    unsafe { libc::write(pipe, used.as_ptr().cast(), used.len()) };
    super::ends::exit(0)
}

/// What a child told, ns.
fn told(pipe: libc::c_int) -> io::Result<u64> {
    let mut used = [0_u8; 8];
    // SAFETY: writes eight bytes.
    let read = check(unsafe { libc::read(pipe, used.as_mut_ptr().cast(), used.len()) } as i64)?;
    if read != 8 {
        return Err(io::Error::other(format!("a child told {read} bytes")));
    }
    Ok(u64::from_ne_bytes(used))
}

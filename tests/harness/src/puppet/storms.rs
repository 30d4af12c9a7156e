//! Many processes.

use std::ffi::CString;
use std::time::Duration;

use super::conversation::{Args, Done, check, number, text, word};

/// What a child of the storm needs to exec.
struct Tiny {
    path: CString,
    dir: CString,
}

/// `storm PROGRAM DIR TIMES DIR_A DIR_B PAUSE_US`: TIMES children, each born, exec'd into PROGRAM with DIR as argument and dead, one after the
/// other; this process itself goes between DIR_A and DIR_B at each of them. Answers how many ended with code 7.
pub fn storm(args: Args<'_>) -> Done {
    let tiny = Tiny { path: text(args, 0)?, dir: text(args, 1)? };
    let times: u32 = number(args, 2)?;
    let dirs = [text(args, 3)?, text(args, 4)?];
    let pause = Duration::from_micros(number(args, 5)?);
    let mut stack = vec![0u8; 16 << 10];
    let top = stack.as_mut_ptr_range().end.map_addr(|address| address & !15);
    let mut right = 0;
    for (_, dir) in (0..times).zip(dirs.iter().cycle()) {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let mut status = 0;
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        // SAFETY: valid paths; the child has a stack of its own and only execs or exits while this process waits.
        unsafe {
            check(libc::chdir(dir.as_ptr()))?;
            let pid = check(libc::clone(exec_tiny, top.cast(), flags, (&raw const tiny).cast_mut().cast()))?;
            check(libc::waitpid(i32::try_from(pid).unwrap_or(-1), &raw mut status, 0))?;
        }
        right += u64::from(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == crate::tiny::CODE);
    }
    Ok(vec![right])
}

extern "C" fn exec_tiny(tiny: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `storm` passes a valid value that outlives the child's use of it; argv and environment end in NULL.
    unsafe {
        let tiny = &*tiny.cast::<Tiny>();
        let argv = [tiny.path.as_ptr(), tiny.dir.as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null()];
        libc::execve(tiny.path.as_ptr(), argv.as_ptr(), environment.as_ptr());
    }
    127
}

/// `bears_many TIMES`: children that stay until this process ends. Answers their pids.
pub fn bears_many(args: Args<'_>) -> Done {
    bears_each(number(args, 0)?, |_| super::races::stay())
}

/// `bears_walkers PREFIX TIMES COUNT END`: children in directories of their own, which go on at SIGUSR1. Answers their pids.
pub fn bears_walkers(args: Args<'_>) -> Done {
    let prefix = word(args, 0)?;
    let (times, count): (u32, u32) = (number(args, 1)?, number(args, 2)?);
    let end = text(args, 3)?;
    let enter = |at: u32| {
        let path = CString::new([prefix, at.to_string().as_bytes()].concat())?;
        // SAFETY: a valid path.
        check(unsafe { libc::chdir(path.as_ptr()) })
    };
    let walk = |child: u32| {
        enter(child)?;
        // SAFETY: `set` is valid, and `signal` a place for a number.
        unsafe {
            let (mut set, mut signal) = (std::mem::zeroed(), 0);
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            libc::sigwait(&raw const set, &raw mut signal);
        }
        for at in 0..count {
            enter((child + 1 + at) % times)?;
        }
        // SAFETY: a valid path.
        check(unsafe { libc::chdir(end.as_ptr()) })
    };
    // SAFETY: `set` is valid. What the children wait for must not end them before they do.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
    bears_each(times, |child| match walk(child) {
        Ok(_) => super::races::stay(),
        Err(_) => super::ends::exit(2),
    })
}

/// Children that do what `each` does with their number, and stay. Answers their pids.
fn bears_each(times: u32, each: impl Fn(u32)) -> Done {
    (0..times)
        .map(|child| {
            // SAFETY: this process has one thread, so the child may do anything.
            let pid = check(unsafe { libc::fork() })?;
            if pid == 0 {
                // SAFETY: integers.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                each(child);
                super::ends::exit(2);
            }
            Ok(pid)
        })
        .collect()
}

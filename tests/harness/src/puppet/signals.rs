//! Signals that are sent, and those that are counted by whoever gets them.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::births;
use super::conversation::{Args, Done, check, number, text};
use crate::wait::Waited;

/// Signals counted by this process alone.
static OWN: AtomicU64 = AtomicU64::new(0);
/// Where the children of [`recycles`] count, in memory that they share with their parent.
static SHARED: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

/// Lengths of a session's life: from one millisecond to so many.
const LIFE_MS_MAX: u64 = 4;
/// How long the first stranger after a life stays. A signal that comes a moment late finds it.
const STAY_NS: i64 = 2_000_000;

extern "C" fn count(_: libc::c_int) {
    // SAFETY: null, or the mapping that `recycles` made, which stays; atomics may be used in a handler.
    let shared = unsafe { SHARED.load(Ordering::Relaxed).as_ref() };
    shared.unwrap_or(&OWN).fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: libc::c_int) -> io::Result<u64> {
    // SAFETY: an all-zero sigaction is valid, and the handler does what handlers may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        check(libc::sigaction(signal, &raw const action, std::ptr::null_mut()))
    }
}

/// `kills PID SIGNAL`.
pub fn kills(args: Args<'_>) -> Done {
    let (pid, signal): (libc::pid_t, libc::c_int) = (number(args, 0)?, number(args, 1)?);
    // SAFETY: integers.
    check(unsafe { libc::kill(pid, signal) }).map(|_| vec![])
}

/// `counts SIGNAL`.
pub fn counts(args: Args<'_>) -> Done {
    handle(number(args, 0)?).map(|_| vec![])
}

/// `counted`.
pub fn counted() -> Done {
    Ok(vec![OWN.load(Ordering::Relaxed)])
}

/// `recycles PID DIR LIVES STRANGERS SIGNAL`.
pub fn recycles(args: Args<'_>) -> Done {
    let (pid, dir): (libc::pid_t, _) = (number(args, 0)?, text(args, 1)?);
    let (lives, strangers): (u64, u64) = (number(args, 2)?, number(args, 3)?);
    let signal: libc::c_int = number(args, 4)?;
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping of its own; zeroes are a valid count.
    let memory =
        unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU64>(), read_write, shared, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    SHARED.store(memory.cast(), Ordering::Relaxed);
    handle(signal)?;
    let mut signalled = 0;
    for life in 0..lives {
        // Lengths in no order that a test could fall into step with. The exec gives the signal its default action.
        let seconds = CString::new(format!("0.{:03}", life * 3 % LIFE_MS_MAX + 1))?;
        let end = child(pid, || runs(&dir, &[c"sleep", &seconds]))?;
        signalled += u64::from(end.si_code == libc::CLD_KILLED && end.si_status == signal);
        for stranger in 0..strangers {
            child(pid, || {
                if stranger == 0 {
                    sleep(STAY_NS);
                }
            })?;
        }
    }
    // SAFETY: the mapping made above.
    let of_strangers = unsafe { &*memory.cast::<AtomicU64>() };
    Ok(vec![signalled, of_strangers.load(Ordering::Relaxed)])
}

/// A child with this pid does it and exits, and is reaped.
fn child(pid: libc::pid_t, life: impl FnOnce()) -> io::Result<Waited> {
    let words = ["0".into(), String::new(), pid.to_string()].map(String::into_bytes);
    if births::clone3(&words)? == 0 {
        life();
        super::ends::exit(0);
    }
    crate::wait::reap(pid)
}

/// Becomes this program in `dir`; returns where that failed.
fn runs(dir: &CStr, argv: &[&CStr; 2]) {
    let pointers = [argv[0].as_ptr(), argv[1].as_ptr(), std::ptr::null()];
    // SAFETY: valid paths, and arguments that end in NULL.
    unsafe {
        libc::chdir(dir.as_ptr());
        libc::execvp(pointers[0], pointers.as_ptr());
    }
}

fn sleep(ns: i64) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: ns };
    // SAFETY: a valid time.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

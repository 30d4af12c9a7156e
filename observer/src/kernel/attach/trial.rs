//! Checks that programs at the ends of functions run when the function is called. A compiler may inline a call, or call a
//! part of the function that it split off; then a program at the function's end is attached, but never runs. So a child makes
//! calls that must run the programs. They change nothing but the child itself and a directory made for this.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result, ensure};
use observer_common::control;
use observer_common::hooks::{HOOKS, Hook, Trial};

use crate::kernel::ring::Control;
use crate::kernel::selftest::children::PseudoTerminal;
use crate::kernel::selftest::truth::TestDirectory;

/// Returns the hooks whose functions were called although their programs did not run. A call that failed proves nothing:
/// rights, a directory or a terminal may be missing, or a sandbox forbids it.
pub fn bypassed(control: &Control) -> Result<Vec<&'static Hook>> {
    let made = make_calls()?;
    let is_silent =
        |hook: &Hook| control::fired_word(hook.point.name()).is_some_and(|word| !control.has_fired(word));
    let called = HOOKS.iter().filter(|hook| hook.trial.is_some_and(|trial| made.contains(&trial)));
    Ok(called.filter(|hook| is_silent(hook)).collect())
}

/// Has a child make every trial's call; returns those that reached the kernel function.
fn make_calls() -> Result<Vec<Trial>> {
    let directory = TestDirectory::make();
    let terminal = PseudoTerminal::open().context("open a pseudo-terminal")?;
    let scene = Scene::new(&directory.path, &terminal.slave)?;
    let mut ends = [0; 2];
    // SAFETY: writes two descriptors.
    ensure!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0, io::Error::last_os_error());
    // SAFETY: both are new and ours.
    let (mut results, child_end) = unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: the child makes async-signal-safe calls only, and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above.
        unsafe { run_child(&scene, child_end.as_raw_fd()) }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error()).context("start a process");
    }
    drop(child_end);
    let mut bytes = Vec::new();
    let read = results.read_to_end(&mut bytes);
    // SAFETY: our own child, not reaped yet.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    read.context("read which calls the child made to try the hooks")?;
    Ok(bytes.iter().filter_map(|&index| Trial::ALL.get(usize::from(index)).copied()).collect())
}

/// What the child makes its calls with.
struct Scene {
    terminal: CString,
    /// Two directories, which are no mount points.
    one: CString,
    two: CString,
    /// Another name for one of them.
    three: CString,
    /// Whether the directories could be made.
    made: bool,
}

impl Scene {
    fn new(directory: &CStr, terminal: &CStr) -> Result<Self> {
        let named =
            |name: &[u8]| CString::new([directory.to_bytes(), name].concat()).context("name a directory");
        let (one, two, three) = (named(b"/one")?, named(b"/two")?, named(b"/three")?);
        let make = |path: &CStr| path.to_str().is_ok_and(|path| fs::create_dir(path).is_ok());
        // Where no directory could be made, `directory` is the root, in which nothing is made either.
        let made = directory != c"/" && make(&one) && make(&two);
        Ok(Self { terminal: terminal.to_owned(), one, two, three, made })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for path in [&self.one, &self.two, &self.three].into_iter().filter_map(|path| path.to_str().ok()) {
            if self.made {
                // The child has removed some of them.
                let _ = fs::remove_dir(path);
            }
        }
    }
}

/// The child: makes every call, and writes the index of each that reached its function to `results`.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
unsafe fn run_child(scene: &Scene, results: RawFd) -> ! {
    for (index, trial) in (0_u8..).zip(Trial::ALL) {
        // SAFETY: system calls alone, on strings that the child has a copy of.
        unsafe {
            if reaches_function(trial, scene) {
                libc::write(results, (&raw const index).cast(), 1);
            }
        }
    }
    // SAFETY: ends the child.
    unsafe { libc::_exit(0) }
}

/// Makes the call of a trial; returns whether its result proves that the kernel called the function.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
unsafe fn reaches_function(trial: Trial, scene: &Scene) -> bool {
    let (two, three) = (scene.two.as_ptr(), scene.three.as_ptr());
    let none = std::ptr::null();
    // SAFETY: valid paths, integers, and null where that is allowed.
    unsafe {
        match trial {
            Trial::ChangeDirectory => libc::chdir(c"/".as_ptr()) == 0,
            Trial::CommitCredentials => libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0,
            Trial::Rename => scene.made && libc::rename(scene.one.as_ptr(), three) == 0,
            Trial::Exchange => {
                let (at, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
                scene.made && libc::syscall(libc::SYS_renameat2, at, two, at, three, flags) == 0
            }
            Trial::RemoveDirectory => scene.made && libc::rmdir(three) == 0,
            Trial::BeginSession => libc::setsid() > 0,
            // It stays open until the child ends.
            Trial::OpenTerminal => libc::open(scene.terminal.as_ptr(), libc::O_RDWR) >= 0,
            Trial::TakeTerminal => {
                let terminal = libc::open(scene.terminal.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
                libc::ioctl(terminal, libc::TIOCSCTTY, 0) == 0
            }
            Trial::Unshare => libc::unshare(0) == 0,
            // path_mount (fs/namespace.c) refuses MS_NOUSER with EINVAL before it checks rights; do_mount and the system
            // call refuse nothing with that error.
            Trial::Mount => {
                scene.made
                    && libc::mount(none, two, none, libc::MS_NOUSER, none.cast()) == -1
                    && errno() == Some(libc::EINVAL)
            }
            // path_umount (fs/namespace.c) refuses what is no mount point with EINVAL after it has checked rights; without
            // the rights this proves nothing.
            Trial::Unmount => scene.made && libc::umount2(two, 0) == -1 && errno() == Some(libc::EINVAL),
        }
    }
}

fn errno() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_made_and_checks_hooks_with_control_words() {
        let made = make_calls().expect("make the calls");
        for hook in HOOKS.iter().filter(|hook| hook.trial.is_some()) {
            let word = control::fired_word(hook.point.name()).expect("a control word");
            assert!((control::FIRED..control::WORDS).contains(&word), "{hook:?}");
        }
        for trial in Trial::ALL {
            // A sandbox may forbid the last three, and unmounting takes rights.
            let sure = ![Trial::Unshare, Trial::Mount, Trial::Unmount].contains(&trial);
            assert!(!sure || made.contains(&trial), "{trial:?}: {made:?}");
        }
    }
}

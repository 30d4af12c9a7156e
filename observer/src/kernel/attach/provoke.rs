//! Whether what is attached to a function is told of it. A compiler may inline a call, or call a part of the function
//! that it split off: then a program at the function's end is attached, and never runs. So a child makes calls that must
//! come there; none of them changes anything but the child itself and a directory made for this.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result, ensure};
use observer_common::hooks;

use crate::kernel::ring::Control;
use crate::kernel::selftest::children::Terminal;
use crate::kernel::selftest::truth::Directory;

/// Functions that were called though their programs did not run. What could not be called for want of rights, for want
/// of a place for a directory or because a sandbox forbids it is not among them: nothing is known of that.
pub fn bypassed(control: &Control) -> Result<Vec<&'static str>> {
    let called = called()?;
    let silent = |name: &&str| hooks::fired(name).is_none_or(|word| !control.has_fired(word));
    Ok(called.into_iter().filter(silent).collect())
}

/// Which functions a child has called.
fn called() -> Result<Vec<&'static str>> {
    let directory = Directory::make();
    let terminal = Terminal::open().context("open a pseudo-terminal")?;
    let scene = Scene::new(&directory.path, &terminal.slave)?;
    let mut ends = [0; 2];
    // SAFETY: writes two descriptors.
    ensure!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0, io::Error::last_os_error());
    // SAFETY: both are new and ours.
    let (mut said, told) = unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: the child makes async-signal-safe calls only, and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above.
        unsafe { call_all(&scene, told.as_raw_fd()) }
    }
    ensure!(pid > 0, "fork: {}", io::Error::last_os_error());
    drop(told);
    let mut bytes = Vec::new();
    let read = said.read_to_end(&mut bytes);
    // SAFETY: our own child, not reaped yet.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    read.context("hear of the calls made to try the hooks")?;
    let calls = bytes.iter().filter_map(|&index| CALLS.get(usize::from(index)));
    Ok(calls.flat_map(|call| call.to).copied().collect())
}

/// What the child makes its calls with.
struct Scene {
    terminal: CString,
    /// Directories that are there: no mount points.
    one: CString,
    two: CString,
    /// A name for one of them.
    three: CString,
    made: bool,
}

impl Scene {
    fn new(directory: &CStr, terminal: &CStr) -> Result<Self> {
        let named =
            |name: &[u8]| CString::new([directory.to_bytes(), name].concat()).context("name a directory");
        let (one, two, three) = (named(b"/one")?, named(b"/two")?, named(b"/three")?);
        // Where there is no place for one it is the root, which is left alone.
        let make = |path: &CStr| path.to_str().is_ok_and(|path| fs::create_dir(path).is_ok());
        let made = directory != c"/" && make(&one) && make(&two);
        Ok(Self { terminal: terminal.to_owned(), one, two, three, made })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for path in [&self.one, &self.two, &self.three].into_iter().filter_map(|path| path.to_str().ok()) {
            if self.made {
                // The child has deleted some of them.
                let _ = fs::remove_dir(path);
            }
        }
    }
}

/// A call, and the functions that it comes to.
struct Call {
    to: &'static [&'static str],
    /// Makes it; whether its result says that it came there.
    came: unsafe fn(&Scene) -> bool,
}

const fn call(to: &'static [&'static str], came: unsafe fn(&Scene) -> bool) -> Call {
    Call { to, came }
}

/// In their order. What a sandbox may kill for stands last.
const CALLS: [Call; 11] = [
    call(&["set_fs_pwd"], change_directory),
    call(&["commit_creds"], commit_credentials),
    call(&["d_move"], rename),
    call(&["d_exchange"], exchange),
    call(&["d_delete"], remove),
    call(&["ksys_setsid", "change_pid"], begin_session),
    call(&["tty_open_proc_set_tty"], open_terminal),
    call(&["tty_jobctrl_ioctl"], take_terminal),
    call(&["ksys_unshare"], unshare_nothing),
    call(&["path_mount"], mount_nothing),
    call(&["path_umount"], unmount_nothing),
];

/// The child.
///
/// # Safety
/// Runs after fork: async-signal-safe calls only.
unsafe fn call_all(scene: &Scene, told: RawFd) -> ! {
    for (index, call) in (0_u8..).zip(&CALLS) {
        // SAFETY: system calls alone, on strings that the child has a copy of.
        unsafe {
            if (call.came)(scene) {
                libc::write(told, (&raw const index).cast(), 1);
            }
        }
    }
    // SAFETY: ends the child.
    unsafe { libc::_exit(0) }
}

unsafe fn change_directory(_: &Scene) -> bool {
    // SAFETY: a valid path.
    unsafe { libc::chdir(c"/".as_ptr()) == 0 }
}

/// Commits credentials that are as they were.
unsafe fn commit_credentials(_: &Scene) -> bool {
    // SAFETY: integers.
    unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0 }
}

unsafe fn rename(scene: &Scene) -> bool {
    // SAFETY: valid paths.
    scene.made && unsafe { libc::rename(scene.one.as_ptr(), scene.three.as_ptr()) == 0 }
}

unsafe fn exchange(scene: &Scene) -> bool {
    let (at, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
    // SAFETY: valid paths.
    scene.made
        && unsafe {
            libc::syscall(libc::SYS_renameat2, at, scene.two.as_ptr(), at, scene.three.as_ptr(), flags) == 0
        }
}

unsafe fn remove(scene: &Scene) -> bool {
    // SAFETY: a valid path.
    scene.made && unsafe { libc::rmdir(scene.three.as_ptr()) == 0 }
}

unsafe fn begin_session(_: &Scene) -> bool {
    // SAFETY: no arguments.
    unsafe { libc::setsid() > 0 }
}

unsafe fn open_terminal(scene: &Scene) -> bool {
    // SAFETY: a valid path; it stays open until the child ends.
    unsafe { libc::open(scene.terminal.as_ptr(), libc::O_RDWR) >= 0 }
}

unsafe fn take_terminal(scene: &Scene) -> bool {
    // SAFETY: a valid path; an integer.
    unsafe {
        let terminal = libc::open(scene.terminal.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        libc::ioctl(terminal, libc::TIOCSCTTY, 0) == 0
    }
}

unsafe fn unshare_nothing(_: &Scene) -> bool {
    // SAFETY: an integer.
    unsafe { libc::unshare(0) == 0 }
}

/// Refused by path_mount before it looks at rights, and by nothing before that with this number.
unsafe fn mount_nothing(scene: &Scene) -> bool {
    let none = std::ptr::null();
    // SAFETY: a valid path; what may be null is.
    scene.made
        && unsafe { libc::mount(none, scene.two.as_ptr(), none, libc::MS_NOUSER, none.cast()) == -1 }
        && errno() == Some(libc::EINVAL)
}

/// Refused because nothing is mounted there, after the rights were looked at: without them this says nothing.
unsafe fn unmount_nothing(scene: &Scene) -> bool {
    // SAFETY: a valid path.
    scene.made && unsafe { libc::umount2(scene.two.as_ptr(), 0) == -1 } && errno() == Some(libc::EINVAL)
}

fn errno() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

#[cfg(test)]
mod tests {
    use observer_common::control;

    use super::*;

    #[test]
    fn every_call_is_made_and_comes_to_hooks_that_there_are() {
        let called = called().expect("make the calls");
        for name in CALLS.iter().flat_map(|call| call.to) {
            let word = hooks::fired(name).expect("a hook");
            assert!((control::FIRED..control::WORDS).contains(&word), "{name}");
            // A sandbox may forbid what stands last, and unmounting takes rights.
            let sure = !["ksys_unshare", "path_mount", "path_umount"].contains(name);
            assert!(!sure || called.contains(name), "{name}: {called:?}");
        }
    }
}

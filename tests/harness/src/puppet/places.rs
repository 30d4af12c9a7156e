//! Directories, mounts and mount namespaces.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use super::births::path;
use super::conversation::{Args, Done, check, text, word};

/// `facts`: pid, ppid, sid, pgid, the three user ids, st_dev and st_ino of `.`, by this process's own calls.
pub fn facts() -> Done {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: the three places are valid; the other calls have no preconditions.
    let [pid, ppid, sid, pgid] = unsafe {
        check(libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved))?;
        [libc::getpid(), libc::getppid(), libc::getsid(0), libc::getpgid(0)]
    };
    let mut facts = [pid, ppid, sid, pgid].into_iter().map(check).collect::<io::Result<Vec<u64>>>()?;
    facts.extend([real, effective, saved].map(u64::from));
    let here = std::fs::metadata(".")?;
    facts.extend([here.dev(), here.ino()]);
    Ok(facts)
}

/// `chdir DIR`: chdir(2).
pub fn chdir(args: Args<'_>) -> Done {
    let dir = text(args, 0)?;
    // SAFETY: a valid path.
    check(unsafe { libc::chdir(dir.as_ptr()) }).map(|_| vec![])
}

/// `fchdir DIR`: fchdir(2) on a descriptor of it.
pub fn fchdir(args: Args<'_>) -> Done {
    let dir = std::fs::File::open(path(word(args, 0)?))?;
    // SAFETY: a valid descriptor.
    check(unsafe { libc::fchdir(dir.as_raw_fd()) }).map(|_| vec![])
}

/// `unshare_quietly`: a mount namespace of its own, and nothing else that a hook could see.
pub fn unshare_quietly() -> Done {
    // SAFETY: an integer.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).map(|_| vec![])
}

/// `unshare_mounts`: a mount namespace of its own, from which nothing propagates.
pub fn unshare_mounts() -> Done {
    // SAFETY: integers, and valid strings.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE)
    }
}

/// `mount_tmpfs DIR`.
pub fn mount_tmpfs(args: Args<'_>) -> Done {
    mount(c"observer-tests", &text(args, 0)?, Some(c"tmpfs"), 0)
}

/// `mount_moves FROM TO`: MS_MOVE.
pub fn mount_moves(args: Args<'_>) -> Done {
    mount(&text(args, 0)?, &text(args, 1)?, None, libc::MS_MOVE)
}

/// `move_mount FROM TO`: the system call of that name.
pub fn move_mount(args: Args<'_>) -> Done {
    let (from, to) = (text(args, 0)?, text(args, 1)?);
    let at = libc::AT_FDCWD;
    // SAFETY: valid paths.
    check(unsafe { libc::syscall(libc::SYS_move_mount, at, from.as_ptr(), at, to.as_ptr(), 0) })
        .map(|_| vec![])
}

fn mount(source: &CStr, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> Done {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: valid strings, no data.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, std::ptr::null()) })
        .map(|_| vec![])
}

/// `umount_lazily DIR`: MNT_DETACH.
pub fn umount_lazily(args: Args<'_>) -> Done {
    let dir = text(args, 0)?;
    // SAFETY: a valid path.
    check(unsafe { libc::umount2(dir.as_ptr(), libc::MNT_DETACH) }).map(|_| vec![])
}

/// `pivots NEW OLD`: pivot_root(2); whoever had the old root as root or directory has the new one then.
pub fn pivots(args: Args<'_>) -> Done {
    let (new, old) = (text(args, 0)?, text(args, 1)?);
    // SAFETY: valid paths.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) }).map(|_| vec![])
}

/// `setns_mounts PATH`: enters a mount namespace; the directory becomes its root.
pub fn setns_mounts(args: Args<'_>) -> Done {
    let namespace = std::fs::File::open(path(word(args, 0)?))?;
    // SAFETY: a valid descriptor.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }).map(|_| vec![])
}

/// `renames_by_uring FROM TO`: IORING_OP_RENAMEAT, by a kernel path that no rename system call's exit sees.
pub fn renames_by_uring(args: Args<'_>) -> Done {
    uring::rename(&text(args, 0)?, &text(args, 1)?).map(|()| vec![])
}

/// The least of io_uring: one request, one completion.
mod uring {
    use std::ffi::CStr;
    use std::io;

    use super::super::conversation::check;

    const RENAMEAT: u8 = 35;
    const OFF_SQES: i64 = 0x1000_0000;
    const ENTER_GETEVENTS: u32 = 1;
    const PARAMS: usize = 120;
    const SQE: usize = 64;
    const RING: usize = 4096;

    pub fn rename(from: &CStr, to: &CStr) -> io::Result<()> {
        let mut params = [0u8; PARAMS];
        // SAFETY: the kernel fills `params`, which has the size of io_uring_params.
        let ring = check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) })? as i32;
        // sq_off begins at byte 40 (head, tail, mask, entries, flags, dropped, array), cq_off at 80 (…, cqes at +20).
        let offset = |at: usize| {
            params.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
                as usize
        };
        let (tail, array, cqes) = (offset(44), offset(64), offset(100));
        // SAFETY: mappings of the ring's own descriptor at the kernel's offsets (IORING_FEAT_SINGLE_MMAP, 5.4);
        // one entry is written, submitted and awaited before any of it is read.
        unsafe {
            let sq = map(ring, 0)?;
            let sqe = map(ring, OFF_SQES)?;
            sqe.write_bytes(0, SQE);
            sqe.write(RENAMEAT);
            sqe.add(4).cast::<i32>().write(libc::AT_FDCWD);
            sqe.add(8).cast::<u64>().write(to.as_ptr().addr() as u64);
            sqe.add(16).cast::<u64>().write(from.as_ptr().addr() as u64);
            sqe.add(24).cast::<i32>().write(libc::AT_FDCWD);
            sq.add(array).cast::<u32>().write(0);
            sq.add(tail).cast::<u32>().write_volatile(1);
            check(libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, ENTER_GETEVENTS, 0, 0))?;
            let result = sq.add(cqes + 8).cast::<i32>().read_volatile();
            libc::close(ring);
            if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
        }
    }

    /// # Safety
    /// `ring` is an io_uring's descriptor.
    unsafe fn map(ring: i32, offset: i64) -> io::Result<*mut u8> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping, nothing replaced.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), RING, protection, flags, ring, offset) };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
    }
}

/// `mkdir DIR`.
pub fn mkdir(args: Args<'_>) -> Done {
    std::fs::create_dir(path(word(args, 0)?)).map(|()| vec![])
}

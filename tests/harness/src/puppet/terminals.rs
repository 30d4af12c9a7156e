//! Terminals, POSIX sessions, process groups, user ids and names.

use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};

use super::conversation::{Args, Done, check, number, text};

/// `setsid`: answers the new sid.
pub fn setsid() -> Done {
    // SAFETY: setsid has no preconditions.
    Ok(vec![check(unsafe { libc::setsid() })?])
}

/// `setpgid PID PGID`.
pub fn setpgid(args: Args<'_>) -> Done {
    // SAFETY: integers.
    check(unsafe { libc::setpgid(number(args, 0)?, number(args, 1)?) }).map(|_| vec![])
}

/// `setresuid REAL EFFECTIVE SAVED`; -1 leaves one as it is.
pub fn setresuid(args: Args<'_>) -> Done {
    let id = |at| number::<i32>(args, at).map(i32::cast_unsigned);
    // SAFETY: integers.
    check(unsafe { libc::setresuid(id(0)?, id(1)?, id(2)?) }).map(|_| vec![])
}

/// `setname NAME`: prctl(PR_SET_NAME) by the leader.
pub fn setname(args: Args<'_>) -> Done {
    let name = text(args, 0)?;
    // SAFETY: a valid string.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(|_| vec![])
}

/// `gains_terminal PATH`: opened with O_NOCTTY, taken with TIOCSCTTY, kept open.
pub fn gain(args: Args<'_>) -> Done {
    take(args, 0)
}

/// `steals_terminal PATH`: the same, from the session that has it.
pub fn steal(args: Args<'_>) -> Done {
    take(args, 1)
}

fn take(args: Args<'_>, steal: i32) -> Done {
    let fd = opened(args, libc::O_RDWR | libc::O_NOCTTY)?;
    // SAFETY: a valid descriptor and an integer.
    check(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, steal) }).map(|_| vec![])
}

/// `opens_terminal PATH`: opened without O_NOCTTY, by which a session leader without a terminal gains it.
pub fn open(args: Args<'_>) -> Done {
    opened(args, libc::O_RDWR).map(|_| vec![])
}

fn opened(args: Args<'_>, flags: i32) -> std::io::Result<i32> {
    let path = text(args, 0)?;
    // SAFETY: a valid path. Kept open for the life of the process, as a program keeps its terminal.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })?;
    i32::try_from(fd).map_err(std::io::Error::other)
}

/// `loses_terminal`: TIOCNOTTY.
pub fn lose() -> Done {
    let fd = controlling()?;
    // A session leader that gives its terminal up gets SIGHUP from the kernel, with its foreground group.
    // SAFETY: a disposition without a handler; a valid descriptor.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        check(libc::ioctl(fd, libc::TIOCNOTTY)).map(|_| vec![])
    }
}

/// `terminal_foreground PGID`: tcsetpgrp on the controlling terminal.
pub fn foreground(args: Args<'_>) -> Done {
    let fd = controlling()?;
    // SAFETY: a disposition without a handler; a valid descriptor.
    unsafe {
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        let done = check(libc::tcsetpgrp(fd, number(args, 0)?));
        drop(OwnedFd::from_raw_fd(fd));
        done.map(|_| vec![])
    }
}

fn controlling() -> std::io::Result<i32> {
    Ok(std::fs::File::options().read(true).write(true).open("/dev/tty")?.into_raw_fd())
}

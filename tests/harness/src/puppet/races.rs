//! Races within one process, and a process that never stops.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::conversation::{Args, Done, check, number, text, word};

/// `chdir_race DIR_A DIR_B TIMES`: two threads of this process, each into its own directory, as fast as they go.
pub fn chdir(args: Args<'_>) -> Done {
    let times: u32 = number(args, 2)?;
    let racers = [text(args, 0)?, text(args, 1)?].map(|dir| {
        std::thread::spawn(move || {
            for _ in 0..times {
                // SAFETY: a valid path.
                check(unsafe { libc::chdir(dir.as_ptr()) })?;
            }
            Ok::<(), io::Error>(())
        })
    });
    for racer in racers {
        racer.join().map_err(|_| io::Error::other("a racer panicked"))??;
    }
    Ok(vec![])
}

/// `fork_race DIR_A DIR_B TIMES KEEP`: one thread goes from directory to directory while another forks; every
/// KEEPth child stays where it was born, the others exit. Answers the pids of those that stay.
pub fn fork(args: Args<'_>) -> Done {
    let dirs = [text(args, 0)?, text(args, 1)?];
    let (times, keep): (u32, u32) = (number(args, 2)?, number(args, 3)?);
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let mover = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            for dir in &dirs {
                // SAFETY: a valid path.
                unsafe { libc::chdir(dir.as_ptr()) };
            }
        }
    });
    let kept = bear(times, keep);
    over.store(true, Ordering::Relaxed);
    mover.join().map_err(|_| io::Error::other("the mover panicked"))?;
    kept
}

fn bear(times: u32, keep: u32) -> Done {
    let mut kept = Vec::new();
    for time in 1..=times {
        let stays = time.is_multiple_of(keep);
        // SAFETY: the child makes system calls only, which any thread's copy may.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            if stays {
                stay();
            }
            super::ends::exit(0);
        }
        if stays {
            kept.push(pid);
        } else {
            let mut status = 0;
            // SAFETY: `status` is valid.
            check(unsafe { libc::waitpid(i32::try_from(pid).unwrap_or(-1), &raw mut status, 0) })?;
        }
    }
    Ok(kept)
}

/// Waits for its parent's death.
pub fn stay() -> ! {
    // SAFETY: integers; pause has no preconditions.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

/// `loop_for_ever DIR_A DIR_B`: chdir and prctl without end, in a child whose pid is answered. It dies with this
/// process.
pub fn loop_for_ever(args: Args<'_>) -> Done {
    let dirs = [text(args, 0)?, text(args, 1)?];
    // SAFETY: this process has one thread, so the child may do anything.
    let pid = check(unsafe { libc::fork() })?;
    if pid > 0 {
        return Ok(vec![pid]);
    }
    // SAFETY: system calls on valid arguments.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            for (dir, name) in dirs.iter().zip([c"odd", c"even"]) {
                libc::chdir(dir.as_ptr());
                libc::prctl(libc::PR_SET_NAME, name.as_ptr());
            }
        }
    }
}

/// `walks PREFIX COUNT TIMES`: into PREFIX0, PREFIX1 and so on, TIMES times in all.
pub fn walks(args: Args<'_>) -> Done {
    let prefix = word(args, 0)?;
    let (count, times): (u32, usize) = (number(args, 1)?, number(args, 2)?);
    let dir = |at: u32| Ok(CString::new([prefix, at.to_string().as_bytes()].concat())?);
    let dirs = (0..count).map(dir).collect::<io::Result<Vec<_>>>()?;
    for dir in dirs.iter().cycle().take(times) {
        // SAFETY: a valid path.
        check(unsafe { libc::chdir(dir.as_ptr()) })?;
    }
    Ok(vec![])
}

/// `names_itself_forever`: prctl(PR_SET_NAME) without end.
pub fn names_itself_forever() -> ! {
    loop {
        for name in [c"odd", c"even"] {
            // SAFETY: a valid string.
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
        }
    }
}

/// `renames_for FROM TO MS`: there and back again, for so many milliseconds. Answers how often.
pub fn renames_for(args: Args<'_>) -> Done {
    let (from, to) = (text(args, 0)?, text(args, 1)?);
    repeat_for(args, || {
        for (from, to) in [(&from, &to), (&to, &from)] {
            // SAFETY: valid paths.
            check(unsafe { libc::rename(from.as_ptr(), to.as_ptr()) })?;
        }
        Ok(())
    })
}

/// `fchdirs_for DIR OTHER MS`: by descriptors, so that it does not matter what the directories are called meanwhile.
/// Goes into the one and the other for so many milliseconds. Answers how often.
pub fn fchdirs_for(args: Args<'_>) -> Done {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    let open = |at| {
        let path = text(args, at)?;
        // SAFETY: a valid path; the descriptor belongs to nobody else.
        io::Result::Ok(unsafe {
            let fd = check(libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC))?;
            OwnedFd::from_raw_fd(fd as i32)
        })
    };
    let dirs = [open(0)?, open(1)?];
    repeat_for(args, || {
        for dir in &dirs {
            // SAFETY: a descriptor that is open.
            check(unsafe { libc::fchdir(dir.as_raw_fd()) })?;
        }
        Ok(())
    })
}

/// `removes_for DIR PAUSE_US MS`: makes and removes a directory, with pauses. Answers how often.
pub fn removes_for(args: Args<'_>) -> Done {
    let (dir, pause) = (text(args, 0)?, Duration::from_micros(number(args, 1)?));
    repeat_for(args, || {
        // SAFETY: a valid path.
        unsafe {
            check(libc::mkdir(dir.as_ptr(), 0o755))?;
            check(libc::rmdir(dir.as_ptr()))?;
        }
        std::thread::sleep(pause);
        Ok(())
    })
}

/// `changes_cgroup_for DIR OTHER MS`: from one control group into the other and back again. Answers how often.
pub fn changes_cgroup_for(args: Args<'_>) -> Done {
    let members = |at| -> io::Result<_> {
        let path = super::births::path(word(args, at)?).join("cgroup.procs");
        std::fs::File::options().write(true).open(path)
    };
    let mut groups = [members(0)?, members(1)?];
    repeat_for(args, || groups.iter_mut().try_for_each(|group| group.write_all(b"0")))
}

/// Repeats it for as many milliseconds as the third argument gives.
fn repeat_for(args: Args<'_>, mut once: impl FnMut() -> io::Result<()>) -> Done {
    let end = Instant::now() + Duration::from_millis(number(args, 2)?);
    let mut count = 0;
    while Instant::now() < end {
        once()?;
        count += 1;
    }
    Ok(vec![count])
}

//! What threads do, and how it differs from what their process does.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use super::conversation::{Args, Conversation, Done, Then, check, number, text};

/// `leader_exits CODE`: a second thread takes the conversation over, answers its tid, and the leader exits.
pub fn leader_exits(conversation: &mut Conversation, args: Args<'_>) -> Then {
    let code: i32 = match number(args, 0) {
        Ok(code) => code,
        Err(error) => return Then::Answer(Err(error)),
    };
    let stream = match conversation.stream.get_ref().try_clone() {
        Ok(stream) => stream,
        Err(error) => return Then::Answer(Err(error)),
    };
    let mut own = Conversation { address: conversation.address.clone(), stream: io::BufReader::new(stream) };
    std::thread::spawn(move || {
        // The leader is gone when its state in /proc is Z.
        while !leader_is_gone() {
            std::thread::yield_now();
        }
        let answer = crate::protocol::answer(Ok(vec![tid()]));
        match io::Write::write_all(own.stream.get_mut(), &answer) {
            Ok(()) => own.go_on(),
            Err(_) => super::ends::exit(0),
        }
    });
    // SAFETY: ends this thread alone; its stack stays, so what the other one borrowed does too.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    Then::Listen
}

fn leader_is_gone() -> bool {
    std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| stat.contains(") Z "))
}

/// `exit_thread CODE`: ends the calling thread alone.
pub fn exit_thread(args: Args<'_>) -> Then {
    match number::<i32>(args, 0) {
        Ok(code) => {
            // SAFETY: ends this thread alone.
            unsafe { libc::syscall(libc::SYS_exit, code) };
            Then::Listen
        }
        Err(error) => Then::Answer(Err(error)),
    }
}

/// `thread_exits`: a thread is born and exits; answers its tid once it is gone.
pub fn thread_exits() -> Done {
    on_thread(|| Ok(vec![tid()]))
}

/// `thread_stays`: a thread is born and stays; answers its tid.
pub fn stays() -> Done {
    staying(|| Ok(vec![tid()]))
}

/// `thread_names_itself NAME`: a thread that stays sets its own comm.
pub fn names_itself(args: Args<'_>) -> Done {
    let name = text(args, 0)?;
    staying(move || {
        // SAFETY: a valid string.
        check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(|_| vec![tid()])
    })
}

/// `thread_names_leader NAME`: another thread sets the leader's comm.
pub fn names_leader(args: Args<'_>) -> Done {
    let name = text(args, 0)?;
    let path = format!("/proc/self/task/{}/comm", std::process::id());
    on_thread(move || std::fs::write(path, name.as_bytes()).map(|()| vec![]))
}

/// `thread_moves_alone DIR`: a thread that stays unshares its directory and changes it.
pub fn moves_alone(args: Args<'_>) -> Done {
    let dir = text(args, 0)?;
    staying(move || {
        // SAFETY: system calls on valid arguments, by this thread for itself.
        unsafe {
            check(libc::unshare(libc::CLONE_FS))?;
            check(libc::chdir(dir.as_ptr()))?;
        }
        Ok(vec![tid()])
    })
}

/// `thread_setresuid UID`: a thread that stays changes its own user ids, by the bare system call (the library's
/// function would change all threads').
pub fn setresuid(args: Args<'_>) -> Done {
    let uid: u32 = number(args, 0)?;
    staying(move || {
        // SAFETY: a system call with integers.
        check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(|_| vec![tid()])
    })
}

/// Does something on a thread that then ends.
fn on_thread(act: impl FnOnce() -> Done + Send + 'static) -> Done {
    std::thread::spawn(act).join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// Does something on a thread that then stays until the process ends.
fn staying(act: impl FnOnce() -> Done + Send + 'static) -> Done {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(act());
        loop {
            std::thread::park();
        }
    });
    wait.recv().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

fn tid() -> u64 {
    // SAFETY: gettid has no preconditions.
    u64::from(unsafe { libc::gettid() }.unsigned_abs())
}

/// `many_threads TIMES`: threads born and gone, one after the other.
pub fn many(args: Args<'_>) -> Done {
    for _ in 0..number::<u32>(args, 0)? {
        std::thread::spawn(|| {}).join().map_err(|_| io::Error::other("a thread panicked"))?;
    }
    Ok(vec![])
}

/// `ends_by_two_threads TIMES`.
pub fn end_together(args: Args<'_>) -> Done {
    let mut answer = Vec::new();
    for turn in 0..number::<u32>(args, 0)? {
        // SAFETY: this process has one thread, so the child may do anything.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            let (first, second) = match turn % 3 {
                0 => (libc::SYS_exit, libc::SYS_exit),
                1 => (libc::SYS_exit_group, libc::SYS_exit),
                _ => (libc::SYS_exit_group, libc::SYS_exit_group),
            };
            std::thread::spawn(move || ends_with_the_other(second, 7));
            ends_with_the_other(first, 3);
        }
        answer.extend([pid, check(crate::wait::reap(pid as i32)?.raw_status)?]);
    }
    Ok(answer)
}

/// Makes this system call with `code` once two threads are here.
fn ends_with_the_other(call: libc::c_long, code: i32) -> ! {
    static HERE: AtomicU32 = AtomicU32::new(0);
    HERE.fetch_add(1, Ordering::AcqRel);
    while HERE.load(Ordering::Acquire) < 2 {
        std::thread::yield_now();
    }
    loop {
        // SAFETY: ends this thread, or the process.
        unsafe { libc::syscall(call, code) };
    }
}

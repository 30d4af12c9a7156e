//! Births and execs.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::protocol::boottime_ns;

use super::Verb;
use super::conversation::{Args, Conversation, Done, Then, check, number, text, word};

/// `fork TOKEN`, `clone FLAGS TOKEN`, `clone3 FLAGS CGROUP_DIR|- TID TOKEN`: the child, with a copy of this
/// process's memory, begins a conversation of its own. Answers pid and the boot times around the birth.
pub fn bear(conversation: &mut Conversation, verb: Verb, args: Args<'_>) -> Then {
    let after = boottime_ns();
    let born = match verb {
        // SAFETY: this process has one thread, so the child may do anything.
        Verb::Fork => check(unsafe { libc::fork() }),
        Verb::Clone => clone(args),
        _ => clone3(args),
    };
    let before = boottime_ns();
    match born {
        Ok(0) => {
            let token = args.last().cloned().unwrap_or_default();
            conversation.begin_again(&token)
        }
        Ok(pid) => Then::Answer(Ok(vec![pid, after, before])),
        Err(error) => Then::Answer(Err(error)),
    }
}

fn clone(args: Args<'_>) -> io::Result<u64> {
    let flags: i64 = number(args, 0)?;
    // SAFETY: without CLONE_VM the child gets a copy of everything, as with fork.
    check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

/// `CLONE_INTO_CGROUP`, whose type in the libc crate is too narrow for it.
const INTO_CGROUP: u64 = 1 << 33;

/// `FLAGS CGROUP_DIR TID`, where no CGROUP_DIR and a TID of 0 mean none.
pub fn clone3(args: Args<'_>) -> io::Result<u64> {
    let mut flags: u64 = number(args, 0)?;
    let dir = word(args, 1)?;
    let tid: libc::pid_t = number(args, 2)?;
    // SAFETY: an all-zero clone_args is a valid value of that plain structure.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    let cgroup = if dir.is_empty() { None } else { Some(std::fs::File::open(path(dir))?) };
    if let Some(cgroup) = &cgroup {
        flags |= INTO_CGROUP;
        how.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    if tid > 0 {
        how.set_tid = (&raw const tid).expose_provenance() as u64;
        how.set_tid_size = 1;
    }
    how.flags = flags;
    how.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: `how` and what it points to outlive the call; no CLONE_VM, as with fork.
    check(unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of::<libc::clone_args>()) })
}

/// `vfork TOKEN`: a child that shares this memory while this process waits, until it execs a puppet. Answers as
/// [`bear`].
pub fn vfork(address: &[u8], args: Args<'_>) -> Done {
    let image = Image::puppet(address, word(args, 0)?)?;
    let mut stack = vec![0u8; 64 << 10];
    let top = stack.as_mut_ptr_range().end.map_addr(|address| address & !15);
    let after = boottime_ns();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own and only execs or exits; this process waits meanwhile.
    let pid =
        check(unsafe { libc::clone(exec_image, top.cast(), flags, (&raw const image).cast_mut().cast()) })?;
    Ok(vec![pid, after, boottime_ns()])
}

extern "C" fn exec_image(image: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `vfork` passes a valid image that outlives the child's use of it.
    let _ = unsafe { (*image.cast::<Image>()).exec() };
    127
}

/// `spawn NAME=VALUE… TOKEN`: posix_spawn of a puppet with this environment. Answers as [`bear`].
pub fn spawn(address: &[u8], args: Args<'_>) -> Done {
    let (token, variables) = args.split_last().ok_or(io::ErrorKind::InvalidInput)?;
    let image = Image::puppet(address, token)?;
    let mut argv = image.pointers();
    let variables = variables.iter().map(|word| CString::new(word.as_slice()));
    let variables: Vec<CString> = variables.collect::<Result<_, _>>()?;
    let pointers = variables.iter().map(|variable| variable.as_ptr().cast_mut());
    let environment: Vec<*mut libc::c_char> = pointers.chain([std::ptr::null_mut()]).collect();
    let after = boottime_ns();
    let mut pid = 0;
    // SAFETY: path, and argv and environment that end in NULL, are valid; no actions, no attributes.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            image.path.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            argv.as_mut_ptr().cast(),
            environment.as_ptr(),
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    Ok(vec![check(pid)?, after, boottime_ns()])
}

/// `exec PATH TOKEN ARG…`: this process becomes a puppet from PATH (argv[0] is PATH).
pub fn exec(address: &[u8], args: Args<'_>) -> Done {
    Image::named(address, args)?.exec()
}

/// `exec_by_thread PATH TOKEN ARG…`: the same, by a thread that is not the leader.
pub fn exec_by_thread(address: &[u8], args: Args<'_>) -> Done {
    let image = Image::named(address, args)?;
    std::thread::spawn(move || image.exec())
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// `exec_fails PATH`: an exec that must fail; answers its errno.
pub fn exec_fails(args: Args<'_>) -> Done {
    let path = text(args, 0)?;
    let image = Image { argv: vec![path.clone()], path };
    match image.exec() {
        Err(error) => Ok(vec![u64::from(error.raw_os_error().unwrap_or(0).unsigned_abs())]),
        Ok(never) => Ok(never),
    }
}

/// `named_during_exec SCRIPT NAME`: another thread gives the leader a name while the leader calls exec of SCRIPT, which fails,
/// again and again.
pub fn named_during_exec(args: Args<'_>) -> Done {
    let (path, name) = (text(args, 0)?, text(args, 1)?);
    let comm = format!("/proc/self/task/{}/comm", std::process::id());
    let image = Image { argv: vec![path.clone()], path };
    let execs = AtomicU32::new(0);
    let named = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while execs.load(Ordering::Acquire) < 100 {
                std::thread::yield_now();
            }
            let result = std::fs::write(comm, name.as_bytes());
            named.store(true, Ordering::Release);
            result
        });
        while !named.load(Ordering::Acquire) {
            if image.exec().is_ok() {
                return Err(io::Error::other("the exec was to fail"));
            }
            execs.fetch_add(1, Ordering::AcqRel);
        }
        Ok(vec![])
    })
}

/// What is exec'd.
struct Image {
    path: CString,
    argv: Vec<CString>,
}

impl Image {
    /// This program again.
    fn puppet(address: &[u8], token: &[u8]) -> io::Result<Self> {
        let path = CString::new(std::os::unix::ffi::OsStringExt::into_vec(
            std::env::current_exe()?.into_os_string(),
        ))?;
        Ok(Self { argv: vec![path.clone(), CString::new(address)?, CString::new(token)?], path })
    }

    fn named(address: &[u8], args: Args<'_>) -> io::Result<Self> {
        let path = text(args, 0)?;
        let mut argv = vec![path.clone(), CString::new(address)?];
        for arg in args.iter().skip(1) {
            argv.push(CString::new(arg.as_slice())?);
        }
        Ok(Self { path, argv })
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.argv.iter().map(|word: &CString| CStr::as_ptr(word)).chain([std::ptr::null()]).collect()
    }

    /// Returns only where it failed.
    fn exec(&self) -> Done {
        let argv = self.pointers();
        let environment: [*const libc::c_char; 1] = [std::ptr::null()];
        // SAFETY: path, argv and environment are valid and NULL-ended.
        unsafe { libc::execve(self.path.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
        Err(io::Error::last_os_error())
    }
}

/// Bytes as a path.
pub fn path(bytes: &[u8]) -> &std::path::Path {
    std::path::Path::new::<std::ffi::OsStr>(std::os::unix::ffi::OsStrExt::from_bytes(bytes))
}

/// `reuses_pid PID TIMES`: a child with this very pid, TIMES times, one after the other; each exits at once.
pub fn reuses_pid(args: Args<'_>) -> Done {
    let (wanted, times): (libc::pid_t, u32) = (number(args, 0)?, number(args, 1)?);
    for _ in 0..times {
        let words = ["0".into(), String::new(), wanted.to_string()].map(String::into_bytes);
        let pid = clone3(&words)?;
        if pid == 0 {
            super::ends::exit(0);
        }
        crate::wait::reap(wanted)?;
    }
    Ok(vec![])
}

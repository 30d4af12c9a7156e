//! Entry points at the ends of kernel functions: attached where the kernel can, in place of the exits of system calls.
//!
//! They see what those cannot (32-bit callers, io_uring, changes made to another process), and leave every other
//! system call alone. Return values are looked at where their place is the same on all kernels; elsewhere a failed
//! call raises a hint for nothing.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use aya_log_ebpf::debug;
use observer_common::record::{HINT_BIT_IDS, HINT_BIT_PATHS};

use crate::emit;
use crate::hooks;
use crate::task::{self, Task};

const TIOCSCTTY: u32 = 0x540E;
const TIOCNOTTY: u32 = 0x5422;

/// Says once that the program of this name runs: the daemon provokes it at start, and takes another way where it does not.
macro_rules! fired {
    ($name:literal) => {
        const WORD: u32 = match observer_common::hooks::fired($name) {
            Some(word) => word,
            None => panic!("no hook of that name"),
        };
        if emit::word(WORD) == 0 {
            emit::set_word(WORD, 1);
        }
    };
}

/// `void set_fs_pwd(fs, path)`: chdir, fchdir, setns; always of the caller.
#[fexit(function = "set_fs_pwd")]
fn set_fs_pwd(ctx: FExitContext) -> i32 {
    fired!("set_fs_pwd");
    let task = Task::current();
    if !task.is_kthread() {
        let flags = hooks::cwd::set(task);
        if flags != 0 {
            debug!(&ctx, "set_fs_pwd of {}: path flags {}", task.tgid(), flags);
        }
    }
    0
}

/// `void d_move(dentry, target)`: a rename, by whatever way it came.
#[fexit(function = "d_move")]
fn d_move(ctx: FExitContext) -> i32 {
    fired!("d_move");
    moved(ctx.arg(0));
    0
}

/// `void d_exchange(dentry1, dentry2)`.
#[fexit(function = "d_exchange")]
fn d_exchange(ctx: FExitContext) -> i32 {
    fired!("d_exchange");
    moved(ctx.arg(0));
    moved(ctx.arg(1));
    0
}

/// A file's path is no part of a directory's.
#[inline(always)]
fn moved(dentry: *const u8) {
    if task::is_directory(dentry as u64) {
        hooks::hint::raise(HINT_BIT_PATHS);
    }
}

/// `void d_delete(dentry)`: the end of a removal. A directory that nobody uses has lost its inode by then. (Not
/// `vfs_rmdir`, which its only caller may bypass: on Debian's 5.10 rmdir calls a part of it that the compiler split off.)
#[fexit(function = "d_delete")]
fn d_delete(ctx: FExitContext) -> i32 {
    fired!("d_delete");
    moved(ctx.arg(0));
    0
}

/// `void __detach_mounts(dentry)`: a directory was removed that is a mount point in another mount namespace, where what
/// was mounted there hangs nowhere any more.
#[fexit(function = "__detach_mounts")]
fn __detach_mounts(_ctx: FExitContext) -> i32 {
    mounts_changed(0)
}

/// `int path_mount(dev_name, path, type, flags, data)`.
#[fexit(function = "path_mount")]
fn path_mount(ctx: FExitContext) -> i32 {
    fired!("path_mount");
    mounts_changed(ctx.arg::<i32>(5).into())
}

/// `int path_umount(path, flags)`.
#[fexit(function = "path_umount")]
fn path_umount(ctx: FExitContext) -> i32 {
    fired!("path_umount");
    mounts_changed(ctx.arg::<i32>(2).into())
}

/// `int ksys_unshare(flags)`.
#[fexit(function = "ksys_unshare")]
fn ksys_unshare(ctx: FExitContext) -> i32 {
    fired!("ksys_unshare");
    mounts_changed(ctx.arg::<i32>(1).into())
}

/// `void chroot_fs_refs(old_root, new_root)`: the end of a pivot_root.
#[fexit(function = "chroot_fs_refs")]
fn chroot_fs_refs(_ctx: FExitContext) -> i32 {
    mounts_changed(0)
}

/// `long sys_move_mount(regs)`. The daemon knows what the architecture calls it.
#[fexit]
fn move_mount(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

/// The same for 32-bit callers, who come to an entry of their own on x86.
#[fexit]
fn __ia32_sys_move_mount(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

/// `long sys_setns(regs)`.
#[fexit]
fn setns(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

/// The same for 32-bit callers.
#[fexit]
fn __ia32_sys_setns(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

#[inline(always)]
fn mounts_changed(result: i64) -> i32 {
    if result >= 0 {
        hooks::hint::raise(HINT_BIT_PATHS);
    }
    0
}

/// `int commit_creds(new)`: always of the caller. Within an exec, whose own record carries them, it is not told.
#[fexit(function = "commit_creds")]
fn commit_creds(_ctx: FExitContext) -> i32 {
    fired!("commit_creds");
    let task = Task::current();
    if !task.in_execve() {
        hooks::creds::set(task);
    }
    0
}

/// `void change_pid(…, task, type, …)`: setpgid of whomever, setsid.
#[fexit(function = "change_pid")]
fn change_pid(ctx: FExitContext) -> i32 {
    fired!("change_pid");
    hooks::ids::set(Task::from_change_pid(&ctx));
    0
}

/// `int ksys_setsid(void)`: the terminal is given up, too.
#[fexit(function = "ksys_setsid")]
fn ksys_setsid(ctx: FExitContext) -> i32 {
    fired!("ksys_setsid");
    if ctx.arg::<i32>(0) >= 0 {
        hooks::ids::set(Task::current());
    }
    0
}

/// `long tty_jobctrl_ioctl(tty, real_tty, file, cmd, arg)`: shells come here for each command that they run.
#[fexit(function = "tty_jobctrl_ioctl")]
fn tty_jobctrl_ioctl(ctx: FExitContext) -> i32 {
    fired!("tty_jobctrl_ioctl");
    let cmd: u32 = ctx.arg(3);
    if (cmd == TIOCSCTTY || cmd == TIOCNOTTY) && ctx.arg::<i64>(5) == 0 {
        hooks::ids::set(Task::current());
        // The terminal may have been taken from another POSIX session, or from the whole of this one.
        hooks::hint::raise(HINT_BIT_IDS);
    }
    0
}

/// `void tty_open_proc_set_tty(file, tty)`: at each opening of a terminal; it may have become the caller's.
#[fexit(function = "tty_open_proc_set_tty")]
fn tty_open_proc_set_tty(ctx: FExitContext) -> i32 {
    fired!("tty_open_proc_set_tty");
    let task = Task::current();
    if task.signal().tty() == ctx.arg::<*const u8>(1) as u64 {
        hooks::ids::set(task);
    }
    0
}

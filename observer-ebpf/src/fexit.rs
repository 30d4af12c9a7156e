//! Entry points at the ends of kernel functions (fexit). The daemon attaches them, where the kernel allows it, instead of
//! the programs at the exits of system calls.
//!
//! They see what those cannot see (32-bit callers, io_uring, changes made to another process), and they do not slow other
//! system calls. A return value is checked where its position is the same on all kernels; elsewhere a failed call raises
//! a hint that changes nothing.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use aya_log_ebpf::debug;
use observer_common::record::{HINT_BIT_IDS, HINT_BIT_PATHS};

use crate::emit;
use crate::hooks;
use crate::task::{self, Task};

const TIOCSCTTY: u32 = 0x540E;
const TIOCNOTTY: u32 = 0x5422;

/// Records that the program of this name has run, in its control word. At start the daemon makes a call that must run it, and
/// uses another hook if the word stays 0.
macro_rules! mark_fired {
    ($name:literal) => {
        const WORD: u32 = match observer_common::control::fired_word($name) {
            Some(word) => word,
            None => panic!("no hook of that name is tried at start"),
        };
        if emit::word(WORD) == 0 {
            emit::set_word(WORD, 1);
        }
    };
}

/// `void set_fs_pwd(fs, path)`, fs/fs_struct.c: chdir, fchdir, setns. The `fs` is always the caller's.
#[fexit(function = "set_fs_pwd")]
fn set_fs_pwd(ctx: FExitContext) -> i32 {
    mark_fired!("set_fs_pwd");
    let task = Task::current();
    if !task.is_kthread() {
        let flags = hooks::cwd::report(task);
        if flags != 0 {
            debug!(&ctx, "set_fs_pwd of {}: path flags {}", task.tgid(), flags);
        }
    }
    0
}

/// `void d_move(dentry, target)`, fs/dcache.c: a rename, whichever call made it.
#[fexit(function = "d_move")]
fn d_move(ctx: FExitContext) -> i32 {
    mark_fired!("d_move");
    moved(ctx.arg(0));
    0
}

/// `void d_exchange(dentry1, dentry2)`, fs/dcache.c: a rename with RENAME_EXCHANGE.
#[fexit(function = "d_exchange")]
fn d_exchange(ctx: FExitContext) -> i32 {
    mark_fired!("d_exchange");
    moved(ctx.arg(0));
    moved(ctx.arg(1));
    0
}

/// Raises the hint for paths if `dentry` is a directory; the path of a file is no part of a directory's path.
#[inline(always)]
fn moved(dentry: *const u8) {
    if task::is_directory(dentry as u64) {
        hooks::hint::raise(HINT_BIT_PATHS);
    }
}

/// `void d_delete(dentry)`, fs/dcache.c: the end of a removal. A directory that nobody uses has lost its inode by then.
/// `vfs_rmdir` is not hooked, because its only caller may bypass it: on Debian's 5.10 rmdir calls a part of it that the
/// compiler split off.
#[fexit(function = "d_delete")]
fn d_delete(ctx: FExitContext) -> i32 {
    mark_fired!("d_delete");
    moved(ctx.arg(0));
    0
}

/// `void __detach_mounts(dentry)`, fs/namespace.c: a directory was removed that is a mount point in another mount namespace.
/// The file system that was mounted there is detached.
#[fexit(function = "__detach_mounts")]
fn __detach_mounts(_ctx: FExitContext) -> i32 {
    mounts_changed(0)
}

/// `int path_mount(dev_name, path, type, flags, data)`, fs/namespace.c.
#[fexit(function = "path_mount")]
fn path_mount(ctx: FExitContext) -> i32 {
    mark_fired!("path_mount");
    mounts_changed(ctx.arg::<i32>(5).into())
}

/// `int path_umount(path, flags)`, fs/namespace.c.
#[fexit(function = "path_umount")]
fn path_umount(ctx: FExitContext) -> i32 {
    mark_fired!("path_umount");
    mounts_changed(ctx.arg::<i32>(2).into())
}

/// `int ksys_unshare(flags)`, kernel/fork.c.
#[fexit(function = "ksys_unshare")]
fn ksys_unshare(ctx: FExitContext) -> i32 {
    mark_fired!("ksys_unshare");
    mounts_changed(ctx.arg::<i32>(1).into())
}

/// `void chroot_fs_refs(old_root, new_root)`, fs/fs_struct.c: the end of a pivot_root.
#[fexit(function = "chroot_fs_refs")]
fn chroot_fs_refs(_ctx: FExitContext) -> i32 {
    mounts_changed(0)
}

/// `long sys_move_mount(regs)`: the entry of the system call. The daemon adds the architecture's prefix to the name.
#[fexit]
fn move_mount(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

/// The same for 32-bit callers, which have an entry of their own on x86.
#[fexit]
fn __ia32_sys_move_mount(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

/// `long sys_setns(regs)`: the entry of the system call.
#[fexit]
fn setns(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

/// The same for 32-bit callers.
#[fexit]
fn __ia32_sys_setns(ctx: FExitContext) -> i32 {
    mounts_changed(ctx.arg(1))
}

/// Raises the hint for paths if the call succeeded.
#[inline(always)]
fn mounts_changed(result: i64) -> i32 {
    if result >= 0 {
        hooks::hint::raise(HINT_BIT_PATHS);
    }
    0
}

/// `int commit_creds(new)`, kernel/cred.c: always the caller's credentials. Within execve nothing is reported, because the
/// exec's own record carries the user ids.
#[fexit(function = "commit_creds")]
fn commit_creds(_ctx: FExitContext) -> i32 {
    mark_fired!("commit_creds");
    let task = Task::current();
    if !task.in_execve() {
        hooks::creds::report(task);
    }
    0
}

/// `void change_pid(…, task, type, …)`, kernel/pid.c: setpgid of any process, setsid.
#[fexit(function = "change_pid")]
fn change_pid(ctx: FExitContext) -> i32 {
    mark_fired!("change_pid");
    hooks::ids::report(Task::from_change_pid(&ctx));
    0
}

/// `int ksys_setsid(void)`, kernel/sys.c: the process gives up its terminal, too.
#[fexit(function = "ksys_setsid")]
fn ksys_setsid(ctx: FExitContext) -> i32 {
    mark_fired!("ksys_setsid");
    if ctx.arg::<i32>(0) >= 0 {
        hooks::ids::report(Task::current());
    }
    0
}

/// `long tty_jobctrl_ioctl(tty, real_tty, file, cmd, arg)`, drivers/tty/tty_jobctrl.c. Shells call it for each command that
/// they run, so only the two requests that change a controlling terminal are reported.
#[fexit(function = "tty_jobctrl_ioctl")]
fn tty_jobctrl_ioctl(ctx: FExitContext) -> i32 {
    mark_fired!("tty_jobctrl_ioctl");
    let cmd: u32 = ctx.arg(3);
    if (cmd == TIOCSCTTY || cmd == TIOCNOTTY) && ctx.arg::<i64>(5) == 0 {
        hooks::ids::report(Task::current());
        // The terminal may have been taken from another POSIX session, or from every process of this one.
        hooks::hint::raise(HINT_BIT_IDS);
    }
    0
}

/// `void tty_open_proc_set_tty(file, tty)`, drivers/tty/tty_jobctrl.c: called at each opening of a terminal, which may have
/// become the caller's controlling terminal.
#[fexit(function = "tty_open_proc_set_tty")]
fn tty_open_proc_set_tty(ctx: FExitContext) -> i32 {
    mark_fired!("tty_open_proc_set_tty");
    let task = Task::current();
    if task.signal().tty() == ctx.arg::<*const u8>(1) as u64 {
        hooks::ids::report(task);
    }
    0
}

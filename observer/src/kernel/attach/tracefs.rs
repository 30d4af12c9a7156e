//! tracefs, which attaching a system call's tracepoint needs for a moment.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::kernel::rights;

/// Whether it is mounted where programs look for it.
pub fn is_mounted() -> bool {
    ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"]
        .iter()
        .any(|path| Path::new(path).exists())
}

/// Runs `attach` with tracefs in reach. Where the machine has it not mounted, it is mounted in a mount namespace that
/// only a thread made for this sees: attached programs outlive both, and the machine stays as it was.
pub fn within<T: Send>(attach: impl FnOnce() -> T + Send) -> Result<T> {
    if is_mounted() {
        return Ok(attach());
    }
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            mount_privately()
                .context("tracefs is not in reach, and mounting it for observer alone failed")?;
            Ok(attach())
        });
        match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the thread that attaches tracepoints ended early: please report this"),
        }
    })
}

fn mount_privately() -> Result<()> {
    if !rights::has_sys_admin() {
        bail!("it takes CAP_SYS_ADMIN");
    }
    // SAFETY: concerns this thread alone, which shares its file system attributes with no other afterwards.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).context("unshare the mount namespace")?;
    mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE).context("make mounts private")?;
    mount(c"tracefs", c"/sys/kernel/tracing", c"tracefs", 0).context("mount tracefs")
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: terminated strings that outlive the call.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

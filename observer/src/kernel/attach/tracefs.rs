//! tracefs, which the kernel needs while a system call's tracepoint is attached.

use std::path::Path;
use std::{fs, io, thread};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::kernel::rights;

/// Where programs look for the tracepoints of tracefs.
const EVENTS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];

/// Whether tracefs is mounted where programs look for it.
pub fn is_mounted() -> bool {
    EVENTS.iter().any(|path| Path::new(path).exists())
}

/// Reads the number of a tracepoint.
pub fn id(category: &str, tracepoint: &str) -> io::Result<u64> {
    let events = EVENTS.iter().map(Path::new).find(|path| path.exists());
    let events = events.ok_or_else(|| io::Error::other("tracefs is not mounted"))?;
    let text = fs::read_to_string(events.join(category).join(tracepoint).join("id"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// Runs `attach` with tracefs mounted. If the machine has not mounted it, a thread made for this mounts it in a mount namespace
/// of its own. Attached programs outlive the thread and the namespace, and the machine's mounts do not change.
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
    // Concerns this thread alone, which shares its root and directory with no other thread afterwards.
    unshare(CloneFlags::CLONE_NEWNS).context("unshare the mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    mount(Some("tracefs"), "/sys/kernel/tracing", Some("tracefs"), MsFlags::empty(), none)
        .context("mount tracefs")
}

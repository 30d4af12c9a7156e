//! What this process may do: which rights observer needs, and giving up those that it needs no longer.

use anyhow::{Context as _, Result, ensure};
use caps::{CapSet, Capability, CapsHashSet};

use super::sys;

/// Kernels from here on account BPF memory by cgroup, and need no RLIMIT_MEMLOCK.
const KERNEL_MEMCG_ACCOUNTED: (u32, u32) = (5, 11);

/// What is needed after the programs are attached, as far as it was there: kernels differ in which bpf(2) commands they
/// allow without CAP_BPF (a pass opens the iterator anew); memory of other users' processes; owners of homes; and the
/// daemon's own files, which root may keep in somebody else's directory.
const KEPT: [Capability; 6] = [
    Capability::CAP_BPF,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_CHOWN,
];

/// Refuses without the rights to load programs.
pub fn check() -> Result<()> {
    ensure!(
        has(Capability::CAP_SYS_ADMIN) || (has(Capability::CAP_BPF) && has(Capability::CAP_PERFMON)),
        "observer may not load programs into the kernel: run it as root (`sudo observer …`), or give it CAP_BPF and \
         CAP_PERFMON as its service does"
    );
    Ok(())
}

/// Whether plain tracepoints can be attached: perf_event_open wants it on kernels with perf_event_paranoid above 2.
pub fn has_sys_admin() -> bool {
    has(Capability::CAP_SYS_ADMIN)
}

/// Whether memory of other users' processes can be read.
pub fn has_ptrace() -> bool {
    has(Capability::CAP_SYS_PTRACE)
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Gives up, on this thread and those that it starts, every right that attached programs do not need. Threads that run
/// already keep theirs: call it before there are any.
pub fn drop_unneeded() -> Result<()> {
    let permitted = caps::read(None, CapSet::Permitted).context("read the own capabilities")?;
    let kept: CapsHashSet = KEPT.into_iter().filter(|capability| permitted.contains(capability)).collect();
    caps::clear(None, CapSet::Ambient).context("clear the ambient capabilities")?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())
        .context("clear the inheritable capabilities")?;
    caps::set(None, CapSet::Effective, &kept).context("give up effective capabilities")?;
    caps::set(None, CapSet::Permitted, &kept).context("give up permitted capabilities")
}

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK: it is raised there, and only there. A refusal is no error here:
/// creating the maps then says so.
pub fn raise_memlock_where_needed() {
    if is_memlock_charged() {
        let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: reads one struct.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    }
}

/// Whether maps may be refused because the limit of locked memory is too low.
pub fn is_memlock_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one struct.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    is_memlock_charged() && (read != 0 || limit.rlim_cur != libc::RLIM_INFINITY)
}

fn is_memlock_charged() -> bool {
    sys::kernel_release().is_ok_and(|(_, version)| version < KERNEL_MEMCG_ACCOUNTED)
}

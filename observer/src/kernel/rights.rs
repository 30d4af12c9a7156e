//! The rights of this process: checks those that observer needs, and gives up those that it does not need after the start.

use anyhow::{Context as _, Result, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::sys;

/// From this release on, BPF memory is charged to the cgroup and not to RLIMIT_MEMLOCK (kernel/bpf/syscall.c, "bpf: Eliminate
/// rlimit-based memory accounting", 5.11).
const KERNEL_MEMCG_ACCOUNTED: (u32, u32) = (5, 11);

/// Rights that are kept after the programs are attached, if the process had them. Kernels differ in which bpf(2) commands they
/// allow without CAP_BPF, and each pass opens the iterator again. The others are for the memory of other users' processes, the
/// owners of homes, and the daemon's own files, which root may keep in another user's directory.
const KEPT: [Capability; 6] = [
    Capability::CAP_BPF,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_CHOWN,
];

/// Checks that the process may load programs; the error ends with the next step.
pub fn check() -> Result<()> {
    ensure!(
        has(Capability::CAP_SYS_ADMIN) || (has(Capability::CAP_BPF) && has(Capability::CAP_PERFMON)),
        "observer may not load programs into the kernel: run it as root (`sudo observer …`), or give it CAP_BPF and \
         CAP_PERFMON as its service does"
    );
    Ok(())
}

/// Whether the process may attach plain tracepoints: perf_event_open takes CAP_SYS_ADMIN where perf_event_paranoid is above 2.
pub fn has_sys_admin() -> bool {
    has(Capability::CAP_SYS_ADMIN)
}

/// Whether the process may read the memory of other users' processes.
pub fn has_ptrace() -> bool {
    has(Capability::CAP_SYS_PTRACE)
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Gives up every right that the attached programs do not need, for this thread and those that it starts. Threads that run
/// already keep theirs, so this must be called before any is started.
pub fn drop_unneeded() -> Result<()> {
    let permitted = caps::read(None, CapSet::Permitted).context("read the own capabilities")?;
    let kept: CapsHashSet = KEPT.into_iter().filter(|capability| permitted.contains(capability)).collect();
    caps::clear(None, CapSet::Ambient).context("clear the ambient capabilities")?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())
        .context("clear the inheritable capabilities")?;
    caps::set(None, CapSet::Effective, &kept).context("give up effective capabilities")?;
    caps::set(None, CapSet::Permitted, &kept).context("give up permitted capabilities")
}

/// Raises RLIMIT_MEMLOCK on kernels before 5.11, which charge maps to it. A refusal is not an error here; creating the maps
/// fails then, and that error names the limit.
pub fn raise_memlock_where_needed() {
    if is_memlock_charged() {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
}

/// Whether the kernel may refuse maps because the limit of locked memory is too low.
pub fn is_memlock_limited() -> bool {
    let is_unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    is_memlock_charged() && !is_unlimited
}

fn is_memlock_charged() -> bool {
    sys::kernel_release().is_ok_and(|(_, version)| version < KERNEL_MEMCG_ACCOUNTED)
}

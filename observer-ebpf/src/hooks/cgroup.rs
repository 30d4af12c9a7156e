//! Reports that a process moved to another cgroup of the v2 hierarchy.

use observer_common::limits::PATH_MAX;
use observer_common::record::{CgroupRecord, KIND_CGROUP, path_flag};

use crate::access::{self, Access, Typed, offset};
use crate::budget;
use crate::emit::{self, Priority};
use crate::maps::{CGROUP_SCRATCH, TAIL_MASK};
use crate::task::Task;

/// Size of the buffer in which the tracepoint passes the path, NUL included (`TRACE_CGROUP_PATH_LEN`,
/// kernel/cgroup/cgroup-internal.h). The kernel cuts longer paths.
const TRACE_CGROUP_PATH_LEN: u64 = 1024;

/// Reports that `task` now belongs to `cgroup`, whose path in its hierarchy is `path`. If a whole group moves, the kernel
/// calls this for each thread, and the call for the leader is reported.
#[inline(always)]
pub fn report(cgroup: *const u8, path: *const u8, task: Task<Typed>) {
    let now = emit::now();
    if !task.is_leader() || task.is_kthread() {
        return;
    }
    // The tracepoint fires after the move (`cgroup_attach_task`, kernel/cgroup/cgroup.c). If this is not the task's cgroup
    // in the v2 hierarchy, the move was in a v1 hierarchy.
    let cgroup = cgroup as u64;
    if !access::is_same(cgroup, task.cgroup()) || !budget::allows(KIND_CGROUP, now, task) {
        return;
    }
    let Some(scratch) = CGROUP_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: a per-CPU map value that only this program uses, and it is not re-entered on one CPU.
    let (body, tail) = unsafe { (&mut (*scratch).body, (&raw mut (*scratch).tail).cast::<u8>()) };
    // SAFETY: PATH_MAX bytes of the tail; the helper checks the source.
    let copied = unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_kernel_str(tail.cast(), PATH_MAX as u32, path.cast())
    };
    let path_len = if copied > 0 { (copied - 1) as u64 & TAIL_MASK } else { 0 };
    let len = size_of::<CgroupRecord>() as u64 + path_len;
    body.header = emit::header(KIND_CGROUP, now, task, task.pid(), len as usize);
    body.cgroup_id = Typed::u64(Typed::u64(cgroup, offset!(cgroup_kn)), offset!(kernfs_id));
    body.path_len = path_len as u32;
    let is_whole = path_len + 1 < TRACE_CGROUP_PATH_LEN;
    body.path_flags = if is_whole { 0 } else { path_flag::TRUNCATED };
    emit::variable(KIND_CGROUP, Priority::Throttled, body.header.tgid, false, (&raw const *body).cast(), len);
}

//! Entry points at the entries of kernel functions (fentry). The daemon attaches them where the kernel allows it; elsewhere what they
//! tell stays unknown.

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;

use crate::hooks;

/// `void oom_kill_process(oc, message)`, mm/oom_kill.c: the kernel is about to kill for lack of memory.
#[fentry(function = "oom_kill_process")]
fn oom_kill_process(ctx: FEntryContext) -> i32 {
    hooks::oom::keep_scope(ctx.arg(0));
    0
}

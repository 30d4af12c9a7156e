//! Programs of the object, and the kernel's reasons for refusing them.

use std::error::Error;
use std::io;

use anyhow::{Result, anyhow};
use aya::Ebpf;
use aya::programs::Program;

use crate::kernel::rights;

/// Finds a program of the object by its name.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name)
        .ok_or_else(|| anyhow!("find program {name} in the object: rebuild with `cargo xtask build`"))
}

/// Returns the innermost cause of an error, which is the kernel's error, without the verifier's log.
pub fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Returns what helps if the kernel refused to attach to the exit of a system call; empty if nothing is known.
pub fn remedy(error: &(dyn Error + 'static)) -> &'static str {
    let denied = root_cause(error).contains("denied");
    if denied && !rights::has_sys_admin() {
        ", which takes CAP_SYS_ADMIN where kernel.perf_event_paranoid is above 2"
    } else if error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::E2BIG))
    {
        // `BPF_TRACE_MAX_PROGS`, kernel/trace/bpf_trace.c.
        ", because other programs have all 64 places there: stop what does not need them"
    } else {
        ""
    }
}

/// One point that cannot be attached to, and why.
pub struct Problem {
    /// The kernel's name of the function or tracepoint.
    pub point: String,
    /// The reason.
    pub why: String,
}

/// Describes problems in a sentence; points with the same reason are listed together.
pub fn describe(problems: &[Problem]) -> String {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for Problem { point, why } in problems {
        match by_reason.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, points)) => points.push(point),
            None => by_reason.push((why, vec![point])),
        }
    }
    let each =
        by_reason.iter().map(|(why, points)| format!("{} cannot be attached to ({why})", points.join(", ")));
    each.collect::<Vec<_>>().join("; ")
}

//! Attaches the programs at the exits of system calls, which replace those at the ends of functions.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::TracePoint;
use observer_common::hooks::{Fact, SyscallExits};

use super::functions::{Incomplete, detach_functions};
use super::links::Links;
use super::program::{Problem, describe, program, remedy, root_cause};
use super::report::Attached;
use super::tracefs;
use crate::kernel::limit_reached;
use crate::kernel::load::explain_program;

/// Which exits of a fact's system calls were attached to.
pub struct Exits {
    fact: Fact,
    /// The system calls whose exits are attached to.
    attached: Vec<&'static str>,
    /// Which exits cannot be attached to, and why; empty if there are none.
    pub why: String,
}

/// Attaches to the exits of the system calls that replace the functions of incomplete facts.
pub fn attach_exits(ebpf: &mut Ebpf, links: &mut Links, incomplete: &[Incomplete]) -> Result<Vec<Exits>> {
    let replaced: Vec<_> = incomplete
        .iter()
        .filter_map(|incomplete| Some((incomplete.fallback.fact, incomplete.fallback.exits?)))
        .collect();
    if replaced.is_empty() {
        return Ok(Vec::new());
    }
    // Only attaching needs tracefs.
    for (_, exits) in &replaced {
        let program: &mut TracePoint = program(ebpf, exits.program)?.try_into()?;
        program.load().map_err(|error| explain_program(exits.program, &error))?;
    }
    let results = tracefs::within(|| {
        let attach = |&(fact, exits)| attach_fact(ebpf, links, fact, exits);
        replaced.iter().map(attach).collect::<Result<Vec<_>>>()
    });
    match results {
        Ok(results) => results,
        Err(error) => {
            let why = format!("{error:#}");
            let none = |&(fact, _)| Exits { fact, attached: Vec::new(), why: why.clone() };
            Ok(replaced.iter().map(none).collect())
        }
    }
}

fn attach_fact(ebpf: &mut Ebpf, links: &mut Links, fact: Fact, exits: SyscallExits) -> Result<Exits> {
    let program: &mut TracePoint = program(ebpf, exits.program)?.try_into()?;
    let mut attached = Vec::new();
    let mut problems = Vec::new();
    for call in exits.calls {
        let fd = program.fd()?.as_fd();
        match links.attach_traced(exits.program, fd, "syscalls", &format!("sys_exit_{call}")) {
            Ok(()) => attached.push(*call),
            Err(error) if limit_reached::is_cause(&error) => {
                return Err(error).with_context(|| format!("attach to sys_exit_{call}"));
            }
            Err(error) => problems.push(Problem {
                point: format!("sys_exit_{call}"),
                why: root_cause(&error) + remedy(&error),
            }),
        }
    }
    Ok(Exits { fact, attached, why: describe(&problems) })
}

/// Adds to `attached` what reports an incomplete fact, and what stays unseen. Detaches its functions if the exits of
/// system calls report all of it.
pub fn report(
    ebpf: &mut Ebpf,
    incomplete: &Incomplete,
    exits: &[Exits],
    attached: &mut Attached,
) -> Result<()> {
    let Incomplete { fallback, why, attached: functions } = incomplete;
    let fact = fallback.fact;
    let Some(exits) = exits.iter().find(|exits| exits.fact == fact) else {
        attached.add_lacking_hook(fact, format!("{}, for {why}", fallback.unseen));
        return Ok(());
    };
    if !exits.attached.is_empty() {
        let source = format!("tracepoint/syscalls/sys_exit_{{{}}}", exits.attached.join(","));
        let why = if why.is_empty() { "as asked for" } else { why };
        attached.add_fallback(fact, source, why.to_owned());
    }
    if exits.why.is_empty() {
        detach_functions(ebpf, &mut attached.links, functions)?;
        attached.keep_fallbacks(fact);
        attached.add_blind_spot(fact, fallback.unseen.to_owned());
    } else {
        attached.add_lacking_hook(fact, format!("changes, for {}; {why}", exits.why));
    }
    Ok(())
}

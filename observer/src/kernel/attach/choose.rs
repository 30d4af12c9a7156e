//! Chooses the hooks that this kernel accepts and attaches their programs.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use anyhow::{Result, bail};
use aya::programs::BtfTracePoint;
use observer_common::hooks::{FALLBACKS, Fact, HOOKS, Hook, Point, Without};

use super::exits;
use super::functions::{Incomplete, attach_functions};
use super::links::Links;
use super::program::{program, root_cause};
use super::report::{Attached, HookChoice};
use crate::kernel::limit_reached;
use crate::kernel::load::{Loaded, explain_program};
use crate::kernel::ring::Control;
use crate::kernel::sys;

/// Attaches everything that this kernel accepts. Hooks that differ from `observer_common::hooks` are left out.
///
/// Fails if a hook is missing without which observer cannot run, or if `choice` demands hooks that cannot be attached.
pub fn attach(loaded: &mut Loaded, choice: HookChoice, control: &Control) -> Result<Attached> {
    let mut attached = Attached::default();
    attach_tracepoints(loaded, &mut attached)?;
    let incomplete = match choice {
        HookChoice::Tracepoints => {
            let replaced = FALLBACKS.iter().filter(|fallback| fallback.exits.is_some());
            replaced.map(Incomplete::untried).collect()
        }
        HookChoice::Auto | HookChoice::Fexit => attach_functions(loaded, &mut attached, control)?,
    };
    match choice {
        HookChoice::Fexit => {
            // What is lost with the moment is a blind spot, whatever was demanded: without it the map is as right.
            let demanded = incomplete.iter().filter(|incomplete| incomplete.fallback.fact.is_read_again());
            require_none(demanded.map(|incomplete| incomplete.why.as_str()), "fexit", "--hooks auto")?;
        }
        HookChoice::Auto | HookChoice::Tracepoints => {}
    }
    fall_back(loaded, choice, &incomplete, &mut attached)?;
    attached.add_source(Fact::Snapshot, "iter/task".into(), "at start, to heal, when asked, on hints");
    attached.add_older_argv();
    Ok(attached)
}

fn attach_tracepoints(loaded: &mut Loaded, attached: &mut Attached) -> Result<()> {
    let hooks = || HOOKS.iter().filter(|hook| matches!(hook.point, Point::Tracepoint(_)));
    for hook in hooks() {
        let name = hook.point.name();
        match attach_tracepoint(loaded, &mut attached.links, hook, name)? {
            Ok(()) => attached.add_source(hook.fact, format!("tp_btf/{name}"), ""),
            Err(why) if hook.without == Without::Refused => {
                bail!("attach tp_btf/{name}: {why}; see `observer doctor`")
            }
            Err(why) => {
                let what = match hook.fact {
                    Fact::Oom => "which processes the kernel killed for lack of memory",
                    _ => "changes",
                };
                let what = format!("{what}, for tp_btf/{name} does not attach: {why}");
                attached.add_lacking_hook(hook.fact, what);
            }
        }
    }
    if sys::tracepoints_are_preempted() {
        // After all first programs, because the kernel calls the programs of a tracepoint in the order of their attachment.
        for hook in hooks() {
            let Some(second) = hook.second else { continue };
            if let Err(why) = attach_tracepoint(loaded, &mut attached.links, hook, second)? {
                bail!("attach {second} to tp_btf/{}: {why}; see `observer doctor`", hook.point.name());
            }
        }
    }
    Ok(())
}

/// Attaches a program to a BTF tracepoint. The inner result says why the kernel does not allow it.
fn attach_tracepoint(
    loaded: &mut Loaded,
    links: &mut Links,
    hook: &Hook,
    program_name: &'static str,
) -> Result<Result<(), String>> {
    let Loaded { ebpf, contract, btf } = loaded;
    if let Some(why) = contract.unfit(hook.point) {
        return Ok(Err(format!("this kernel is not as observer knows it: {why}")));
    }
    let program: &mut BtfTracePoint = program(ebpf, program_name)?.try_into()?;
    // A refusal of the verifier is a defect of observer, whatever the fact.
    program.load(hook.point.name(), btf).map_err(|error| explain_program(program_name, &error))?;
    let result = links.attach(program_name, program.fd()?.as_fd());
    if let Err(error) = &result {
        limit_reached::refuse(program_name, error)?;
    }
    Ok(result.map_err(|error| root_cause(&error)))
}

/// Has the exits of system calls report the facts that are incomplete, as far as they can.
fn fall_back(
    loaded: &mut Loaded,
    choice: HookChoice,
    incomplete: &[Incomplete],
    attached: &mut Attached,
) -> Result<()> {
    if !incomplete.is_empty() {
        let exits = exits::attach_exits(&mut loaded.ebpf, &mut attached.links, incomplete)?;
        if choice == HookChoice::Tracepoints {
            require_none(exits.iter().map(|exits| exits.why.as_str()), "tracepoints", "--hooks auto")?;
        }
        for incomplete in incomplete {
            exits::report(&mut loaded.ebpf, incomplete, &exits, attached)?;
        }
    }
    if choice == HookChoice::Tracepoints {
        for fallback in FALLBACKS.iter().filter(|fallback| fallback.exits.is_none()) {
            attached.add_blind_spot(fallback.fact, fallback.unseen.to_owned());
        }
    }
    Ok(())
}

/// Fails if there are problems with hooks that were demanded by `--hooks`.
fn require_none<'a>(problems: impl Iterator<Item = &'a str>, choice: &str, instead: &str) -> Result<()> {
    let problems: BTreeSet<_> = problems.filter(|problem| !problem.is_empty()).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let problems = problems.into_iter().collect::<Vec<_>>().join("; ");
    bail!("--hooks {choice} cannot be had: {problems}; run with {instead} instead")
}

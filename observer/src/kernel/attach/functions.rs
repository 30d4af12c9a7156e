//! Attaches the programs at the ends of kernel functions (fexit), and at their entries (fentry).

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use aya::programs::{FEntry, FExit, Program, ProgramError};
use aya::{Btf as AyaBtf, Ebpf};
use observer_common::hooks::{FALLBACKS, Fallback, Hook, Point};

use super::links::Links;
use super::program::{Problem, describe, program, root_cause};
use super::report::Attached;
use super::trial;
use crate::kernel::btf::function_name;
use crate::kernel::contract::Contract;
use crate::kernel::limit_reached;
use crate::kernel::load::Loaded;
use crate::kernel::ring::Control;

/// A fact of which one function at least is not attached to.
pub struct Incomplete {
    /// The fact, and what replaces its functions.
    pub fallback: &'static Fallback,
    /// Which functions cannot be attached to, with the kernel's reasons; empty if they were not tried.
    pub why: String,
    /// The hooks at functions that are attached all the same.
    pub attached: Vec<&'static Hook>,
}

impl Incomplete {
    /// A fact none of whose functions was tried.
    pub fn untried(fallback: &'static Fallback) -> Self {
        Self { fallback, why: String::new(), attached: Vec::new() }
    }
}

/// The functions of one fact.
struct Tried {
    fallback: &'static Fallback,
    attached: Vec<&'static Hook>,
    problems: Vec<Problem>,
}

/// Attaches to every kernel function that this kernel allows, and detaches from those whose programs do not run in a trial.
/// Returns the facts that are incomplete.
pub fn attach_functions(
    loaded: &mut Loaded,
    attached: &mut Attached,
    control: &Control,
) -> Result<Vec<Incomplete>> {
    let mut facts = Vec::new();
    for fallback in FALLBACKS {
        facts.push(attach_fact(loaded, &mut attached.links, fallback)?);
    }
    let bypassed = match facts.iter().all(|tried| tried.attached.is_empty()) {
        true => Vec::new(),
        false => trial::bypassed(control)?,
    };
    let mut incomplete = Vec::new();
    for Tried { fallback, attached: hooks, mut problems } in facts {
        let (useless, useful): (Vec<_>, Vec<_>) = hooks.into_iter().partition(|hook| bypassed.contains(hook));
        detach_functions(&mut loaded.ebpf, &mut attached.links, &useless)?;
        problems.extend(useless.into_iter().map(|hook| Problem {
            point: function_name(hook.point),
            why: "a call made to try it went past it".to_owned(),
        }));
        for hook in &useful {
            let way = if matches!(hook.point, Point::Entry(_)) { "fentry" } else { "fexit" };
            attached.add_source(fallback.fact, format!("{way}/{}", function_name(hook.point)), "");
        }
        if !problems.is_empty() {
            incomplete.push(Incomplete { fallback, why: describe(&problems), attached: useful });
        }
    }
    Ok(incomplete)
}

fn attach_fact(loaded: &mut Loaded, links: &mut Links, fallback: &'static Fallback) -> Result<Tried> {
    let Loaded { ebpf, contract, btf } = loaded;
    let mut tried = Tried { fallback, attached: Vec::new(), problems: Vec::new() };
    for hook in fallback.functions().filter(|hook| !contract.is_needless(hook.point)) {
        match attach_function(ebpf, contract, btf, links, hook)? {
            Ok(()) => tried.attached.push(hook),
            Err(why) => tried.problems.push(Problem { point: function_name(hook.point), why }),
        }
    }
    Ok(tried)
}

/// The inner result says why the kernel does not allow it.
fn attach_function(
    ebpf: &mut Ebpf,
    contract: &Contract,
    btf: &AyaBtf,
    links: &mut Links,
    hook: &Hook,
) -> Result<Result<(), String>> {
    if let Some(why) = contract.unfit(hook.point) {
        return Ok(Err(why.to_owned()));
    }
    let name = hook.point.name();
    let program = program(ebpf, name)?;
    if let Err(error) = load_at(program, &function_name(hook.point), btf) {
        limit_reached::refuse(name, &error)?;
        return Ok(Err(root_cause(&error)));
    }
    let result = links.attach(name, program.fd()?.as_fd());
    if let Err(error) = &result {
        limit_reached::refuse(name, error)?;
        unload(program).with_context(|| format!("unload {name}"))?;
    }
    Ok(result.map_err(|error| root_cause(&error)))
}

/// Loads a program for the entry or the end of a function, whichever it is made for.
fn load_at(program: &mut Program, function: &str, btf: &AyaBtf) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => program.load(function, btf),
        program => <&mut FExit>::try_from(program)?.load(function, btf),
    }
}

fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => FEntry::unload(program),
        program => <&mut FExit>::try_from(program)?.unload(),
    }
}

/// Detaches and unloads the programs of these hooks.
pub fn detach_functions(ebpf: &mut Ebpf, links: &mut Links, hooks: &[&'static Hook]) -> Result<()> {
    for name in hooks.iter().map(|hook| hook.point.name()) {
        links.detach(name);
        unload(program(ebpf, name)?).with_context(|| format!("detach {name}"))?;
    }
    Ok(())
}

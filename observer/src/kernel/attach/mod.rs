//! Loads and attaches the programs that this kernel takes, and says what is taken from where and what stays unseen.

mod facts;
mod links;
mod provoke;
mod tracefs;

use std::collections::BTreeSet;
use std::error::Error;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{BtfTracePoint, FExit, Program, TracePoint};
use aya::{Btf as AyaBtf, Ebpf};
use observer_common::hooks::{HOOKS, Point};

use self::facts::{BTF_TRACEPOINTS, FACTS, Fact, SECOND, VITAL};
pub use self::links::{Kept, Links};
pub use self::tracefs::is_mounted as tracefs_mounted;
use super::btf::SYSCALL_PREFIX;
use super::contract::Contract;
use super::load::{Loaded, explain_program};
use super::rights;
use super::ring::Control;
use super::sys;

/// One fact that is taken from the kernel, and what it is taken from on this kernel.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The fact: "birth", "cwd", "uids"…
    pub fact: &'static str,
    /// Where it comes from: "tp_btf/sched_process_fork", "fexit/set_fs_pwd",
    /// "tracepoint/syscalls/sys_exit_{chdir,fchdir}", "iter/task"…
    pub source: String,
    /// Why this and not a better one, or when; empty for the best.
    pub why: String,
    /// It stands in for a better one.
    pub fallback: bool,
}

/// Something that the hooks in use cannot see.
#[derive(Clone, Debug)]
pub struct BlindSpot {
    /// Field or fact concerned: its value carries `as_of` and is read again when asked.
    pub fact: &'static str,
    /// What is not seen, in a sentence.
    pub what: String,
}

/// Where facts are taken from that more than one hook can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ways {
    /// From kernel functions where this kernel attaches to them, else from system calls
    #[default]
    Auto,
    /// From kernel functions (fexit), or not at all
    Fexit,
    /// From system calls (tracepoints), or not at all
    Tracepoints,
}

/// What is in use, and what stays unseen.
#[derive(Debug, Default)]
pub struct Attached {
    /// One for each source.
    pub hooks: Vec<Hook>,
    /// One for each thing that is not seen.
    pub blind_spots: Vec<BlindSpot>,
    /// What holds the BTF tracepoints and functions in use.
    pub links: Links,
}

/// Attaches everything that this kernel takes; errors only where a fact without which there is no map is missing, or
/// where `ways` demands what cannot be had. What is not as the contract says is not attached.
pub fn attach(loaded: &mut Loaded, ways: Ways, control: &Control) -> Result<Attached> {
    let mut attached = Attached::default();
    for (index, (fact, name)) in BTF_TRACEPOINTS.iter().enumerate() {
        match attach_tracepoint(loaded, &mut attached.links, name, name)? {
            Ok(()) => attached.hook(fact, format!("tp_btf/{name}"), ""),
            Err(why) if index < VITAL => bail!("attach tp_btf/{name}: {why}; see `observer doctor`"),
            Err(why) => attached.blind(fact, format!("changes, for tp_btf/{name} does not attach: {why}")),
        }
    }
    if sys::tracepoints_are_preempted() {
        // After the first ones, because the kernel calls them in the order in which they came.
        for (program, name) in SECOND {
            if let Err(why) = attach_tracepoint(loaded, &mut attached.links, program, name)? {
                bail!("attach {program} to tp_btf/{name}: {why}; see `observer doctor`");
            }
        }
    }
    let missing = match ways {
        Ways::Tracepoints => FACTS.iter().filter(|fact| fact.syscalls.is_some()).map(Missing::all).collect(),
        Ways::Auto | Ways::Fexit => attach_functions(loaded, &mut attached, control)?,
    };
    match ways {
        Ways::Fexit => demand(missing.iter().map(|missing| missing.why.as_str()), "fexit", "--hooks auto")?,
        Ways::Auto | Ways::Tracepoints if missing.is_empty() => {}
        Ways::Auto | Ways::Tracepoints => fall_back(&mut loaded.ebpf, ways, &missing, &mut attached)?,
    }
    if ways == Ways::Tracepoints {
        for fact in FACTS.iter().filter(|fact| fact.syscalls.is_none()) {
            attached.blind(fact.name, fact.unseen.to_owned());
        }
    }
    attached.hook("snapshot", "iter/task".into(), "at start, to heal, when asked, on hints");
    attached.older_argv();
    Ok(attached)
}

impl Attached {
    fn hook(&mut self, fact: &'static str, source: String, why: &str) {
        self.hooks.push(Hook { fact, source, why: why.into(), fallback: false });
    }

    fn older_argv(&mut self) {
        if rights::has_ptrace() {
            let why =
                "of what exec'd before observer did: read once, the process's identity checked afterwards";
            self.hook("older argv", "process_vm_readv".into(), why);
        } else {
            let what = "argv and environment of other users' processes that exec'd before observer started: give it \
                        CAP_SYS_PTRACE, if they are wanted";
            self.blind("older argv", what.into());
        }
    }

    fn blind(&mut self, fact: &'static str, what: String) {
        self.blind_spots.push(BlindSpot { fact, what });
    }
}

/// Functions of a fact that could not be attached to.
struct Missing {
    fact: &'static Fact,
    /// What does not attach, and the kernel's own word for it; empty where it was not tried.
    why: String,
    /// Those that were attached all the same.
    present: Vec<&'static str>,
}

impl Missing {
    fn all(fact: &'static Fact) -> Self {
        Self { fact, why: String::new(), present: Vec::new() }
    }
}

fn attach_tracepoint(
    loaded: &mut Loaded,
    links: &mut Links,
    program_name: &'static str,
    name: &str,
) -> Result<Result<(), String>> {
    let Loaded { ebpf, contract, btf } = loaded;
    if let Some(why) = contract.unfit(point(name)?) {
        return Ok(Err(format!("this kernel is not as observer knows it: {why}")));
    }
    let program: &mut BtfTracePoint = program(ebpf, program_name)?.try_into()?;
    // What the verifier refuses is a defect of observer, whatever the fact.
    program.load(name, btf).map_err(|error| explain_program(program_name, &error))?;
    Ok(links.attach(program_name, program.fd()?.as_fd()).map_err(|error| said(&error)))
}

/// Attaches to every kernel function that can be and that then tells of a call made to try it; returns the facts of
/// which one cannot.
fn attach_functions(loaded: &mut Loaded, attached: &mut Attached, control: &Control) -> Result<Vec<Missing>> {
    let Loaded { ebpf, contract, btf } = loaded;
    let mut tried = Vec::new();
    for fact in FACTS {
        let mut problems = Vec::new();
        let mut present = Vec::new();
        for name in fact.functions {
            if contract.is_needless(point(name)?) {
                continue;
            }
            match attach_function(ebpf, contract, btf, &mut attached.links, name)? {
                Ok(()) => present.push(*name),
                Err(why) => problems.push((function(name)?, why)),
            }
        }
        tried.push((fact, present, problems));
    }
    let mut deaf = Vec::new();
    if tried.iter().any(|(_, present, _)| !present.is_empty()) {
        deaf = provoke::bypassed(control)?;
    }
    let mut missing = Vec::new();
    for (fact, mut present, mut problems) in tried {
        let (useless, useful) = present.into_iter().partition(|name| deaf.contains(name));
        present = useful;
        detach_functions(ebpf, &mut attached.links, &useless)?;
        for name in useless {
            problems.push((function(name)?, "a call made to try it went past it".to_owned()));
        }
        for name in &present {
            attached.hook(fact.name, format!("fexit/{}", function(name)?), "");
        }
        if !problems.is_empty() {
            missing.push(Missing { fact, why: in_words(&problems), present });
        }
    }
    Ok(missing)
}

fn attach_function(
    ebpf: &mut Ebpf,
    contract: &Contract,
    btf: &AyaBtf,
    links: &mut Links,
    name: &'static str,
) -> Result<Result<(), String>> {
    if let Some(why) = contract.unfit(point(name)?) {
        return Ok(Err(why.to_owned()));
    }
    let program: &mut FExit = program(ebpf, name)?.try_into()?;
    if let Err(error) = program.load(&function(name)?, btf) {
        return Ok(Err(said(&error)));
    }
    let result = links.attach(name, program.fd()?.as_fd());
    if result.is_err() {
        program.unload().with_context(|| format!("unload {name}"))?;
    }
    Ok(result.map_err(|error| said(&error)))
}

/// Lets the exits of system calls tell what the missing functions do not.
fn fall_back(ebpf: &mut Ebpf, ways: Ways, missing: &[Missing], attached: &mut Attached) -> Result<()> {
    let with: Vec<_> = missing.iter().filter_map(|missing| Some((missing, missing.fact.syscalls?))).collect();
    // Only to attach them takes tracefs.
    for (_, (name, _)) in &with {
        let program: &mut TracePoint = program(ebpf, name)?.try_into()?;
        program.load().map_err(|error| explain_program(name, &error))?;
    }
    let results = tracefs::within(|| {
        with.into_iter()
            .map(|(missing, syscalls)| attach_syscalls(ebpf, missing, syscalls))
            .collect::<Result<Vec<_>>>()
    });
    let results = match results {
        Ok(results) => results?,
        Err(error) => {
            let why = format!("{error:#}");
            let each = missing.iter().filter(|missing| missing.fact.syscalls.is_some());
            each.map(|missing| Outcome::none(missing.fact, why.clone())).collect()
        }
    };
    if ways == Ways::Tracepoints {
        demand(results.iter().map(|outcome| outcome.why.as_str()), "tracepoints", "--hooks auto")?;
    }
    for Missing { fact, why, present } in missing {
        let outcome = results.iter().find(|outcome| outcome.fact == fact.name);
        let in_use = outcome.map(|outcome| outcome.calls.as_slice()).unwrap_or_default();
        if !in_use.is_empty() {
            attached.hooks.push(Hook {
                fact: fact.name,
                source: format!("tracepoint/syscalls/sys_exit_{{{}}}", in_use.join(",")),
                why: if why.is_empty() { "as asked for".into() } else { why.clone() },
                fallback: true,
            });
        }
        match outcome {
            Some(outcome) if outcome.why.is_empty() => {
                // One of the two ways is enough, and this is the whole of it.
                detach_functions(ebpf, &mut attached.links, present)?;
                attached.hooks.retain(|hook| hook.fact != fact.name || hook.fallback);
                attached.blind(fact.name, fact.unseen.to_owned());
            }
            Some(outcome) => attached.blind(fact.name, format!("changes, for {}; {why}", outcome.why)),
            None => attached.blind(fact.name, format!("{}, for {why}", fact.unseen)),
        }
    }
    Ok(())
}

/// How the exits of a fact's system calls fared.
struct Outcome {
    fact: &'static str,
    /// Those attached.
    calls: Vec<&'static str>,
    /// What does not attach and why; empty if all do.
    why: String,
}

impl Outcome {
    fn none(fact: &Fact, why: String) -> Self {
        Self { fact: fact.name, calls: Vec::new(), why }
    }
}

fn attach_syscalls(
    ebpf: &mut Ebpf,
    missing: &Missing,
    (name, calls): (&str, &'static [&'static str]),
) -> Result<Outcome> {
    let program: &mut TracePoint = program(ebpf, name)?.try_into()?;
    let mut outcome = Outcome { fact: missing.fact.name, calls: Vec::new(), why: String::new() };
    let mut problems = Vec::new();
    for call in calls {
        match program.attach("syscalls", &format!("sys_exit_{call}")) {
            Ok(_) => outcome.calls.push(*call),
            Err(error) => problems.push((format!("sys_exit_{call}"), said(&error) + remedy(&error))),
        }
    }
    if !problems.is_empty() {
        outcome.why = in_words(&problems);
    }
    Ok(outcome)
}

fn detach_functions(ebpf: &mut Ebpf, links: &mut Links, names: &[&str]) -> Result<()> {
    for name in names {
        links.detach(name);
        let program: &mut FExit = program(ebpf, name)?.try_into()?;
        program.unload().with_context(|| format!("detach {name}"))?;
    }
    Ok(())
}

/// Refuses, where a person asked for one way alone and it cannot be had.
fn demand<'a>(problems: impl Iterator<Item = &'a str>, way: &str, instead: &str) -> Result<()> {
    let problems: BTreeSet<_> = problems.filter(|problem| !problem.is_empty()).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let problems = problems.into_iter().collect::<Vec<_>>().join("; ");
    bail!("--hooks {way} cannot be had: {problems}; run with {instead} instead")
}

/// Each reason once, after all that it holds for.
fn in_words(problems: &[(String, String)]) -> String {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for (what, why) in problems {
        match by_reason.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, all)) => all.push(what),
            None => by_reason.push((why, vec![what])),
        }
    }
    let each =
        by_reason.iter().map(|(why, what)| format!("{} cannot be attached to ({why})", what.join(", ")));
    each.collect::<Vec<_>>().join("; ")
}

/// The entry of a program's point in the contract.
fn point(name: &str) -> Result<Point> {
    let hook = HOOKS.iter().find(|hook| hook.point.name() == name);
    hook.map(|hook| hook.point).with_context(|| format!("find {name} among the hooks: please report this"))
}

/// The kernel function of a program at a function's end.
fn function(name: &str) -> Result<String> {
    Ok(match point(name)? {
        Point::Syscall(name) => format!("{SYSCALL_PREFIX}{name}"),
        point => point.name().to_owned(),
    })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name)
        .ok_or_else(|| anyhow!("find program {name} in the object: rebuild with `cargo xtask build`"))
}

/// What helps against a refusal to attach to a system call's exit.
fn remedy(error: &dyn Error) -> &'static str {
    let denied = said(error).contains("denied");
    if denied && !rights::has_sys_admin() {
        ", which takes CAP_SYS_ADMIN where kernel.perf_event_paranoid is above 2"
    } else {
        ""
    }
}

/// What the kernel said, without what the verifier did.
fn said(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

//! Loads the programs with this kernel's offsets.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::programs::{Iter, ProgramError};
use aya::{Btf as AyaBtf, Ebpf, EbpfLoader};
use observer_common::limits::is_ring_size;

use super::attach_points::attach_points;
use super::btf::Btf;
use super::contract::Contract;
use super::options::KernelOptions;
use super::{limit_reached, rights, sys};

/// The file in which the kernel publishes its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Lines of a verifier's log that are shown.
const LOG_LINES: usize = 4;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observer.bpf.o"));

/// Checks that the programs can work on this machine at all; the error ends with the next step.
pub fn check_machine() -> Result<()> {
    ensure!(
        !OBJECT.is_empty(),
        "this observer was built without its kernel programs: build it with `cargo xtask build`"
    );
    sys::check_kernel_release()?;
    sys::check_pid_namespace()?;
    sys::check_time_namespace()?;
    rights::check()?;
    check_btf_exists()
}

/// Checks that the kernel is as the programs expect, by its own type information or by the file `btf` instead of it.
pub fn check_btf(btf: Option<&Path>) -> Result<Contract> {
    check_btf_exists()?;
    btf.map_or_else(|| Contract::check(&own_btf()?), contract_of)
}

/// Compares the kernel with the contract, by the type information in `file`.
fn contract_of(file: &Path) -> Result<Contract> {
    Btf::read(file).and_then(|btf| Contract::check(&btf)).map_err(|error| {
        anyhow!(
            "{error:#}\nso says {}, which --btf named: name the running kernel's own type information, or leave \
             the option out",
            file.display()
        )
    })
}

/// Reads the running kernel's type information.
fn own_btf() -> Result<Btf> {
    Btf::read(Path::new(KERNEL_BTF)).map_err(|error| {
        if limit_reached::is_cause(error.as_ref()) {
            return limit_reached::explain(error);
        }
        anyhow!("{error:#}; observer cannot know this kernel's layout: please report this with `uname -r`")
    })
}

fn check_btf_exists() -> Result<()> {
    ensure!(
        Path::new(KERNEL_BTF).exists(),
        "this kernel publishes no BTF type information ({KERNEL_BTF} is missing): boot a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y (Debian's and every current distribution's own kernels are)"
    );
    Ok(())
}

/// The object with its maps created and the task iterator loaded. Other programs are loaded when they are attached.
pub struct Loaded {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// The result of comparing the kernel with the contract.
    pub contract: Contract,
    /// The types by which programs are attached, and the numbers of all others. The caller drops them and calls
    /// [`crate::heap::give_back`] once all is loaded.
    pub btf: AyaBtf,
}

/// Creates the object's maps and loads its iterator; attaches nothing.
pub fn load(options: &KernelOptions) -> Result<Loaded> {
    let KernelOptions { ring_bytes, program_log, btf: file, .. } = options;
    let ring_bytes = *ring_bytes;
    check_machine()?;
    limit_reached::raise_open_files();
    ensure!(
        is_ring_size(ring_bytes),
        "{ring_bytes} bytes are no valid size of a ring, and its caller did not check it: please report this"
    );
    sys::return_freed_memory();
    // Programs are attached by the numbers that the running kernel gives its types, whatever a file says of the layout.
    let own = own_btf()?;
    let contract = file.as_deref().map_or_else(|| Contract::check(&own), contract_of)?;
    let btf = attach_points(&own)?;
    drop(own);
    let mut offsets = contract.offsets;
    offsets.ring_bytes = ring_bytes;
    offsets.typed_loads = u32::from(sys::typed_loads_are_safe());
    offsets.preempted = u32::from(sys::tracepoints_are_preempted());
    let words = offsets.words();
    let log_level: u8 = if *program_log { u8::MAX } else { 0 };
    rights::raise_memlock_where_needed();
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        .map_max_entries("RING", ring_bytes)
        .override_global("OFFSETS", &words[..], true)
        .override_global("AYA_LOG_LEVEL", &log_level, false);
    let mut ebpf = loader.load(OBJECT).map_err(explain)?;
    let iterator = ebpf.program_mut("iter_task");
    let iterator =
        iterator.context("find program iter_task in the object: rebuild with `cargo xtask build`")?;
    let iterator: &mut Iter = iterator.try_into()?;
    iterator.load("task", &btf).map_err(|error| explain_program("iter_task", &error))?;
    Ok(Loaded { ebpf, contract, btf })
}

/// Describes a load error with all causes and the next step.
fn explain(error: aya::EbpfError) -> anyhow::Error {
    let text = chain(&error);
    let refused = text.contains("EPERM") || text.contains("Operation not permitted");
    if refused && rights::is_memlock_limited() {
        return anyhow!(
            "the kernel refused to create observer's maps ({text}), which count as locked memory on kernels before \
             5.11: raise that limit (`LimitMEMLOCK=infinity` in the unit, `ulimit -l unlimited` in a shell)"
        );
    }
    if let Some(remedy) = limit_reached::remedy(&error) {
        return anyhow!("create observer's maps: {text}; {remedy}");
    }
    if refused {
        return anyhow!(
            "the kernel refused to create observer's maps ({text}): run as root, or with CAP_BPF and CAP_PERFMON"
        );
    }
    anyhow!("load observer's maps: {text}; see `observer doctor`")
}

/// Describes the refusal of a program with the end of the verifier's log and the next step.
pub fn explain_program(name: &str, error: &ProgramError) -> anyhow::Error {
    if let Some(remedy) = limit_reached::remedy(error) {
        let cause = anyhow::Chain::new(error).last().map(ToString::to_string).unwrap_or_default();
        return anyhow!("load program {name}: {cause}; {remedy}");
    }
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let lines = last_lines(&log);
        if !lines.is_empty() {
            return anyhow!(
                "the kernel refused program {name} ({io_error}); its verifier ended with:\n  {}\nwhat the program reads \
                 may stand elsewhere than this kernel's type information says, or observer does not know this kernel: \
                 please report these lines with `uname -r`",
                lines.join("\n  ")
            );
        }
    }
    anyhow!("the kernel refused program {name}: {}; see `observer doctor`", chain(error))
}

/// Returns the last lines of a verifier's log, which lists every instruction: where it gave up, and why.
fn last_lines(log: &str) -> Vec<&str> {
    const STATISTICS: [&str; 3] = ["verification time", "stack depth", "processed "];
    let is_reason = |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|word| line.starts_with(word));
    let mut last: Vec<_> = log.lines().map(str::trim).filter(is_reason).rev().take(LOG_LINES).collect();
    last.reverse();
    last
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn of_a_verifiers_log_the_last_lines_are_kept() {
        let log = "0: R1=ctx()\n1: (79) r8 = *(u64 *)(r1 +0)\n2: R1=x\n; task.rs:58\n3: (61) r1 = *(u32 *)(r3 +0)\nR3 \
                   invalid mem access 'scalar'\nverification time 208 usec\nstack depth 0\nprocessed 21 insns (limit 1000000)\n\n";
        let lines = last_lines(log);
        assert_eq!(lines.last(), Some(&"R3 invalid mem access 'scalar'"));
        assert_eq!(lines.len(), super::LOG_LINES);
        assert!(last_lines("\nprocessed 0 insns\n").is_empty());
    }
}

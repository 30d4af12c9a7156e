//! Loads the programs with this kernel's offsets.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::programs::{BtfTracePoint, Iter, Program, TracePoint};
use aya::{Btf as AyaBtf, Ebpf, EbpfLoader};
use observer_common::limits::{RING_BYTES_MAX, RING_BYTES_MIN};

use super::btf::Btf;
use super::{offsets, sys};

/// Where the kernel publishes its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observer.bpf.o"));

/// Which programs to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// All of them.
    All,
    /// The task iterator alone.
    Iterator,
}

/// Checks a ring size that a person gave.
pub fn check_ring_bytes(bytes: u32) -> Result<()> {
    ensure!(
        bytes.is_power_of_two() && (RING_BYTES_MIN..=RING_BYTES_MAX).contains(&bytes),
        "ring size {bytes} is not usable: give a power of two from {RING_BYTES_MIN} to {RING_BYTES_MAX} bytes"
    );
    Ok(())
}

/// Refuses, with the next step, where the programs cannot work at all.
pub fn check_machine() -> Result<()> {
    ensure!(
        !OBJECT.is_empty(),
        "this observer was built without its kernel programs: build it with `cargo xtask build`"
    );
    sys::check_kernel_release()?;
    sys::check_pid_namespace()?;
    sys::check_capabilities()?;
    check_btf_exists()
}

/// Whether every offset resolves.
pub fn check_btf() -> Result<()> {
    check_btf_exists()?;
    offsets::resolve(&Btf::read(Path::new(KERNEL_BTF))?).map(drop)
}

fn check_btf_exists() -> Result<()> {
    ensure!(
        Path::new(KERNEL_BTF).exists(),
        "this kernel publishes no BTF type information ({KERNEL_BTF} is missing): boot a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y (Debian's and every current distribution's own kernels are)"
    );
    Ok(())
}

/// Loads the object into the kernel; nothing is attached yet.
pub fn load(which: Programs, ring_bytes: u32, program_log: bool) -> Result<Ebpf> {
    check_machine()?;
    check_ring_bytes(ring_bytes)?;
    sys::return_freed_memory();
    let mut offsets = offsets::resolve(&Btf::read(Path::new(KERNEL_BTF))?)?;
    offsets.ring_bytes = ring_bytes;
    offsets.typed_loads = u32::from(sys::typed_loads_are_safe());
    let words = offsets.words();
    let log_level: u8 = if program_log { u8::MAX } else { 0 };
    sys::raise_memlock_where_needed();
    let btf = AyaBtf::from_sys_fs().context("parse the kernel's BTF")?;
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        .map_max_entries("RING", ring_bytes)
        .override_global("OFFSETS", &words[..], true)
        .override_global("AYA_LOG_LEVEL", &log_level, false);
    let mut ebpf = loader.load(OBJECT).map_err(explain)?;
    for (name, program) in ebpf.programs_mut() {
        let wanted = which == Programs::All || matches!(program, Program::Iter(_));
        if wanted {
            load_program(name, program, &btf)?;
        }
    }
    drop(btf);
    sys::give_back_memory();
    Ok(ebpf)
}

fn load_program(name: &str, program: &mut Program, btf: &AyaBtf) -> Result<()> {
    let result = match program {
        Program::BtfTracePoint(program) => BtfTracePoint::load(program, name, btf),
        Program::TracePoint(program) => TracePoint::load(program),
        Program::Iter(program) => Iter::load(program, "task", btf),
        _ => bail!("program {name} is of an unexpected type: rebuild with `cargo xtask build`"),
    };
    result.map_err(|error| explain_program(name, error))
}

/// A load error with the whole of what the kernel said, and the next step.
fn explain(error: aya::EbpfError) -> anyhow::Error {
    let text = chain(&error);
    if text.contains("EPERM") || text.contains("Operation not permitted") {
        return anyhow!(
            "the kernel refused to create observer's maps ({text}): run as root, or with CAP_BPF and CAP_PERFMON"
        );
    }
    anyhow!("load observer's maps: {text}; see `observer doctor`")
}

fn explain_program(name: &str, error: aya::programs::ProgramError) -> anyhow::Error {
    anyhow!("the kernel refused program {name}: {}; see `observer doctor`", chain(&error))
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

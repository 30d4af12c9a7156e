//! Counts programs that the kernel skipped because they were already running on that CPU. The record of a skipped program is
//! as lost as one that could not be reserved, unless a second program reported the event. From 5.12 on the kernel counts them
//! (`recursion_misses`, `bpf_prog_show_fdinfo` in kernel/bpf/syscall.c) and shows the count in the descriptor's fdinfo.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use observer_common::hooks::{FALLBACKS, HOOKS};
use observer_common::record::KIND_COUNT;

use super::program_info::ProgramInfo;
use super::ring::Control;

/// How long a task whose first program was skipped may take to its second program, before the event counts as lost.
const SECOND_WAIT: Duration = Duration::from_millis(1);

type ByKind = [u64; KIND_COUNT];

/// The counts of the loaded programs.
pub struct Skipped {
    /// Descriptor of each program, and the kind of the records that it sends.
    programs: Vec<(OwnedFd, u32)>,
    by_kind: ByKind,
}

impl Skipped {
    /// Counts for the loaded programs; those that are not loaded are left out.
    pub fn new(ebpf: &Ebpf) -> Self {
        let hooks = HOOKS.iter().map(|hook| (hook.point.name(), hook.kind));
        let exits = FALLBACKS.iter().filter_map(|fallback| fallback.exits);
        let programs = hooks
            .chain(exits.map(|exits| (exits.program, exits.kind)))
            .filter_map(|(name, kind)| {
                let fd = ebpf.program(name)?.fd().ok()?;
                Some((fd.as_fd().try_clone_to_owned().ok()?, kind))
            })
            .collect();
        Self { programs, by_kind: [0; KIND_COUNT] }
    }

    /// Reads the counts again; if one of them cannot be read, all keep their values.
    pub fn refresh(&mut self, control: &Control) {
        let Some(mut lost) = self.read(control) else { return };
        if pairs(&lost, &self.by_kind).any(|(lost, known)| lost > known) {
            // A second program counts its event a moment after the kernel counted the skipped program.
            thread::sleep(SECOND_WAIT);
            let Some(later) = self.read(control) else { return };
            lost = combine(&lost, &later, u64::min);
        }
        self.by_kind = combine(&self.by_kind, &lost, u64::max);
    }

    /// Skipped programs less the events that second programs reported.
    fn read(&self, control: &Control) -> Option<ByKind> {
        let mut skipped = [0; KIND_COUNT];
        for (fd, kind) in &self.programs {
            let misses = read_misses(fd.as_raw_fd())?;
            if let Some(count) = skipped.get_mut(*kind as usize) {
                *count += misses;
            }
        }
        Some(combine(&skipped, &control.second(), u64::saturating_sub))
    }

    /// Lost records by kind, as of the last refresh.
    pub fn by_kind(&self) -> ByKind {
        self.by_kind
    }
}

fn pairs<'a>(one: &'a ByKind, other: &'a ByKind) -> impl Iterator<Item = (u64, u64)> + 'a {
    one.iter().copied().zip(other.iter().copied())
}

fn combine(one: &ByKind, other: &ByKind, of: impl Fn(u64, u64) -> u64) -> ByKind {
    let mut each = pairs(one, other).map(|(one, other)| of(one, other));
    std::array::from_fn(|_| each.next().unwrap_or_default())
}

fn read_misses(fd: i32) -> Option<u64> {
    ProgramInfo::read(fd)?.number("recursion_misses:")
}

//! Starts the programs: loads, attaches and tests them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::{HashMap, Map};
use observer_common::control;
use observer_common::limits::RING_BYTES_MIN;
use observer_common::record::KIND_COUNT;

use super::attach::{self, Attached, HookChoice};
use super::iterator::TaskIterator;
use super::load::{self, Loaded};
use super::look::Look;
use super::options::KernelOptions;
use super::programs::Kernel;
use super::ring::{Control, Ring};
use super::run_times::RunTimes;
use super::skipped::Skipped;
use super::{limit_reached, program_log, selftest};

impl Kernel {
    /// Loads the programs with this kernel's offsets, attaches them and runs the self-test. Records queue in the ring from
    /// then on. Errors are sentences that end with the next step.
    pub fn start(options: &KernelOptions) -> Result<Self> {
        Self::load_and_test(options).map_err(limit_reached::explain)
    }

    fn load_and_test(options: &KernelOptions) -> Result<Self> {
        let mut loaded = load::load(options)?;
        let ebpf = &mut loaded.ebpf;
        let ring_map = take_map(ebpf, "RING")?;
        let control_map = take_map(ebpf, "CONTROL")?;
        let (Map::RingBuf(ring_data), Map::Array(control_data)) = (&ring_map, &control_map) else {
            bail!("maps of the object are of unexpected types: rebuild with `cargo xtask build`");
        };
        let ring_fd = ring_data.fd().as_fd().try_clone_to_owned().context("keep the ring's descriptor")?;
        let ring = Ring::map(ring_fd, options.ring_bytes)?;
        let control = Control::map(control_data.fd().as_fd())?;
        let watched = HashMap::try_from(take_map(ebpf, "WATCHED")?)?;
        let iterator = TaskIterator::new(ebpf)?;
        if options.program_log {
            program_log::start(ebpf)?;
        }
        control.set_reader_state(control::READER_POLLING);
        control.set_all_environments(options.all_environments);
        // Before `ring_map` and `control_map` close: programs refer to maps by these descriptors until they are loaded.
        let Attached { sources, blind_spots, links } = attach::attach(&mut loaded, options.hooks, &control)?;
        let Loaded { ebpf, .. } = loaded;
        crate::heap::give_back();
        let skipped = Skipped::new(&ebpf);
        let run_times = RunTimes::new(&ebpf);
        let mut kernel = Self {
            ring,
            control,
            watched,
            watched_tgids: BTreeSet::new(),
            iterator,
            skipped,
            run_times,
            sources,
            blind_spots,
            events: [0; KIND_COUNT],
            presumed_lost: 0,
            delivered_hints: 0,
            rows: Cell::default(),
            _ebpf: ebpf,
            _links: links.keep(),
        };
        selftest::run(&mut kernel)?;
        // The self-test received the hints that it raised; the first pass reads every field anyway.
        kernel.clear_hints(u64::MAX);
        Ok(kernel)
    }
}

impl Look {
    /// Loads the iterator and runs its part of the self-test. The kernel's layout is taken from `btf`, or from the kernel
    /// itself.
    pub fn load(btf: Option<&Path>) -> Result<Self> {
        Self::load_and_test(btf).map_err(limit_reached::explain)
    }

    fn load_and_test(btf: Option<&Path>) -> Result<Self> {
        let Loaded { ebpf, .. } = load::load(&KernelOptions::brief(btf, HookChoice::Auto, RING_BYTES_MIN))?;
        crate::heap::give_back();
        let look = Self { iterator: TaskIterator::new(&ebpf)? };
        selftest::run_rows(&look)?;
        Ok(look)
    }
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("find map {name} in the object: rebuild with `cargo xtask build`"))
}

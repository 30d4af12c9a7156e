//! How long the kernel programs ran. The kernel measures it only while `kernel.bpf_stats_enabled` is 1, which costs two
//! readings of a clock for each run, so observer leaves the setting as it is.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::Ebpf;

use super::program_info::ProgramInfo;
use crate::api::status::{BpfStatus, ProgramTime};

/// Where the kernel says whether it measures.
const STATS_ENABLED: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The loaded programs.
pub struct RunTimes {
    programs: Vec<(String, OwnedFd)>,
}

impl RunTimes {
    /// Those that are loaded.
    pub fn new(ebpf: &Ebpf) -> Self {
        let programs = ebpf.programs().filter_map(|(name, program)| {
            let fd = program.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
            Some((name.to_owned(), fd))
        });
        Self { programs: programs.collect() }
    }

    /// Reads how long each ran.
    pub fn read(&self) -> BpfStatus {
        if fs::read_to_string(STATS_ENABLED).is_ok_and(|text| text.trim() == "1") {
            let times = self.programs.iter().filter_map(|(name, fd)| Some((name.clone(), time(fd)?)));
            return BpfStatus { stats_enabled: true, programs: times.collect() };
        }
        BpfStatus::default()
    }
}

fn time(fd: &OwnedFd) -> Option<ProgramTime> {
    let info = ProgramInfo::read(fd.as_raw_fd())?;
    Some(ProgramTime { runs: info.number("run_cnt:")?, ns: info.number("run_time_ns:")? })
}

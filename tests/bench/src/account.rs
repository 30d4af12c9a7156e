//! What a program costs, as the kernel accounts for it: CPU, wake-ups, memory, and the time of its BPF programs.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// `bpf(2)`: keep statistics of programs while the returned descriptor is open (Linux 5.8).
const BPF_ENABLE_STATS: libc::c_long = 32;
/// `BPF_STATS_RUN_TIME`, the only kind there is.
const BPF_STATS_RUN_TIME: u32 = 0;

const STILL: Duration = Duration::from_millis(200);
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// The kernel counts the time of BPF programs as long as this lives. That costs two clock readings a run: nothing
/// else is measured meanwhile. Ends with the bench, however that ends, which the sysctl would not.
pub(crate) struct BpfStatistics {
    _descriptor: OwnedFd,
}

/// Time and runs of a process's BPF programs since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BpfTime {
    pub(crate) run_time_ns: u64,
    pub(crate) runs: u64,
    /// Runs that the kernel skipped because the program was running already.
    pub(crate) skipped: u64,
    pub(crate) programs: usize,
}

/// Resident memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// Of that, mappings of BPF maps: the ring, mapped twice.
    pub(crate) maps: u64,
}

impl BpfStatistics {
    pub(crate) fn enable() -> Result<Self> {
        let attributes = BPF_STATS_RUN_TIME;
        // SAFETY: the attribute is four bytes long, as the size argument states.
        let descriptor =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const attributes, 4_usize) };
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error())
                .context("have the kernel count the time of BPF programs: run the bench as root");
        }
        let descriptor = libc::c_int::try_from(descriptor).context("a descriptor beyond int")?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self { _descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }
}

/// CPU time of all live threads of a process, user and system, ns: the first field of each thread's schedstat.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    sum(pid, "schedstat", |text| text.split(' ').next()?.parse().ok())
}

/// The same of the threads that have this name.
pub(crate) fn thread_cpu_ns(pid: u32, name: &str) -> Result<u64> {
    let mut total = None;
    for thread in threads(pid)? {
        if fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            let text = fs::read_to_string(thread.join("schedstat"))?;
            let ns: u64 = text.split(' ').next().and_then(|ns| ns.parse().ok()).context("a time")?;
            *total.get_or_insert(0) += ns;
        }
    }
    total.with_context(|| format!("process {pid} has no thread {name}"))
}

/// How often the live threads of a process went to sleep by themselves, and so were woken.
pub(crate) fn sleeps(pid: u32) -> Result<u64> {
    sum(pid, "status", |text| number(text, "voluntary_ctxt_switches:"))
}

/// Adds up what `read` finds in this file of each thread. A thread may end between being listed and being read.
fn sum(pid: u32, file: &str, read: impl Fn(&str) -> Option<u64>) -> Result<u64> {
    let mut total = 0;
    for thread in threads(pid)? {
        let path = thread.join(file);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
            {
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        total += read(&text).with_context(|| format!("{} reads {text:?}", path.display()))?;
    }
    Ok(total)
}

fn threads(pid: u32) -> Result<Vec<PathBuf>> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).with_context(|| format!("list {directory}: did it end?"))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    let directory = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&directory).with_context(|| format!("list {directory}: did it end?"))?;
    Ok(entries.count())
}

/// Waits until the process has done what there was to do: it has been still for [`STILL`], or [`SETTLE_MAX`] is over.
pub(crate) fn settle(pid: u32) -> Result<()> {
    let end = Instant::now() + SETTLE_MAX;
    let mut before = cpu_ns(pid)?;
    while Instant::now() < end {
        std::thread::sleep(STILL);
        let after = cpu_ns(pid)?;
        // A tenth of a percent of a CPU is a timer, not a backlog.
        if u128::from(after.saturating_sub(before)) * 1000 < STILL.as_nanos() {
            break;
        }
        before = after;
    }
    Ok(())
}

/// BPF time of the programs that a process holds open: each program once, through however many descriptors.
pub(crate) fn bpf_time(pid: u32) -> Result<BpfTime> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&directory).with_context(|| format!("list {directory}: did it end?"))?;
    let mut programs = BTreeMap::new();
    for entry in entries {
        // A descriptor may be closed by the time it is read.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        if let (Some(id), Some(run_time_ns)) = (number(&text, "prog_id:"), number(&text, "run_time_ns:")) {
            let runs = number(&text, "run_cnt:").unwrap_or(0);
            let skipped = number(&text, "recursion_misses:").unwrap_or(0);
            programs.insert(id, BpfTime { run_time_ns, runs, skipped, programs: 1 });
        }
    }
    Ok(programs.values().fold(BpfTime::default(), |sum, program| BpfTime {
        run_time_ns: sum.run_time_ns + program.run_time_ns,
        runs: sum.runs + program.runs,
        skipped: sum.skipped + program.skipped,
        programs: sum.programs + program.programs,
    }))
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps");
    let text = fs::read_to_string(Path::new(&path)).with_context(|| format!("read {path}"))?;
    let memory = decode_smaps(&text);
    if memory.resident == 0 {
        bail!("{path} shows no resident memory: did it end?");
    }
    Ok(memory)
}

fn decode_smaps(text: &str) -> Memory {
    let mut memory = Memory { resident: 0, maps: 0 };
    let mut of_map = false;
    for line in text.lines() {
        if let Some(kilobytes) = number(line, "Rss:") {
            memory.resident += kilobytes * 1024;
            memory.maps += if of_map { kilobytes * 1024 } else { 0 };
        } else if !line.split(' ').next().is_some_and(|word| word.ends_with(':')) {
            of_map = line.contains("bpf-map") || line.contains("bpf_map");
        }
    }
    memory
}

/// The number behind `name` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rings_mapping_is_told_from_the_rest() {
        let smaps = "55d0-55d1 r--p 00000000 fe:00 1 /usr/bin/observer\nSize: 4 kB\nRss:                 100 kB\n\
            Shared_Clean: 0 kB\nVmFlags: rd mr mw me\n\
            7f91-7f92 r--s 00001000 00:10 18                         anon_inode:bpf-map\nRss:      16384 kB\n\
            7f93-7f94 rw-p 00000000 00:00 0 \nRss:        28 kB\n";
        assert_eq!(decode_smaps(smaps), Memory { resident: 16512 * 1024, maps: 16384 * 1024 });
    }

    #[test]
    fn this_program_has_spent_cpu_and_slept() -> Result<()> {
        std::thread::sleep(std::time::Duration::from_millis(1));
        let pid = std::process::id();
        assert!(cpu_ns(pid)? > 0);
        assert!(sleeps(pid)? > 0);
        assert!(memory(pid)?.resident > 100_000);
        assert_eq!(bpf_time(pid)?.programs, 0);
        Ok(())
    }
}

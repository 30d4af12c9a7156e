//! Facts of the machine that decide whether observer can run.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::utsname::uname;

/// The oldest release with everything that observer uses: ring buffer and task iterator.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// From this release on, a load that faults through a BTF-typed pointer returns 0 in every program. Before, a program that calls
/// BPF functions has no exception table (kernel/bpf/verifier.c, "bpf: ensure main program has an extable", 6.4), and such a
/// load is an oops (seen on 5.10). Older verifiers do not decide null tests of such pointers either, and their states multiply
/// until they give up (seen on 5.10 and 6.1).
const KERNEL_TYPED_LOADS: (u32, u32) = (6, 5);
/// From this release on, programs at tracepoints can be preempted (include/linux/tracepoint.h, "Guard __DECLARE_TRACE() use of
/// __DO_TRACE_CALL() with SRCU-fast", 7.0), and the kernel skips them for every other task of that CPU meanwhile.
const KERNEL_PREEMPTED: (u32, u32) = (7, 0);
/// `PROC_PID_INIT_INO` (include/linux/proc_ns.h): inode number of the initial pid namespace, on every kernel.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// `PROC_TIME_INIT_INO` (include/linux/proc_ns.h): inode number of the initial time namespace, on every kernel that has them.
const INITIAL_TIME_NAMESPACE: u64 = 0xEFFF_FFFA;

/// glibc's default for both thresholds, bytes; setting them keeps glibc from raising them.
#[cfg(target_env = "gnu")]
const ALLOCATOR_THRESHOLD: libc::c_int = 128 << 10;

/// Returns the kernel's release as `uname -r` prints it, and its first two numbers.
pub fn kernel_release() -> Result<(String, (u32, u32))> {
    let release = uname().context("ask the kernel for its release")?.release().to_string_lossy().into_owned();
    let version = version(&release)?;
    Ok((release, version))
}

/// Returns the first two numbers of a release.
fn version(release: &str) -> Result<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!(
            "kernel release {release:?} does not begin with two numbers, so observer cannot tell whether it is {}.{} or \
             newer: boot a kernel whose `uname -r` says",
            KERNEL_MIN.0,
            KERNEL_MIN.1
        ),
    }
}

/// Whether programs may load through BTF-typed pointers.
pub fn typed_loads_are_safe() -> bool {
    kernel_release().is_ok_and(|(_, version)| version >= KERNEL_TYPED_LOADS)
}

/// Whether a program at a tracepoint can be preempted.
pub fn tracepoints_are_preempted() -> bool {
    kernel_release().is_ok_and(|(_, version)| version >= KERNEL_PREEMPTED)
}

/// Checks that the kernel is not older than observer supports.
pub fn check_kernel_release() -> Result<()> {
    let (release, version) = kernel_release()?;
    check_version(&release, version)
}

fn check_version(release: &str, version: (u32, u32)) -> Result<()> {
    ensure!(
        version >= KERNEL_MIN,
        "kernel {release} is too old: observer needs {}.{} or newer (ring buffer, task iterator); boot a newer kernel",
        KERNEL_MIN.0,
        KERNEL_MIN.1
    );
    Ok(())
}

/// Checks that the process is in the initial pid namespace. In another one the iterator shows only the processes of that
/// namespace (kernel/bpf/task_iter.c).
pub fn check_pid_namespace() -> Result<()> {
    let namespace =
        fs::metadata("/proc/self/ns/pid").context("look up the own pid namespace in /proc/self/ns/pid")?;
    ensure!(
        namespace.ino() == INITIAL_PID_NAMESPACE,
        "observer runs inside a pid namespace (a container), where it cannot see the host's processes: run it on the \
         host itself, or in a container with the host's pid namespace (`--pid=host`)"
    );
    Ok(())
}

/// Checks that the boot clock is the host's. In a time namespace with an offset it differs from the clock of the kernel's own
/// `start_boottime` and of the records (`timens_add_boottime`, include/linux/time_namespace.h).
pub fn check_time_namespace() -> Result<()> {
    // Kernels before 5.6, and kernels without CONFIG_TIME_NS, have no such namespaces and no such files.
    let Ok(namespace) = fs::metadata("/proc/self/ns/time") else { return Ok(()) };
    if namespace.ino() == INITIAL_TIME_NAMESPACE {
        return Ok(());
    }
    let offsets = fs::read_to_string("/proc/self/timens_offsets")
        .context("read the offsets of the own time namespace in /proc/self/timens_offsets")?;
    ensure!(
        !has_boottime_offset(&offsets),
        "observer runs inside a time namespace whose boot clock is not the host's, so no time of a process could be \
         compared with it: run it in the host's time namespace (`nsenter --target 1 --time observer …`)"
    );
    Ok(())
}

/// Whether the boot clock has an offset, by the lines of `timens_offsets`: name of the clock, seconds, nanoseconds.
fn has_boottime_offset(offsets: &str) -> bool {
    let mut lines = offsets.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.any(|line| line.first() == Some(&"boottime") && line.iter().skip(1).any(|&number| number != "0"))
}

/// Inode number of the daemon's mount namespace; 0 if it cannot be read.
pub fn own_mnt_ns() -> u32 {
    fs::metadata("/proc/self/ns/mnt").map_or(0, |namespace| namespace.ino() as u32)
}

/// Has freed memory returned to the kernel from then on. glibc raises its thresholds for this to the size that was freed last;
/// after the kernel's BTF and a few large answers that leaves tens of MiB resident. One arena is used, because
/// threads seldom allocate at the same time, and each arena keeps the most that it ever held.
pub fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets numbers of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, ALLOCATOR_THRESHOLD);
        libc::mallopt(libc::M_MMAP_THRESHOLD, ALLOCATOR_THRESHOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(release: &str) -> Option<String> {
        version(release)
            .and_then(|version| check_version(release, version))
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn kernels_below_the_floor_are_refused_with_their_release() {
        for release in ["4.19.0-27-amd64", "5.4.0", "5.7.19", "5.7", "3.10.0-1160.el7.x86_64", "0.0"] {
            let refusal = refusal(release).unwrap_or_default();
            assert!(refusal.contains(&format!("kernel {release} is too old")), "{refusal}");
            assert!(
                refusal.contains("5.8 or newer") && refusal.ends_with("boot a newer kernel"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn kernels_from_the_floor_on_are_not() {
        for release in
            ["5.8.0", "5.8-rc1", "5.10.0-46-cloud-amd64", "6.1.0", "6.18.44-fc-v669", "10.0", "7.2+"]
        {
            assert_eq!(refusal(release), None);
        }
    }

    #[test]
    fn only_an_offset_of_the_boot_clock_counts() {
        let offsets = |boottime| format!("monotonic          17         0\nboottime   {boottime}\n");
        assert!(!has_boottime_offset(&offsets("        0         0")));
        assert!(!has_boottime_offset(""));
        for boottime in ["     1000         0", "       -3         0", "        0         1"] {
            assert!(has_boottime_offset(&offsets(boottime)), "{boottime}");
        }
    }

    #[test]
    fn a_release_without_a_version_is_refused_by_its_name() {
        for release in ["6", "", "unknown", "-5.10", "five.ten", "99999999999.1", "6.99999999999", "6. 1"] {
            let refusal = refusal(release).unwrap_or_default();
            assert!(refusal.contains(&format!("kernel release {release:?} does not begin")), "{refusal}");
            assert!(refusal.ends_with("boot a kernel whose `uname -r` says"), "{refusal}");
        }
    }
}

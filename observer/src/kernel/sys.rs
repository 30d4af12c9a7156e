//! Facts of the machine that decide whether observer can run, read by system calls.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, bail, ensure};

/// Oldest kernel with all that is used: ring buffer and task iterator.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// Kernels from here on read a faulting load through a BTF-typed pointer as 0 in every program. Before, a program that
/// calls BPF functions has no exception table ("bpf: ensure main program has an extable" came with 6.4), and such a load
/// is an oops (seen on 5.10); and the verifier does not decide null tests of such pointers, so that states multiply
/// until it gives up (seen on 5.10 and 6.1).
const KERNEL_TYPED_LOADS: (u32, u32) = (6, 5);
/// Kernels from here on let programs at tracepoints be preempted ("Guard __DECLARE_TRACE() use of __DO_TRACE_CALL() with
/// SRCU-fast" came with 7.0), and skip them for every other task of that CPU meanwhile.
const KERNEL_PREEMPTED: (u32, u32) = (7, 0);
/// `PROC_PID_INIT_INO`: inode number of the initial pid namespace, on every kernel.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// glibc's own default, bytes; setting it keeps it there.
#[cfg(target_env = "gnu")]
const ALLOCATOR_THRESHOLD: libc::c_int = 128 << 10;

/// `uname -r`, and its first two numbers.
pub fn kernel_release() -> Result<(String, (u32, u32))> {
    // SAFETY: utsname is plain bytes, which uname fills.
    let name = unsafe {
        let mut name = std::mem::zeroed::<libc::utsname>();
        ensure!(libc::uname(&raw mut name) == 0, "ask the kernel for its release");
        name
    };
    // SAFETY: the kernel terminates each field within its array.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) }.to_string_lossy().into_owned();
    let version = version(&release)?;
    Ok((release, version))
}

/// The first two numbers of a release.
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

/// Refuses kernels below the floor.
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

/// Refuses to run inside a pid namespace: the iterator would show only that, and pids would be others.
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

/// Inode number of the own mount namespace; 0 if it cannot be told.
pub fn own_mnt_ns() -> u32 {
    fs::metadata("/proc/self/ns/mnt").map_or(0, |namespace| namespace.ino() as u32)
}

/// From here on freed memory goes back to the kernel. glibc raises its thresholds for that to what was freed last, which
/// after the kernel's BTF (some 90 MB for a moment) and a few large answers leaves tens of MiB resident.
/// One arena: threads seldom allocate at a time, and each arena keeps what its busiest moment took.
/// One arena: threads seldom allocate at a time, and each arena keeps what its busiest moment took.
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

    fn said(release: &str) -> Option<String> {
        version(release)
            .and_then(|version| check_version(release, version))
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn kernels_below_the_floor_are_refused_with_their_release() {
        for release in ["4.19.0-27-amd64", "5.4.0", "5.7.19", "5.7", "3.10.0-1160.el7.x86_64", "0.0"] {
            let said = said(release).unwrap_or_default();
            assert!(said.contains(&format!("kernel {release} is too old")), "{said}");
            assert!(said.contains("5.8 or newer") && said.ends_with("boot a newer kernel"), "{said}");
        }
    }

    #[test]
    fn kernels_from_the_floor_on_are_not() {
        for release in
            ["5.8.0", "5.8-rc1", "5.10.0-46-cloud-amd64", "6.1.0", "6.18.44-fc-v669", "10.0", "7.2+"]
        {
            assert_eq!(said(release), None);
        }
    }

    #[test]
    fn a_release_that_tells_no_version_is_refused_with_what_it_says() {
        for release in ["6", "", "unknown", "-5.10", "five.ten", "99999999999.1", "6.99999999999", "6. 1"] {
            let said = said(release).unwrap_or_default();
            assert!(said.contains(&format!("kernel release {release:?} does not begin")), "{said}");
            assert!(said.ends_with("boot a kernel whose `uname -r` says"), "{said}");
        }
    }
}

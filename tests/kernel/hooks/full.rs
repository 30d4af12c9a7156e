//! Tests a tracepoint all of whose places other programs have taken.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Command;

use observer_harness::{Daemon, Fixture, Options};
use serde_json::Value;

use crate::choice::forced;
use crate::scene::{alone, blind_spots, sources};

/// `BPF_TRACE_MAX_PROGS`, kernel/trace/bpf_trace.c.
const PLACES: usize = 64;
const CALL: &str = "sys_exit_chdir";
// Of bpf(2) and perf_event_open(2).
const PROG_LOAD: libc::c_long = 5;
const PROG_TYPE_TRACEPOINT: u32 = 5;
const TYPE_TRACEPOINT: u64 = 2;
const ATTR_SIZE: u64 = 64;
const FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Loads a program that does nothing.
fn load() -> io::Result<OwnedFd> {
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    // bpf_attr: prog_type and insn_cnt, insns, license; the rest is zero.
    let attributes: [u64; 6] = [
        u64::from(PROG_TYPE_TRACEPOINT) | 2 << 32,
        instructions.as_ptr() as u64,
        license.as_ptr() as u64,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel reads `size` bytes, and what they point to, during the call.
    owned(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// Reads the number of the tracepoint. tracefs need not be mounted.
fn tracepoint() -> u64 {
    let script = format!(
        "d=/sys/kernel/tracing; [ -d $d/events ] || mount -t tracefs none $d; cat $d/events/syscalls/{CALL}/id"
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("start unshare");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("no number of {CALL}: {output:?}"))
}

/// Attaches a program to the tracepoint.
fn attach(program: &OwnedFd, tracepoint: u64) -> io::Result<OwnedFd> {
    let attributes: [u64; 8] = [TYPE_TRACEPOINT | ATTR_SIZE << 32, tracepoint, 0, 0, 0, 0, 0, 0];
    // SAFETY: the kernel reads as many bytes as they say.
    let event = owned(unsafe {
        libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, FLAG_FD_CLOEXEC)
    })?;
    // SAFETY: the argument is a number.
    match unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_BPF, program.as_raw_fd()) } {
        0 => Ok(event),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn a_tracepoint_without_a_free_place_is_a_blind_spot() {
    let _alone = alone();
    let before = match forced("tracepoints") {
        Ok(status) => status,
        // The daemon may run as an unprivileged user.
        Err(refusal) => return assert!(refusal.contains("CAP_SYS_ADMIN"), "{refusal}"),
    };
    let tracepoint = tracepoint();
    // Before 5.11 programs count against this limit.
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: one valid limit. Where it cannot be raised, loading says so.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
    let mut taken = Vec::new();
    let refusal = loop {
        // Each has a place of its own only if the programs differ.
        match attach(&load().expect("load a program"), tracepoint) {
            Ok(event) => taken.push(event),
            Err(error) => break error,
        }
        assert!(taken.len() <= PLACES, "{} places are taken, and there is another", taken.len());
    };
    assert_eq!(refusal.raw_os_error(), Some(libc::E2BIG), "{refusal} after {} places", taken.len());
    let refused = forced("tracepoints").expect_err("it is not all that was asked for");
    assert!(refused.contains(CALL) && refused.contains("all 64 places"), "{refused}");

    // It starts all the same, and what it does not see is read again when asked.
    let daemon = Daemon::start(&Options { hooks: Some("auto"), ..Options::default() });
    let fixture = Fixture::new();
    let (dir, mut puppet) = (fixture.mkdir("unseen"), fixture.puppet());
    puppet.chdir(&dir);
    let process = daemon.row(puppet.pid).expect("a row");
    assert_eq!(process.get("cwd").and_then(Value::as_str), dir.to_str(), "{process:#}");
    let status = daemon.status();
    if !sources(&status, "cwd").iter().any(|source| source.starts_with("fexit/")) {
        let unseen = blind_spots(&status, "cwd");
        assert!(unseen.iter().any(|what| what.contains("all 64 places")), "{unseen:?}");
        assert_ne!(unseen, blind_spots(&before, "cwd"));
    }
}

//! Commands of bpf(2) and perf_event_open(2) whose descriptors the daemon owns itself, not aya.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
// Of `enum bpf_attach_type`, include/uapi/linux/bpf.h.
const BPF_TRACE_ITER: u32 = 28;
const BPF_PERF_EVENT: u32 = 41;
// Of perf events, include/uapi/linux/perf_event.h.
const PERF_TYPE_TRACEPOINT: u64 = 2;
/// The first size of `struct perf_event_attr`, bytes.
const PERF_ATTR_SIZE_VER0: u64 = 64;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// Attaches a program to the tracepoint or function that it was loaded for. Closing the returned link detaches it.
pub fn link_tracing(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // bpf_attr.raw_tracepoint: name (64 bits; none: the program has it), prog_fd.
    command(BPF_RAW_TRACEPOINT_OPEN, &[0, 0, program.as_raw_fd() as u32, 0, 0, 0, 0, 0])
}

/// A program at a tracepoint of tracefs.
pub struct TracepointAttachment {
    /// The event of the tracepoint. The kernel takes its time to close it.
    pub event: OwnedFd,
    /// Closing it detaches the program at once. Before 5.15 there is none, and closing the event detaches the program.
    pub link: Option<OwnedFd>,
}

/// Attaches a program to the tracepoint with this number in tracefs, on all processors.
pub fn attach_tracepoint(program: BorrowedFd<'_>, tracepoint: u64) -> io::Result<TracepointAttachment> {
    // perf_event_attr: type and size, config; nothing is sampled.
    let attributes: [u64; 8] =
        [PERF_TYPE_TRACEPOINT | PERF_ATTR_SIZE_VER0 << 32, tracepoint, 0, 0, 0, 0, 0, 0];
    let (any_process, cpu, no_group) = (-1, 0, -1);
    // SAFETY: the kernel reads as many bytes of attributes as they say, and they outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            any_process,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let event = owned(fd)?;
    let link = match link_event(program, event.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            control(event.as_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd())?;
            None
        }
        link => Some(link?),
    };
    control(event.as_fd(), PERF_EVENT_IOC_ENABLE, 0)?;
    Ok(TracepointAttachment { event, link })
}

/// Links a program to an event. Kernels before 5.15 do not know such links, and answer EINVAL.
fn link_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // bpf_attr.link_create: prog_fd, target_fd, attach_type, flags, and no cookie.
    let (program, event) = (program.as_raw_fd() as u32, event.as_raw_fd() as u32);
    command(BPF_LINK_CREATE, &[program, event, BPF_PERF_EVENT, 0, 0, 0, 0, 0])
}

fn control(event: BorrowedFd<'_>, request: libc::c_ulong, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the argument is a number, and the event is open.
    match unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Links the program of an iterator.
pub fn link_iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // bpf_attr.link_create: prog_fd, target_fd, attach_type, flags, and the iterator's empty parameters.
    command(BPF_LINK_CREATE, &[program.as_raw_fd() as u32, 0, BPF_TRACE_ITER, 0, 0, 0, 0, 0])
}

/// Opens a linked iterator for one pass.
pub fn open_iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // bpf_attr.iter_create: link_fd, flags.
    command(BPF_ITER_CREATE, &[link.as_raw_fd() as u32, 0, 0, 0, 0, 0, 0, 0])
}

fn command(command: libc::c_long, attributes: &[u32; 8]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size` bytes of attributes, which outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    owned(fd)
}

/// The descriptor that a system call returned.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

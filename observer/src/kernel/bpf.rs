//! Commands of bpf(2) whose descriptors the daemon owns itself, not aya.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

/// Attaches a program to the tracepoint or function that it was loaded for. Closing the returned link detaches it.
pub fn link_tracing(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // bpf_attr.raw_tracepoint: name (64 bits; none: the program has it), prog_fd.
    command(BPF_RAW_TRACEPOINT_OPEN, &[0, 0, program.as_raw_fd() as u32, 0, 0, 0, 0, 0])
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
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

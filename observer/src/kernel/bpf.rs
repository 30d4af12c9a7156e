//! Commands of bpf(2) that give a descriptor which this daemon keeps itself.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;

/// Attaches a program to the tracepoint or function that it was loaded for; closing the link detaches it.
pub fn link_tracing(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // bpf_attr.raw_tracepoint: name (64 bits; none: the program has it), prog_fd.
    command(BPF_RAW_TRACEPOINT_OPEN, &[0, 0, program.as_raw_fd() as u32, 0, 0, 0, 0, 0])
}

/// Links an iterator's program.
pub fn link_iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // bpf_attr.link_create: prog_fd, target_fd, attach_type, flags, and the iterator's empty parameters.
    command(BPF_LINK_CREATE, &[program.as_raw_fd() as u32, 0, BPF_TRACE_ITER, 0, 0, 0, 0, 0])
}

/// Opens a pass of a linked iterator.
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
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

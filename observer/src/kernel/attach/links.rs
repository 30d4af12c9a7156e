//! Links of attached programs, and how they are closed at the end.
//!
//! From 6.3 on, the kernel waits at the detaching of a function until no task is within it (`bpf_tramp_image_put`,
//! kernel/bpf/trampoline.c): some 0.2 s for each function, one after the other, in the exit of the process that holds the
//! links, whether it was asked to stop or killed. At the tracepoint of a system call it waits some 0.07 s. Files that are
//! registered with an io_uring are closed by a kernel worker after the process is gone, so nothing waits for them.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use io_uring::IoUring;

use super::tracefs;
use crate::kernel::bpf;

/// Links that can still be detached, each with the name of its program.
#[derive(Debug, Default)]
pub struct Links(Vec<(&'static str, OwnedFd)>);

impl Links {
    /// Attaches a loaded program.
    pub fn attach(&mut self, name: &'static str, program: BorrowedFd<'_>) -> io::Result<()> {
        self.0.push((name, bpf::link_tracing(program)?));
        Ok(())
    }

    /// Attaches a loaded program to the tracepoint of this category and name in tracefs.
    pub fn attach_traced(
        &mut self,
        name: &'static str,
        program: BorrowedFd<'_>,
        category: &str,
        tracepoint: &str,
    ) -> io::Result<()> {
        let id = tracefs::id(category, tracepoint)?;
        self.0.push((name, bpf::attach_tracepoint(program, id)?));
        Ok(())
    }

    /// Detaches the program of this name.
    pub fn detach(&mut self, name: &str) {
        self.0.retain(|(other, _)| *other != name);
    }

    /// Keeps the programs attached until the returned value is dropped or the process ends.
    pub fn keep(self) -> HeldLinks {
        let links: Vec<_> = self.0.into_iter().map(|(_, link)| link).collect();
        match register(&links) {
            Ok(ring) => HeldLinks { _ring: Some(ring), _links: Vec::new() },
            // Without io_uring (an old kernel, a container, a sandbox) the programs stay attached, but detaching is slower.
            Err(_) => HeldLinks { _ring: None, _links: links },
        }
    }
}

fn register(links: &[OwnedFd]) -> io::Result<IoUring> {
    let ring = IoUring::builder().dontfork().build(1)?;
    let fds: Vec<_> = links.iter().map(|link| link.as_raw_fd()).collect();
    ring.submitter().register_files(&fds)?;
    Ok(ring)
}

/// Links that stay attached for the life of the daemon.
pub struct HeldLinks {
    /// Holds the links as registered files; it is never used for input or output.
    _ring: Option<IoUring>,
    /// The links, if they could not be registered.
    _links: Vec<OwnedFd>,
}

//! Links of attached programs, and who lets go of them.
//!
//! To detach from a function, newer kernels wait until no task can be within it any more: some 0.2 s a function, one after
//! the other, in the exit of the process that holds the links, whether it was asked to stop or killed. Nobody needs to wait
//! for that. Files that are registered with an io_uring are let go by a kernel worker after the process is gone.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use io_uring::IoUring;

use crate::kernel::bpf;

/// Links that may still be taken back, each with its program's name.
#[derive(Debug, Default)]
pub struct Links(Vec<(&'static str, OwnedFd)>);

impl Links {
    /// Attaches a loaded program.
    pub fn attach(&mut self, name: &'static str, program: BorrowedFd<'_>) -> io::Result<()> {
        self.0.push((name, bpf::link_tracing(program)?));
        Ok(())
    }

    /// Detaches it.
    pub fn detach(&mut self, name: &str) {
        self.0.retain(|(other, _)| *other != name);
    }

    /// Attached until the holder is dropped or its process ends.
    pub fn keep(self) -> Kept {
        let links: Vec<_> = self.0.into_iter().map(|(_, link)| link).collect();
        match register(&links) {
            Ok(ring) => Kept { _ring: Some(ring), _links: Vec::new() },
            // A kernel, container or sandbox without io_uring: as attached as ever, only slower to let go.
            Err(_) => Kept { _ring: None, _links: links },
        }
    }
}

fn register(links: &[OwnedFd]) -> io::Result<IoUring> {
    let ring = IoUring::builder().dontfork().build(1)?;
    let fds: Vec<_> = links.iter().map(|link| link.as_raw_fd()).collect();
    ring.submitter().register_files(&fds)?;
    Ok(ring)
}

/// Links for the daemon's life.
pub struct Kept {
    /// Holds them; never used for reading or writing.
    _ring: Option<IoUring>,
    /// Those that no ring holds.
    _links: Vec<OwnedFd>,
}

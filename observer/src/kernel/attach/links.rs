//! Links of attached programs, and how they are closed at the end.
//!
//! From 6.3 on, the kernel waits at the detaching of a function until no task is within it (`bpf_tramp_image_put`,
//! kernel/bpf/trampoline.c): some 0.2 s for each function, one after the other, in the exit of the process that holds the
//! links, whether it was asked to stop or killed. At the event of a system call's tracepoint it waits some 0.05 s. Files that
//! are registered with an io_uring are closed by a kernel worker after the process is gone, so nothing waits for them.
//!
//! That worker closes the files of all processes one after the other, and while daemons are started again and again it falls
//! behind. A tracepoint takes 64 programs (`BPF_TRACE_MAX_PROGS`, kernel/trace/bpf_trace.c), so those of daemons that
//! ended would take the places of the next ones. The links of programs with events are therefore closed by the process
//! itself, all at the same time, since they wait for the same thing (`perf_event_detach_bpf_prog`).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread;

use io_uring::IoUring;

use super::tracefs;
use crate::kernel::bpf::{self, TracepointAttachment};

/// Links that can still be detached.
#[derive(Debug, Default)]
pub struct Links(Vec<Link>);

#[derive(Debug)]
struct Link {
    /// Name of the program.
    name: &'static str,
    fd: OwnedFd,
    /// Whether it links a program to an event.
    is_of_event: bool,
}

impl Links {
    /// Attaches a loaded program.
    pub fn attach(&mut self, name: &'static str, program: BorrowedFd<'_>) -> io::Result<()> {
        self.add(name, bpf::link_tracing(program)?, false);
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
        let TracepointAttachment { event, link } = bpf::attach_tracepoint(program, id)?;
        // The link first: it has the program detached before the event is closed.
        if let Some(link) = link {
            self.add(name, link, true);
        }
        self.add(name, event, false);
        Ok(())
    }

    fn add(&mut self, name: &'static str, fd: OwnedFd, is_of_event: bool) {
        self.0.push(Link { name, fd, is_of_event });
    }

    /// Detaches the program of this name.
    pub fn detach(&mut self, name: &str) {
        self.0.retain(|link| link.name != name);
    }

    /// Keeps the programs attached until the returned value is dropped or the process ends.
    pub fn keep(self) -> HeldLinks {
        let fds = |links: Vec<Link>| links.into_iter().map(|link| link.fd).collect::<Vec<_>>();
        let (of_events, others): (Vec<_>, Vec<_>) = self.0.into_iter().partition(|link| link.is_of_event);
        let (of_events, others) = (fds(of_events), fds(others));
        // Without io_uring (an old kernel, a container, a sandbox) the programs stay attached, but detaching is slower.
        let (ring, others) = match register(&others) {
            Ok(ring) => (Some(ring), Vec::new()),
            Err(_) => (None, others),
        };
        HeldLinks { of_events, _ring: ring, _others: others }
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
    /// Links of programs with events.
    of_events: Vec<OwnedFd>,
    /// Holds the other links and the events as registered files; it is never used for input or output.
    _ring: Option<IoUring>,
    /// Those that could not be registered.
    _others: Vec<OwnedFd>,
}

impl Drop for HeldLinks {
    fn drop(&mut self) {
        thread::scope(|scope| {
            for link in self.of_events.drain(..) {
                // Where no thread can be started, the link is closed here.
                let _ = thread::Builder::new().spawn_scoped(scope, move || drop(link));
            }
        });
    }
}

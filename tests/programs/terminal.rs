//! A terminal of the test that shows nothing to anybody: what is written to it is read and dropped.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use observer_harness::Pty;

/// How long the reader waits for output before it looks whether it has to hang up, ms.
const LOOK_MS: i32 = 20;

/// A terminal with a reader; dropping it hangs up.
pub(crate) struct Terminal {
    pub(crate) path: PathBuf,
    /// `pts/N`.
    pub(crate) tty: String,
    closing: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let pty = Pty::open();
        let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: a pty's master and a valid winsize.
        let sized = unsafe { libc::ioctl(pty.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(sized, 0, "set the terminal's size");
        let closing = Arc::new(AtomicBool::new(false));
        let (path, tty, stop) = (pty.path.clone(), pty.tty(), Arc::clone(&closing));
        let reader = std::thread::spawn(move || drain(File::from(pty.master), &stop));
        Self { path, tty, closing, reader: Some(reader) }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// Reads until it has to stop. While nobody has the terminal open, reading fails.
fn drain(mut master: File, closing: &AtomicBool) {
    let mut buffer = [0u8; 4096];
    while !closing.load(Ordering::Relaxed) {
        let mut poll = libc::pollfd { fd: master.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, LOOK_MS) };
        if ready == 1 && master.read(&mut buffer).is_err() {
            std::thread::park_timeout(std::time::Duration::from_millis(LOOK_MS.unsigned_abs().into()));
        }
    }
}

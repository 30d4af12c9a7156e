//! A terminal of the test. What is written to it is read, so that no program waits for that.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use observer_harness::Pty;

/// How long the reader waits for output before it looks whether it has to hang up, ms.
const LOOK_MS: i32 = 20;
/// Output that is kept for the message of a failure, bytes.
const KEPT_BYTES: usize = 4096;

/// A terminal with a reader; dropping it hangs up.
pub(crate) struct Terminal {
    pub(crate) path: PathBuf,
    /// `pts/N`.
    pub(crate) tty: String,
    closing: Arc<AtomicBool>,
    output: Arc<Mutex<Vec<u8>>>,
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
        let output = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&output);
        let reader = std::thread::spawn(move || read(File::from(pty.master), &stop, &kept));
        Self { path, tty, closing, output, reader: Some(reader) }
    }

    /// The end of what was written to it.
    pub(crate) fn output(&self) -> String {
        let output = self.output.lock().expect("the reader did not panic");
        String::from_utf8_lossy(&output).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// Reads until it has to stop. While nobody has the terminal open, reading fails.
fn read(mut master: File, closing: &AtomicBool, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0u8; KEPT_BYTES];
    while !closing.load(Ordering::Relaxed) {
        let mut poll = libc::pollfd { fd: master.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        if unsafe { libc::poll(&raw mut poll, 1, LOOK_MS) } != 1 {
            continue;
        }
        match master.read(&mut buffer) {
            Ok(count) => keep(&mut kept.lock().expect("nobody panicked"), buffer.get(..count)),
            Err(_) => std::thread::park_timeout(Duration::from_millis(LOOK_MS.unsigned_abs().into())),
        }
    }
}

fn keep(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    output.extend_from_slice(bytes.unwrap_or_default());
    let surplus = output.len().saturating_sub(KEPT_BYTES);
    output.drain(..surplus);
}

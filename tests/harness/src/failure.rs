//! What a failing test prints: the one command that reproduces it, and the end of the shared daemon's log.

use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

/// Lines of the daemon's log shown with a failure.
const LOG_LINES: usize = 40;

/// The log of the daemon that the tests of this binary share, once it runs.
static SHARED_LOG: OnceLock<PathBuf> = OnceLock::new();

/// Has the end of this log printed with every failure: that of the daemon that the tests share.
pub fn show_log(log: PathBuf) {
    // There is one such daemon.
    let _ = SHARED_LOG.set(log);
}

/// Fails the test where it does not run as root; prepares what is printed on failure.
pub fn require_root() {
    install();
    assert!(is_root(), "this test needs root: run it with `sudo -E cargo xtask test`");
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Makes every failure of this test binary end with the command that reproduces it.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            let thread = std::thread::current();
            let (test, target) = (thread.name().unwrap_or("main"), target());
            let feature =
                if matches!(&*target, "postgres" | "programs" | "service") { &*target } else { "kernel" };
            eprintln!(
                "reproduce: cargo test -p observer-tests --features {feature} --test {target} -- \
                 --include-ignored --exact {test}"
            );
            if let Some(log) = SHARED_LOG.get() {
                eprintln!("the end of the shared daemon's log:\n{}", last_lines(log));
            }
        }));
    });
}

/// The last lines of a log file, or why there are none.
pub fn last_lines(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let skip = text.lines().count().saturating_sub(LOG_LINES);
            text.lines().skip(skip).map(|line| format!("  | {line}\n")).collect()
        }
        Err(error) => format!("  ({}: {error})\n", log.display()),
    }
}

/// Name of the test target: the binary's name without cargo's hash.
fn target() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    stem.rsplit_once('-').map_or(stem.clone(), |(name, _)| name.to_owned())
}

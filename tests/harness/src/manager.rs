//! The service manager's side of sd_notify(3): a socket that receives what a service reports.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A service manager to which a daemon reports.
pub struct ServiceManager {
    dir: TempDir,
    socket: UnixDatagram,
}

impl ServiceManager {
    /// Makes the socket.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the socket");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        for path in [dir.path().to_owned(), dir.path().join("notify")] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("open it to all");
        }
        Self { dir, socket }
    }

    /// What a service is started with: it has to report within `watchdog`, again and again.
    pub fn environment(&self, watchdog: Option<Duration>) -> Vec<(OsString, OsString)> {
        let mut environment = vec![("NOTIFY_SOCKET".into(), self.dir.path().join("notify").into())];
        if let Some(watchdog) = watchdog {
            environment.push(("WATCHDOG_USEC".into(), watchdog.as_micros().to_string().into()));
        }
        environment
    }

    /// The next message, as its lines; `None` if none comes within `limit`.
    pub fn next(&self, limit: Duration) -> Option<String> {
        let mut bytes = [0; 4096];
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).expect("set the limit");
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(bytes.get(..length)?).into_owned())
    }

    /// Waits for a message with this beginning of a line; returns the whole message.
    #[track_caller]
    pub fn wait_for(&self, line: &str, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut others = Vec::new();
        while let Some(message) = self.next(end.saturating_duration_since(Instant::now())) {
            if message.lines().any(|it| it.starts_with(line)) {
                return message;
            }
            others.push(message);
            assert!(Instant::now() < end, "not within {limit:?}: {line}; it reported {others:?}");
        }
        panic!("not within {limit:?}: {line}; it reported {others:?}")
    }

    /// Everything that is reported within this time, and what was not received yet.
    pub fn listen(&self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        std::iter::from_fn(|| self.next(end.checked_duration_since(Instant::now())?)).collect()
    }
}

impl Default for ServiceManager {
    fn default() -> Self {
        Self::new()
    }
}

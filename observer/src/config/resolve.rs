//! Resolves the directories of rules, whose file systems may be dead.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::text::bytes::quoted;

/// How long a file system may take to resolve a path of a rule.
pub const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// The result of `work`; `None` if that takes longer than `limit`. Its thread then goes on until the file system or the
/// database answers.
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        // Nobody may wait for it any more.
        let _ = sender.send(work());
    });
    done.recv_timeout(limit).ok()
}

/// The path with the symlinks of its existing part resolved, because the kernel reports paths without symlinks.
pub fn canonicalize(path: &Path) -> Result<String, String> {
    let mut missing = PathBuf::new();
    let mut existing = path;
    let found = loop {
        match std::fs::canonicalize(existing) {
            Ok(found) => break found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(format!(
                    "{} cannot be resolved: {error}; write a path that the daemon may search",
                    existing.display()
                ));
            }
        }
        let (Some(parent), Some(leaf)) = (existing.parent(), existing.file_name()) else {
            break PathBuf::from("/");
        };
        missing = if missing.as_os_str().is_empty() { leaf.into() } else { Path::new(leaf).join(&missing) };
        existing = parent;
    };
    let whole = if missing.as_os_str().is_empty() { found } else { found.join(missing) };
    whole.into_os_string().into_string().map_err(|path| {
        format!(
            "{} leads to a path that is not UTF-8 ({}): use a wildcard for that part",
            existing.display(),
            quoted(&path.to_string_lossy())
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_does_not_answer_is_not_waited_for() {
        let (answer, hang) = mpsc::channel::<()>();
        assert!(within(Duration::from_millis(10), move || hang.recv()).is_none());
        drop(answer);
        let found = within(Duration::from_secs(20), || canonicalize(Path::new("/")));
        assert_eq!(found, Some(Ok("/".to_owned())));
    }
}

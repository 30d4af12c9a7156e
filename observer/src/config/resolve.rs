//! Resolves the directories of rules, whose file systems may be dead.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a file system may take to resolve a path of a rule.
pub const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// What `resolve` makes of `path`; `None` if that takes longer than `limit`. Its thread then goes on until the file system
/// answers.
pub fn within<T: Send + 'static>(
    limit: Duration,
    path: &Path,
    resolve: impl FnOnce(&Path) -> T + Send + 'static,
) -> Option<T> {
    let (sender, resolved) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || {
        // Nobody may wait for it any more.
        let _ = sender.send(resolve(&path));
    });
    resolved.recv_timeout(limit).ok()
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
            "{} leads to a path that is not UTF-8 ({path:?}): use a wildcard for that part",
            existing.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_does_not_answer_is_not_waited_for() {
        let (answer, hang) = mpsc::channel::<()>();
        let resolve = move |_: &Path| hang.recv();
        assert!(within(Duration::from_millis(10), Path::new("/dead"), resolve).is_none());
        drop(answer);
        let found = within(Duration::from_secs(20), Path::new("/"), canonicalize);
        assert_eq!(found, Some(Ok("/".to_owned())));
    }
}

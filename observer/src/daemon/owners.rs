//! Looks up the owners of homes, on threads of their own, because a directory's file system can delay that.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use observer_core::session::Home;
use tokio::sync::mpsc;

/// Look-ups that run at a time. Beyond that an owner counts as unknown, and no process is admitted by it.
const LOOKUPS_MAX: usize = 256;

/// The owner of a home.
pub struct OwnerFound {
    /// The home.
    pub home: Home,
    /// User id of the owner of its directory; `None` if it could not be read.
    pub owner: Option<u32>,
}

/// The look-ups that run.
pub struct OwnerLookups {
    results: mpsc::Sender<OwnerFound>,
    under_way: usize,
    refused: u64,
}

impl OwnerLookups {
    /// No look-up runs. Results come on the channel.
    pub fn new() -> (Self, mpsc::Receiver<OwnerFound>) {
        let (results, found) = mpsc::channel(LOOKUPS_MAX);
        (Self { results, under_way: 0, refused: 0 }, found)
    }

    /// Looks up the owner of `home`. The result comes on the channel, unless no look-up is made: then it is returned.
    pub fn ask(&mut self, home: Home) -> Option<OwnerFound> {
        let is_readable = is_readable(&home);
        if !is_readable || self.under_way >= LOOKUPS_MAX {
            self.refused += u64::from(is_readable);
            return Some(OwnerFound { home, owner: None });
        }
        self.under_way += 1;
        let results = self.results.clone();
        tokio::task::spawn_blocking(move || {
            let _ = results.blocking_send(read_owner(home));
        });
        None
    }

    /// To be called for each result that was taken from the channel.
    pub fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Returns whether no look-up runs.
    pub fn is_done(&self) -> bool {
        self.under_way == 0
    }

    /// How many look-ups run.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Look-ups that were not made because too many ran.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Reads who owns the directory of `home`. Its file system may never answer.
pub fn read_owner(home: Home) -> OwnerFound {
    let metadata = || std::fs::metadata(Path::new(OsStr::from_bytes(&home.path))).ok();
    let owner = if is_readable(&home) { metadata().map(|metadata| metadata.uid()) } else { None };
    OwnerFound { home, owner }
}

/// Whether the directory of `home` may be looked at: a path of another mount namespace names another directory here, and
/// the files of processes in /proc are not opened.
fn is_readable(home: &Home) -> bool {
    home.mnt_ns.is_none() && !is_of_proc(&home.path)
}

/// Whether the path is in the usual place of the proc file system, where it may belong to a process.
fn is_of_proc(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').nth(1) == Some(b"proc")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn home(path: &[u8], mnt_ns: Option<u32>) -> Home {
        Home { mnt_ns, path: Arc::from(path), uid: 7, instance: 1 }
    }

    #[tokio::test]
    async fn the_owner_is_read_from_the_file_system_unless_the_path_is_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().as_os_str().as_bytes();
        let own = std::fs::metadata(dir.path()).unwrap().uid();
        let (mut owners, mut found) = OwnerLookups::new();
        let cases = [
            (path, None, Some(own)),
            (path, Some(7), None),
            (b"/proc/1", None, None),
            (b"/no/where", None, None),
        ];
        for (path, mnt_ns, uid) in cases {
            let answer = match owners.ask(home(path, mnt_ns)) {
                Some(refused) => refused,
                None => {
                    let answer = found.recv().await.unwrap();
                    owners.done();
                    answer
                }
            };
            assert_eq!((&*answer.home.path, answer.owner), (path, uid));
        }
    }

    #[tokio::test]
    async fn a_look_up_beyond_the_bound_has_a_result_too() {
        let (mut owners, mut found) = OwnerLookups::new();
        let asked = 4 * LOOKUPS_MAX;
        let refused = (0..asked).filter_map(|_| owners.ask(home(b"/", None))).count();
        assert_eq!((refused, owners.refused()), (3 * LOOKUPS_MAX, 3 * LOOKUPS_MAX as u64));
        for _ in refused..asked {
            assert_eq!(&*found.recv().await.unwrap().home.path, b"/");
        }
    }
}

//! Looks up who owns a home, on threads of its own: a directory's file system can make that wait.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use observer_core::process::Bytes;
use observer_core::session::Home;
use tokio::sync::mpsc;

/// Look-ups under way at a time; beyond, the owner counts as unknown, which admits nobody.
const LOOKUPS_MAX: usize = 256;

/// The owner of a home.
pub struct OwnerFound {
    /// The home's path.
    pub path: Bytes,
    /// Its owner; `None` if that could not be read.
    pub uid: Option<u32>,
}

/// Look-ups under way.
pub struct Owners {
    results: mpsc::Sender<OwnerFound>,
    under_way: usize,
    refused: u64,
}

impl Owners {
    /// None under way; results come on the channel.
    pub fn new() -> (Self, mpsc::Receiver<OwnerFound>) {
        let (results, found) = mpsc::channel(LOOKUPS_MAX);
        (Self { results, under_way: 0, refused: 0 }, found)
    }

    /// Wants the owner of `home`. The answer comes on the channel, but for one that is not looked up: that is given back.
    pub fn ask(&mut self, home: Home) -> Option<OwnerFound> {
        // A path in another mount namespace means another directory here, and what processes publish of
        // themselves is not opened.
        let elsewhere = home.mnt_ns.is_some() || is_of_proc(&home.path);
        if elsewhere || self.under_way >= LOOKUPS_MAX {
            self.refused += u64::from(!elsewhere);
            return Some(OwnerFound { path: home.path, uid: None });
        }
        self.under_way += 1;
        let results = self.results.clone();
        tokio::task::spawn_blocking(move || {
            let uid = std::fs::metadata(Path::new(OsStr::from_bytes(&home.path))).ok().map(|meta| meta.uid());
            let _ = results.blocking_send(OwnerFound { path: home.path, uid });
        });
        None
    }

    /// One result was taken from the channel.
    pub fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Look-ups not made because too many were under way.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// The proc file system's usual place; a name below it may be a process's.
fn is_of_proc(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').nth(1) == Some(b"proc")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn home(path: &[u8], mnt_ns: Option<u32>) -> Home {
        Home { mnt_ns, path: Arc::from(path) }
    }

    #[tokio::test]
    async fn owners_are_the_file_systems_and_unknown_where_it_must_not_be_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().as_os_str().as_bytes();
        let own = std::fs::metadata(dir.path()).unwrap().uid();
        let (mut owners, mut found) = Owners::new();
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
            assert_eq!((&*answer.path, answer.uid), (path, uid));
        }
    }

    #[tokio::test]
    async fn every_look_up_is_answered_also_beyond_the_bound() {
        let (mut owners, mut found) = Owners::new();
        let asked = 4 * LOOKUPS_MAX;
        let refused = (0..asked).filter_map(|_| owners.ask(home(b"/", None))).count();
        assert_eq!((refused, owners.refused()), (3 * LOOKUPS_MAX, 3 * LOOKUPS_MAX as u64));
        for _ in refused..asked {
            assert_eq!(&*found.recv().await.unwrap().path, b"/");
        }
    }
}

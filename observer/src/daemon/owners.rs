//! Looks up the owners of homes, on threads of their own, because a directory's file system can delay that.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use observer_core::session::Home;
use tokio::sync::mpsc;

/// Look-ups that run at a time. Beyond that an owner counts as unknown, and no process is admitted by it.
const LOOKUPS_MAX: usize = 256;
/// Bits of a directory's mode by which everybody may enter it, or others than its owner may change what is in it.
const OPEN_TO_OTHERS: u32 = 0o023;

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
    if !is_readable(&home) {
        return OwnerFound { home, owner: None };
    }
    let path = Path::new(OsStr::from_bytes(&home.path));
    let owner = match std::fs::metadata(path) {
        Ok(metadata) => Some(metadata.uid()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => owner_of_closed(path, home.uid),
        Err(_) => None,
    };
    OwnerFound { home, owner }
}

/// Returns `uid` if it owns the directory above `path` that is closed to this process, where only its owner and a group may enter
/// and only its owner may make and rename what is in it: what stands below it is there by leave of that user. An access control
/// list that lets others in shows as bits of the group.
fn owner_of_closed(path: &Path, uid: u32) -> Option<u32> {
    let closed = path.ancestors().skip(1).find_map(|above| std::fs::metadata(above).ok())?;
    (closed.uid() == uid && closed.mode() & OPEN_TO_OTHERS == 0).then_some(uid)
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
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use nix::unistd::Uid;

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

    #[test]
    fn what_is_closed_is_of_the_user_who_alone_may_change_it() {
        let dir = tempfile::tempdir().unwrap();
        let (closed, inside) = (dir.path().join("closed"), dir.path().join("closed/a/b"));
        std::fs::create_dir_all(&inside).unwrap();
        let own = std::fs::metadata(&closed).unwrap().uid();
        let set_mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set_mode(dir.path(), 0o755);
        // Of root's groups it is in none; who is not root is its owner in any case.
        let _ = std::os::unix::fs::chown(&closed, None, Some(54_321));
        let owner_for = |uid| {
            let path = inside.as_os_str().as_bytes();
            read_owner(Home { uid, ..home(path, None) }).owner
        };
        assert_eq!(owner_for(own + 1), Some(own), "it can be read");
        for (mode, known) in [(0o600, Some(own)), (0o644, Some(own)), (0o750, Some(own)), (0o770, None)] {
            set_mode(&closed, mode);
            // As the service, which has no right to enter: for this thread alone, which root needs and others do not.
            nix::unistd::setfsuid(Uid::from_raw(own + 2));
            let found = [owner_for(own), owner_for(own + 1)];
            nix::unistd::setfsuid(Uid::from_raw(own));
            assert_eq!(found, [known, None], "{mode:o}");
        }
        set_mode(&closed, 0o700);
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

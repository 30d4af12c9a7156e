//! The socket's path: claimed before anything is loaded, bound when the daemon is ready, removed when it stops.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown};

/// Members of this group may ask.
pub const GROUP: &str = "observer";

/// The path is this process's: no other daemon answers on it or is about to.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: Flock<File>,
}

/// A listening socket; its path goes when this does.
#[derive(Debug)]
pub struct Bound {
    /// The listener, non-blocking.
    pub listener: UnixListener,
    /// Its group, where [`GROUP`] exists.
    pub group: Option<Gid>,
    claim: Claim,
    /// Device and inode of the socket file: another's is not removed.
    id: Option<(u64, u64)>,
}

/// How long a lock is waited for: one of a daemon that was killed was seen held a moment after its process was gone.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The lock; `EWOULDBLOCK`: somebody keeps it.
fn locked(mut file: File) -> Result<Flock<File>, Errno> {
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < end => file = back,
            Err((_, error)) => return Err(error),
        }
        thread::sleep(LOCK_POLL);
    }
}

impl Claim {
    /// Makes the directory, and refuses a path that is taken.
    pub fn new(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o755).create(dir).with_context(|| {
                format!(
                    "cannot make the directory {}; make it yourself, or choose a path with --socket",
                    dir.display()
                )
            })?;
        }
        refuse_taken(path)?;
        let lock_path = lock_path(path);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&lock_path)
            .with_context(|| {
                format!(
                    "cannot open {}; correct its rights, or choose a path with --socket",
                    lock_path.display()
                )
            })?;
        let lock = match locked(lock) {
            Ok(lock) => lock,
            Err(Errno::EWOULDBLOCK) => bail!(
                "another daemon is starting on {}: stop it, or choose another path with --socket",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot lock {}; choose a path with --socket", lock_path.display())
                });
            }
        };
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Listens: mode 0660, group [`GROUP`] where it exists.
    pub fn bind(self) -> Result<Bound> {
        refuse_taken(&self.path)?;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    format!("cannot remove the stale socket {}; remove it yourself", self.path.display())
                });
            }
            _ => {}
        }
        let before = umask(Mode::from_bits_truncate(0o117));
        let bound = UnixListener::bind(&self.path);
        umask(before);
        let listener = bound.with_context(|| {
            format!(
                "cannot listen on {}; choose a shorter or writable path with --socket",
                self.path.display()
            )
        })?;
        listener.set_nonblocking(true).context("cannot make the socket non-blocking")?;
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        if let Some(group) = group
            && let Err(error) = chown(&self.path, None, Some(group))
        {
            eprintln!(
                "observer: warning: {} could not be given to the group {GROUP} ({error}): only root and this user \
                 can ask; run the daemon as a member of the group",
                self.path.display()
            );
        }
        let id = std::fs::symlink_metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()));
        Ok(Bound { listener, group, claim: self, id })
    }
}

impl Bound {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.claim.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let path = &self.claim.path;
        let now = std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        if now.is_some() && now == self.id {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Two daemons that start at once both find a stale socket; the lock lets one of them remove it. It stays behind:
/// removing it would let a third in.
fn lock_path(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

/// An error if something other than a stale socket stands at `path`.
fn refuse_taken(path: &Path) -> Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot look at {}; choose another path with --socket", path.display())
            });
        }
    };
    if !meta.file_type().is_socket() {
        bail!(
            "{} is there and is no socket: remove it, or choose another path with --socket",
            path.display()
        );
    }
    match UnixStream::connect(path) {
        Ok(stream) => {
            bail!(
                "a daemon is already running on {}{}: stop it, or choose another path with --socket",
                path.display(),
                peer_pid(&stream).map(|pid| format!(" (pid {pid})")).unwrap_or_default()
            )
        }
        Err(error) if is_stale(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!("{} is a socket that cannot be tried; choose another path with --socket", path.display())
        }),
    }
}

/// Nobody listens on the socket (any more), or it vanished meanwhile.
pub fn is_stale(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
}

fn peer_pid(stream: &UnixStream) -> Option<i32> {
    getsockopt(stream, PeerCredentials).ok().map(|peer| peer.pid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/o.sock");
        std::fs::create_dir(dir.path().join("new")).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let bound = Claim::new(&path).unwrap().bind().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(UnixStream::connect(&path).is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_is_taken_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "keep").unwrap();
        let refused = Claim::new(&file).unwrap_err().to_string();
        assert!(refused.contains("is no socket: remove it"), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "keep");

        let path = dir.path().join("o.sock");
        let claim = Claim::new(&path).unwrap();
        assert!(Claim::new(&path).unwrap_err().to_string().contains("another daemon is starting"));
        let bound = claim.bind().unwrap();
        let refused = Claim::new(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!(
            "already running on {} (pid {})",
            path.display(),
            std::process::id()
        )));
        assert!(path.exists());
        drop(bound);
    }

    #[test]
    fn anothers_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.sock");
        let bound = Claim::new(&path).unwrap().bind().unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }
}

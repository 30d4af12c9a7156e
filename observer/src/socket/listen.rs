//! The socket's path: it is claimed before the programs are loaded, bound when the daemon is ready, and removed when the
//! daemon stops.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group, chown};
use tracing::warn;

use crate::text::bytes::to_line;

/// The group whose members may ask.
pub const GROUP: &str = "observer";
/// The mode of a socket's file.
const MODE: u32 = 0o660;

/// A path that is reserved for this process: no other daemon listens on it or is starting on it.
#[derive(Debug)]
pub struct SocketClaim {
    path: PathBuf,
    chosen_with: &'static str,
    _lock: Flock<File>,
}

/// A listening socket. Dropping it removes the path.
#[derive(Debug)]
pub struct BoundSocket {
    /// The listener; it does not block.
    pub listener: UnixListener,
    /// The group of the socket, where [`GROUP`] exists.
    pub group: Option<Gid>,
    claim: SocketClaim,
    /// Device and inode of the socket file, so that another daemon's socket is not removed.
    id: Option<(u64, u64)>,
}

/// How long a start waits for the lock: a child of a killed daemon may have it until it executes its program, which takes long
/// on a machine with much to do.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// How long a listener may take to greet at a time.
const GREETING_WAIT: Duration = Duration::from_millis(500);

/// Locks the file. The error is `EWOULDBLOCK` where another process keeps the lock.
fn lock_file(mut file: File) -> Result<Flock<File>, Errno> {
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

impl SocketClaim {
    /// Creates the directory, and locks the path. A path that is in use is an error, which names the setting that the path was
    /// `chosen_with`.
    pub fn new(path: &Path, chosen_with: &'static str) -> Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o755).create(dir).with_context(|| {
                format!(
                    "cannot make the directory {}; make it yourself, or choose a path with {chosen_with}",
                    dir.display()
                )
            })?;
        }
        check_is_free(path, chosen_with)?;
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
                    "cannot open {}; correct its rights, or choose a path with {chosen_with}",
                    lock_path.display()
                )
            })?;
        let lock = match lock_file(lock) {
            Ok(lock) => lock,
            Err(Errno::EWOULDBLOCK) => bail!(
                "another daemon is starting on {}: stop it, or choose another path with {chosen_with}",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot lock {}; choose a path with {chosen_with}", lock_path.display())
                });
            }
        };
        Ok(Self { path: path.into(), chosen_with, _lock: lock })
    }

    /// Listens on the path, with mode 0660 and group [`GROUP`] where it exists.
    pub fn bind(self) -> Result<BoundSocket> {
        let chosen_with = self.chosen_with;
        check_is_free(&self.path, chosen_with)?;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    format!("cannot remove the stale socket {}; remove it yourself", self.path.display())
                });
            }
            _ => {}
        }
        let listener = listen_privately(&self.path).with_context(|| {
            format!(
                "cannot listen on {}; choose a shorter or writable path with {chosen_with}",
                self.path.display()
            )
        })?;
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        if let Some(group) = group
            && let Err(error) = chown(&self.path, None, Some(group))
        {
            let path = to_line(self.path.as_os_str().as_encoded_bytes());
            warn!(
                part = "socket",
                path = &*path,
                "{path} could not be given to the group {GROUP} ({error}): only root and this user can ask; run the daemon \
                 as a member of the group"
            );
        }
        let id = std::fs::symlink_metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()));
        Ok(BoundSocket { listener, group, claim: self, id })
    }
}

/// Listens on `path`, with the mode 0660 from the first moment. The umask is left alone: it is that of all threads.
fn listen_privately(path: &Path) -> Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file gets the mode of the socket, less the umask: unix_bind() in net/unix/af_unix.c.
    fchmod(&socket, Mode::from_bits_truncate(MODE))?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
    listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(socket.into())
}

impl BoundSocket {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.claim.path
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let path = &self.claim.path;
        let now = std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        if now.is_some() && now == self.id {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The lock file. Where two daemons start at once and both find a stale socket, the lock lets one of them remove it. The
/// file is not removed, because a third daemon could then lock a new one.
fn lock_path(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

/// An error if something other than a stale socket is at `path`.
fn check_is_free(path: &Path, chosen_with: &str) -> Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| {
                format!("cannot look at {}; choose another path with {chosen_with}", path.display())
            });
        }
    };
    if !meta.file_type().is_socket() {
        bail!(
            "{} is there and is no socket: remove it, or choose another path with {chosen_with}",
            path.display()
        );
    }
    match connect(path) {
        Ok(stream) => {
            bail!(
                "a daemon is already running on {}{}: stop it, or choose another path with {chosen_with}",
                path.display(),
                peer_pid(&stream).map(|pid| format!(" (pid {pid})")).unwrap_or_default()
            )
        }
        Err(error) if is_stale(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!(
                "{} is a socket that cannot be tried; choose another path with {chosen_with}",
                path.display()
            )
        }),
    }
}

/// Whether the error means that no process listens on the socket, or that it does not exist.
pub fn is_stale(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
}

/// Connects to the daemon that listens on `path`. One that does not greet may be the child of a daemon that was killed, which
/// has the listener until it executes a program: that is waited for.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let end = Instant::now() + LOCK_WAIT;
    loop {
        let stream = UnixStream::connect(path)?;
        if greets(&stream) || Instant::now() > end {
            return Ok(stream);
        }
        thread::sleep(LOCK_POLL);
    }
}

fn greets(mut stream: &UnixStream) -> bool {
    stream.set_read_timeout(Some(GREETING_WAIT)).is_ok() && stream.read(&mut [0]).is_ok_and(|read| read > 0)
}

fn peer_pid(stream: &UnixStream) -> Option<i32> {
    getsockopt(stream, PeerCredentials).ok().map(|peer| peer.pid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/o.sock");
        std::fs::create_dir(dir.path().join("new")).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let bound = SocketClaim::new(&path, "--socket").unwrap().bind().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(UnixStream::connect(&path).is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_in_use_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "keep").unwrap();
        let refused = SocketClaim::new(&file, "--socket").unwrap_err().to_string();
        assert!(refused.contains("is no socket: remove it"), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "keep");

        let path = dir.path().join("o.sock");
        let claim = SocketClaim::new(&path, "--socket").unwrap();
        assert!(
            SocketClaim::new(&path, "--socket")
                .unwrap_err()
                .to_string()
                .contains("another daemon is starting")
        );
        let bound = claim.bind().unwrap();
        let refused = SocketClaim::new(&path, "--socket").unwrap_err().to_string();
        assert!(refused.contains(&format!(
            "already running on {} (pid {})",
            path.display(),
            std::process::id()
        )));
        assert!(path.exists());
        drop(bound);
    }

    #[test]
    fn a_listener_that_ends_without_a_greeting_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // As the child of a killed daemon does when it executes a program.
        let holder = thread::spawn(move || listener.accept().map(drop));
        SocketClaim::new(&path, "--socket").unwrap();
        holder.join().unwrap().unwrap();
    }

    #[test]
    fn anothers_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.sock");
        let bound = SocketClaim::new(&path, "--socket").unwrap().bind().unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }
}

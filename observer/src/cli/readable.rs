//! Tries what a user can do, such as read files: by doing it as that user, since modes alone do not say it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, geteuid, getgrouplist};

use super::user;
use crate::text::bytes::to_line;

/// Why a user cannot read a file.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// What the user has no right to: the file, or a directory above it.
    at: PathBuf,
    error: io::Error,
}

impl Unreadable {
    /// The reason, with the mode and the owner of what it depends on, as far as this process can read these.
    pub fn reason(&self) -> String {
        let Self { at, error } = self;
        let Some(met) = fs::metadata(at).ok().filter(|_| error.kind() == ErrorKind::PermissionDenied) else {
            return error.to_string();
        };
        let group = Group::from_gid(Gid::from_raw(met.gid())).ok().flatten();
        let group = group.map_or_else(|| met.gid().to_string(), |group| group.name);
        let (mode, owner) = (met.mode() & 0o7777, user::shown(met.uid()));
        format!(
            "{} has mode {mode:04o} and belongs to {owner}:{group}",
            to_line(at.as_os_str().as_encoded_bytes())
        )
    }
}

/// Opens each of `files` as the user `uid`, who may have rights that this process has not. The error says why this process
/// cannot act as that user.
pub(super) fn open_as(uid: u32, files: &[PathBuf]) -> io::Result<Vec<Result<File, Unreadable>>> {
    as_user(uid, &|| files.iter().map(|file| open(file)).collect())
}

/// Does `work` with the rights of the user `uid`, on a thread of its own unless this process has them. The error says why this
/// process cannot act as that user; nothing was done then.
pub(super) fn as_user<T: Send>(uid: u32, work: &(dyn Fn() -> T + Sync)) -> io::Result<T> {
    if geteuid().as_raw() == uid {
        return Ok(work());
    }
    let (gid, groups) = groups(uid)?;
    std::thread::scope(|scope| {
        let as_user = scope.spawn(|| become_user(uid, gid, &groups).map(|()| work()));
        as_user.join().unwrap_or_else(|_| Err(io::Error::other("the thread that acted as that user ended")))
    })
}

/// The groups of a user. One that is not in the user database has the group with its number.
fn groups(uid: u32) -> io::Result<(Gid, Vec<Gid>)> {
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else {
        return Ok((Gid::from_raw(uid), Vec::new()));
    };
    let name = std::ffi::CString::new(user.name)?;
    Ok((user.gid, getgrouplist(&name, user.gid)?))
}

/// Gives this thread, and no other, the rights of a user.
fn become_user(uid: u32, gid: Gid, groups: &[Gid]) -> io::Result<()> {
    let gid = gid.as_raw();
    let done = |result: libc::c_long| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: `groups` has as many ids as is said: `Gid` is a transparent `gid_t`. The calls of libc would change every
    // thread of the process.
    done(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: three numbers.
    done(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: three numbers. The capabilities of root end with this.
    done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Opens a regular file.
pub(super) fn open(file: &Path) -> Result<File, Unreadable> {
    // No FIFO delays it.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file);
    let error = match opened.and_then(|opened| Ok((opened.metadata()?.is_file(), opened))) {
        Ok((true, opened)) => return Ok(opened),
        Ok((false, _)) => io::Error::other("it is no regular file"),
        Err(error) => error,
    };
    let mut at = file;
    while let Some(above) = at.parent()
        && fs::symlink_metadata(at).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    {
        at = above;
    }
    Err(Unreadable { at: at.into(), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_a_user_cannot_read_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        let uid = geteuid().as_raw();
        let reasons = |files: &[PathBuf]| -> Vec<Option<String>> {
            let opened = open_as(uid, files).unwrap();
            opened.into_iter().map(|it| it.err().map(|it| it.reason())).collect()
        };
        let missing = dir.path().join("missing");
        let found = reasons(&[file.clone(), missing, dir.path().into()]);
        assert_eq!((&found[0], found[2].as_deref()), (&None, Some("it is no regular file")));
        assert!(found[1].as_ref().is_some_and(|reason| reason.contains("No such file")), "{found:?}");
        if uid != 0 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o200)).unwrap();
            let found = reasons(&[file]);
            assert!(found[0].as_ref().is_some_and(|reason| reason.contains("mode 0200")), "{found:?}");
        }
    }
}

//! The credentials of a connection's peer, from the kernel.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::{Gid, Uid};

/// Supplementary groups of a peer that are read: the kernel's own bound (NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

/// Which users may ask, beside root and the daemon's own user.
#[derive(Clone, Copy, Debug)]
pub struct PeerPolicy {
    /// The group whose members may ask; `None`: no others may.
    pub group: Option<Gid>,
}

impl PeerPolicy {
    /// Whether a peer with these credentials may ask. Its supplementary groups are read from `socket`.
    pub fn admits(self, uid: u32, gid: u32, socket: BorrowedFd<'_>) -> bool {
        is_privileged(uid)
            || self.group.is_some_and(|group| {
                group.as_raw() == gid || supplementary_groups(socket).contains(&group.as_raw())
            })
    }
}

/// Whether the user is root, or the user that the daemon runs as.
pub fn is_privileged(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw()
}

/// The supplementary groups of the peer (SO_PEERGROUPS, Linux 4.13); empty if the kernel does not provide them.
fn supplementary_groups(socket: BorrowedFd<'_>) -> Vec<u32> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut len = libc::socklen_t::try_from(groups.len() * size_of::<u32>()).unwrap_or(0);
        // SAFETY: `groups` has room for `len` bytes and any byte pattern is a u32; the kernel writes at most `len`
        // bytes and stores how many there are. The descriptor is open for as long as it is borrowed.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<u32>();
        match result {
            0 => {
                groups.truncate(count);
                return groups;
            }
            _ if count > groups.len() && count <= GROUPS_MAX => groups.resize(count, 0),
            _ => return Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_supplementary_groups_of_a_peer_are_read() {
        let (one, _other) = UnixStream::pair().unwrap();
        // getgroups(2) with a size of 0 counts without writing.
        // SAFETY: a null pointer is allowed where the size is 0.
        let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
        assert_eq!(supplementary_groups(one.as_fd()).len(), usize::try_from(count).unwrap());
    }

    #[test]
    fn other_users_are_refused() {
        let (one, _other) = UnixStream::pair().unwrap();
        let policy = PeerPolicy { group: Some(Gid::from_raw(4_242)) };
        assert!(policy.admits(0, 0, one.as_fd()));
        assert!(policy.admits(Uid::effective().as_raw(), 1, one.as_fd()));
        assert!(policy.admits(4_000_000, 4_242, one.as_fd()));
        assert!(!policy.admits(4_000_000, 4_000_000, one.as_fd()));
        assert!(!PeerPolicy { group: None }.admits(4_000_000, 4_242, one.as_fd()));
    }
}

//! When a terminal last received input and output: the times that the kernel keeps on its device, with a resolution of 8 s.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor, stat};
use observer_core::process::Tty;

/// Times of a terminal's last input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastIo {
    /// When it last received input (its device was read), ns since 1970.
    pub input_ns: i64,
    /// When it last received output (its device was written), ns since 1970.
    pub output_ns: i64,
}

/// The times of a pseudo-terminal in the host's own devpts; `None` for other terminals, and where the number belongs to
/// another devpts instance.
pub fn last_io(tty: &Tty) -> Option<LastIo> {
    let name = tty.shown();
    let number = name.as_bytes().strip_prefix(b"pts/".as_slice())?;
    let path = Path::new("/dev/pts").join(std::ffi::OsStr::from_bytes(number));
    let found = stat(&path).ok()?;
    if (major(found.st_rdev) << 20 | minor(found.st_rdev)) != u64::from(tty.dev) {
        return None;
    }
    let ns = |seconds: i64, fraction: i64| seconds.checked_mul(1_000_000_000)?.checked_add(fraction);
    Some(LastIo {
        input_ns: ns(found.st_atime, found.st_atime_nsec)?,
        output_ns: ns(found.st_mtime, found.st_mtime_nsec)?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd as _, FromRawFd as _};

    use super::*;

    #[test]
    fn a_terminal_of_the_hosts_devpts_has_times_and_others_have_none() {
        // SAFETY: a new descriptor that nothing else owns.
        let master = unsafe { File::from_raw_fd(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY)) };
        let mut path = [0_u8; 32];
        // SAFETY: writes a terminated string of at most 32 bytes.
        let named = unsafe { libc::ptsname_r(master.as_raw_fd(), path.as_mut_ptr().cast(), path.len()) };
        assert_eq!(named, 0);
        let number = path.strip_prefix(b"/dev/pts/").unwrap().split(|&byte| byte == 0).next().unwrap();
        let mut name = [0; 16];
        name[..3].copy_from_slice(b"pts");
        name[3..3 + number.len()].copy_from_slice(number);
        let minor: u32 = std::str::from_utf8(number).unwrap().parse().unwrap();
        let tty = Tty { dev: 136 << 20 | minor, name };
        let io = last_io(&tty).unwrap();
        assert!(io.input_ns > 0 && io.output_ns > 0, "{io:?}");
        assert_eq!(last_io(&Tty { dev: tty.dev + 1, name }), None);
        assert_eq!(last_io(&Tty { dev: 4 << 20 | 1, name: *b"tty1\0\0\0\0\0\0\0\0\0\0\0\0" }), None);
    }
}

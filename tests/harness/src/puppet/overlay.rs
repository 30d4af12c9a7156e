//! A process that acts for another: overlayfs works on the files below with the rights of whoever mounted it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use super::births::path;
use super::conversation::{Args, Conversation, Then, check, text, word};
use super::ends;
use super::terminals::setresuid;
use crate::protocol;

/// Whole pages, whatever size the kernel's have.
const PAGE: usize = 64 << 10;
/// `_IOWR(0xAA, 0x3F, struct uffdio_api)`.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
/// `_IOWR(0xAA, 0x00, struct uffdio_register)`.
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFD_API: u64 = 0xaa;
const MISSING: u64 = 1;

/// `waits_in_overlay DIR REAL EFFECTIVE SAVED`: mounts an overlay in DIR, takes these user ids, and reads a file of it
/// into memory that nobody provides. A thread answers once it waits there, for good.
pub fn waits(conversation: &Conversation, args: Args<'_>) -> Then {
    match begin(conversation, args) {
        Ok((file, page)) => {
            // SAFETY: a page of this process's own.
            unsafe { libc::read(file.as_raw_fd(), page, PAGE) };
            ends::exit(2)
        }
        Err(error) => Then::Answer(Err(error)),
    }
}

fn begin(conversation: &Conversation, args: Args<'_>) -> io::Result<(File, *mut libc::c_void)> {
    let file = overlaid(args)?;
    let (faults, page) = memory_that_nobody_provides()?;
    let stream = conversation.stream.get_ref().try_clone()?;
    setresuid(args.get(1..).unwrap_or_default())?;
    std::thread::Builder::new().spawn(move || answer_at_fault(faults, stream))?;
    Ok((file, page))
}

/// A file on an overlay, and in its upper layer.
fn overlaid(args: Args<'_>) -> io::Result<File> {
    let dir = path(word(args, 0)?);
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(dir.join(name))?;
    }
    fs::write(dir.join("upper/file"), [b'x'; PAGE])?;
    let [merged, options] = [
        dir.join("merged").into_os_string(),
        format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", dir.display()).into(),
    ]
    .map(std::os::unix::ffi::OsStringExt::into_vec);
    let [merged, options] = [text(&[merged], 0)?, text(&[options], 0)?];
    let kind = c"overlay".as_ptr();
    // SAFETY: valid strings.
    check(unsafe { libc::mount(kind, merged.as_ptr(), kind, 0, options.as_ptr().cast()) })?;
    File::open(dir.join("merged/file"))
}

/// userfaultfd(2) of a page: who touches it waits.
pub fn memory_that_nobody_provides() -> io::Result<(OwnedFd, *mut libc::c_void)> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping and a new descriptor; the arguments of both ioctls have the kernel's sizes.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let fd = check(libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC))?;
        let faults = OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?);
        let mut api = [UFFD_API, 0, 0];
        check(libc::ioctl(faults.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()))?;
        let mut register = [page.addr() as u64, PAGE as u64, MISSING, 0];
        check(libc::ioctl(faults.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()))?;
        Ok((faults, page))
    }
}

fn answer_at_fault(faults: OwnedFd, mut stream: UnixStream) {
    let mut poll = libc::pollfd { fd: faults.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    while unsafe { libc::poll(&raw mut poll, 1, -1) } != 1 {}
    let _ = stream.write_all(&protocol::answer(Ok(vec![])));
    // Closed, it would let the reader go.
    loop {
        std::thread::park();
    }
}

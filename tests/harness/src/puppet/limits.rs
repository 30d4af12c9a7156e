//! Limits that end whoever goes beyond them.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write as _};

use super::births::path;
use super::conversation::{Args, Done, check, number, text};

/// The limit of file size, bytes.
const FILE_BYTES: u64 = 4096;

fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<u64> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: a valid limit.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// `uses_up_its_time SOFT HARD`.
pub fn uses_up_its_time(args: Args<'_>) -> Done {
    limit(libc::RLIMIT_CORE, 0, 0)?;
    limit(libc::RLIMIT_CPU, number(args, 0)?, number(args, 1)?)?;
    loop {
        std::hint::spin_loop();
    }
}

/// `writes_too_much PATH`.
pub fn writes_too_much(args: Args<'_>) -> Done {
    let path_of_file = text(args, 0)?;
    limit(libc::RLIMIT_CORE, 0, 0)?;
    limit(libc::RLIMIT_FSIZE, FILE_BYTES, FILE_BYTES)?;
    let mut file = File::create(path(CStr::to_bytes(&path_of_file)))?;
    for _ in 0..2 {
        file.write_all(&[0; FILE_BYTES as usize])?;
    }
    Ok(vec![])
}

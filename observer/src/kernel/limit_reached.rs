//! Limits of this process and of the machine that keep the programs from being loaded, attached or tested. What fails for one says
//! nothing of the kernel's layout, and its message names the limit and what to do.

use std::error::Error as StdError;
use std::{fmt, io};

use anyhow::{Error, anyhow};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that the daemon may want open at a time: its kernel programs and maps, a hundred and more; its clients, its journal and
/// its database. As many as its unit allows.
const FILES_WANTED: u64 = 4096;

/// Raises the limit of open files as far as this process may without a right. A refusal is no error here; where files are
/// lacking, that error names the limit.
pub fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < FILES_WANTED.min(hard)
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, FILES_WANTED.min(hard), hard);
    }
}

/// A failure that a limit is the likely cause of, which nobody can tell. The text ends with the next step.
#[derive(Debug)]
pub struct NoRoom(pub &'static str);

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for NoRoom {}

/// Whether an error is one of a limit.
pub fn is_cause(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<NoRoom>()) || remedy(error).is_some()
}

/// Fails with an error that is one of a limit: it says nothing of what the kernel allows, and without its program the daemon would
/// miss what it can have. EAGAIN is of no limit here: a signal came while the kernel verified the program.
pub fn refuse(program: &str, error: &(dyn StdError + 'static)) -> Result<(), Error> {
    let remedy = remedy(error).filter(|_| causes(error).all(|cause| errno(cause) != Some(Errno::EAGAIN)));
    match (causes(error).last(), remedy) {
        (Some(cause), Some(remedy)) => Err(anyhow!("attach {program}: {cause}; {remedy}")),
        _ => Ok(()),
    }
}

/// Adds the limit and the next step to an error that is one of a limit. Others stay as they are.
pub fn explain(error: Error) -> Error {
    match remedy(error.as_ref()) {
        Some(remedy) => anyhow!("{error:#}; {remedy}"),
        None => error,
    }
}

/// Returns which limit an error is of, and the next step; `None` if it is of none.
pub fn remedy(error: &(dyn StdError + 'static)) -> Option<String> {
    causes(error).find_map(|cause| of_number(errno(cause)?))
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn errno(error: &(dyn StdError + 'static)) -> Option<Errno> {
    let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    number.map(Errno::from_raw).or_else(|| error.downcast_ref::<Errno>().copied())
}

fn of_number(errno: Errno) -> Option<String> {
    match errno {
        Errno::EMFILE => {
            let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
            Some(format!(
                "this process may have {allowed} files open at a time, which is too few: raise that limit \
                 (`LimitNOFILE={FILES_WANTED}` in the unit, `ulimit -n {FILES_WANTED}` in a shell) and start observer again"
            ))
        }
        Errno::ENFILE => Some(
            "all processes of this machine together may not open more files: raise `sysctl fs.file-max`, or stop what \
             has too many open"
                .into(),
        ),
        Errno::ENOMEM => Some(
            "there is no memory for it: raise the limit of the service (`MemoryMax=` in the unit) or of the cgroup that \
             observer runs in, or free memory of this machine, and start observer again"
                .into(),
        ),
        Errno::EAGAIN => Some(
            "no more processes may be started: raise that limit (`TasksMax=` in the unit, `ulimit -u` in a shell) or stop \
             what has too many, and start observer again"
                .into(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_of_a_limit_names_it_and_the_next_step() {
        for (errno, parts) in [
            (
                libc::EMFILE,
                &["Too many open files", "may have ", "`LimitNOFILE=4096`", "`ulimit -n 4096`"][..],
            ),
            (libc::ENFILE, &["fs.file-max"]),
            (libc::ENOMEM, &["Cannot allocate memory", "`MemoryMax=`"]),
            (libc::EAGAIN, &["`TasksMax=`"]),
        ] {
            let error = Err::<(), _>(io::Error::from_raw_os_error(errno)).context("open a pseudo-terminal");
            let text = format!("{:#}", explain(error.unwrap_err()));
            assert!(text.starts_with("open a pseudo-terminal: "), "what failed comes first: {text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
        }
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        for error in [anyhow!("tgid is 5, expected 7"), io::Error::from_raw_os_error(libc::EPERM).into()] {
            let text = format!("{error:#}");
            assert_eq!(format!("{:#}", explain(error)), text);
        }
    }

    #[test]
    fn what_a_limit_may_have_caused_is_told_from_a_wrong_layout() {
        let child = Error::from(NoRoom("the child could not start a thread")).context("the self-test");
        assert!(is_cause(child.as_ref()));
        assert_eq!(format!("{:#}", explain(child)), "the self-test: the child could not start a thread");
        assert!(!is_cause(anyhow!("tgid is 5, expected 7").as_ref()));
        let denied = io::Error::from_raw_os_error(libc::EPERM);
        assert!(refuse("set_fs_pwd", &denied).is_ok(), "the kernel does not allow it");
        let refusal = refuse("set_fs_pwd", &io::Error::from_raw_os_error(libc::ENOMEM)).unwrap_err();
        assert!(refusal.to_string().starts_with("attach set_fs_pwd: Cannot allocate memory"), "{refusal}");
    }

    #[test]
    fn a_limit_that_was_explained_is_not_explained_again() {
        let once = explain(io::Error::from_raw_os_error(libc::EMFILE).into());
        let text = format!("{once:#}");
        assert_eq!(format!("{:#}", explain(once)), text);
    }
}

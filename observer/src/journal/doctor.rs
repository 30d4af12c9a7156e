//! The checks of `observer doctor` about the journal's disk.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::statvfs::statvfs;

use crate::api::check::{Check, Verdict};
use crate::clock::boottime;
use crate::text::bytes::to_line;

/// Free space without which the journal cannot go on for long, bytes.
const SPACE_MIN: u64 = 16 << 20;
/// Syncs that are measured.
const SYNCS: usize = 8;
/// Bytes of each: a page of SQLite.
const SYNC_BYTES: usize = 4096;
/// A sync that takes longer delays what the journal has, and whatever waits for it.
const SYNC_SLOW: Duration = Duration::from_millis(100);

/// Checks the directory of the journal `path`, which may have `max_bytes`. `user` names the user whose rights this thread has,
/// and says how bad it is if that one may not write there, and what to do then.
pub fn doctor(path: &Path, max_bytes: u64, user: (&str, Verdict, &str)) -> Vec<Check> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = to_line(dir.as_os_str().as_encoded_bytes()).into_owned();
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => vec![space(path, dir, &shown, max_bytes), syncs(dir, &shown, user)],
        Ok(_) => {
            let detail = format!("{shown} is no directory: name another with --state-dir");
            vec![Check::new("journal: directory", Verdict::Fails, detail)]
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let detail = format!("{shown} is not there; the daemon makes it when it starts");
            vec![Check::new("journal: directory", Verdict::Limited, detail)]
        }
        Err(error) => {
            let (named, denied, next) = user;
            let detail = format!("{named} cannot look at {shown} ({error}): {next}");
            vec![Check::new("journal: directory", denied, detail)]
        }
    }
}

fn space(path: &Path, dir: &Path, shown: &str, max_bytes: u64) -> Check {
    let name = "journal: space";
    let free = match statvfs(dir) {
        Ok(disk) => disk.blocks_available() * disk.fragment_size(),
        Err(error) => {
            let detail = format!("the file system of {shown} does not say what is free: {error}");
            return Check::new(name, Verdict::Limited, detail);
        }
    };
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let taken = size(path) + size(Path::new(&log));
    let wanted = max_bytes.saturating_sub(taken);
    let mib = |bytes: u64| bytes >> 20;
    let found = format!(
        "{} MiB are free at {shown}; the journal has {} MiB and may have {}",
        mib(free),
        mib(taken),
        mib(max_bytes)
    );
    if free < SPACE_MIN {
        return Check::new(name, Verdict::Fails, format!("{found}: free some space, or name another place"));
    }
    if free < wanted {
        let next = "free some space, or lower max_bytes in [journal]";
        return Check::new(name, Verdict::Limited, format!("{found}: the disk will be full first; {next}"));
    }
    Check::new(name, Verdict::Fine, found)
}

/// How long the disk takes to keep what it was given.
fn syncs(dir: &Path, shown: &str, (named, denied, next): (&str, Verdict, &str)) -> Check {
    let name = "journal: speed of the disk";
    match time_syncs(dir) {
        Ok(times) => {
            let (Some(middle), Some(slowest)) = (times.get(times.len() / 2), times.last()) else {
                return Check::new(name, Verdict::Limited, "nothing was measured");
            };
            let millis = |time: &Duration| time.as_secs_f64() * 1e3;
            let found = format!(
                "a write that is synced takes {:.1} ms, the slowest of {SYNCS} {:.1} ms",
                millis(middle),
                millis(slowest)
            );
            if *middle <= SYNC_SLOW {
                return Check::new(name, Verdict::Fine, found);
            }
            let next = "what is committed there lags behind; name a faster disk with --state-dir";
            Check::new(name, Verdict::Limited, format!("{found}: {next}"))
        }
        Err(error) => {
            let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            if kind == Some(ErrorKind::PermissionDenied) {
                let detail = format!("{named} may not write in {shown}: {next}");
                return Check::new(name, denied, detail);
            }
            let next = format!("not measured ({error:#}): look at the disk of {shown}");
            Check::new(name, Verdict::Limited, next)
        }
    }
}

/// Times of synced writes to a file of its own that is removed, the shortest first.
fn time_syncs(dir: &Path) -> anyhow::Result<Vec<Duration>> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&path)
        .context("cannot make a file")?;
    let measured = (0..SYNCS).map(|_| {
        let began = boottime();
        file.write_all(&[0; SYNC_BYTES])?;
        file.sync_data()?;
        Ok(Duration::from_nanos(boottime().0.saturating_sub(began.0)))
    });
    let measured: std::io::Result<Vec<Duration>> = measured.collect();
    let removed = fs::remove_file(&path);
    let mut times = measured.context("cannot write")?;
    removed.context("cannot remove the file")?;
    times.sort_unstable();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: (&str, Verdict, &str) = ("user agent (uid 7)", Verdict::Fails, "go on");

    #[test]
    fn a_directory_with_room_is_fine_and_nothing_is_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let checks = doctor(&dir.path().join("journal.sqlite"), 1 << 20, USER);
        let [space, speed] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!((space.name.as_str(), space.verdict), ("journal: space", Verdict::Fine), "{space:?}");
        assert!(speed.detail.starts_with("a write that is synced takes "), "{speed:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_that_is_too_small_for_the_journals_bound_is_a_warning_with_the_next_step() {
        let dir = tempfile::tempdir().unwrap();
        let checks = doctor(&dir.path().join("journal.sqlite"), u64::MAX, USER);
        let [space, _] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!(space.verdict, Verdict::Limited);
        assert!(space.detail.contains("lower max_bytes"), "{}", space.detail);
    }

    #[test]
    fn what_is_no_directory_or_not_there_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let verdict =
            |path: &Path| doctor(path, 1, USER).into_iter().map(|check| check.verdict).collect::<Vec<_>>();
        assert_eq!(verdict(&file.join("journal.sqlite")), [Verdict::Fails]);
        assert_eq!(verdict(&dir.path().join("none/journal.sqlite")), [Verdict::Limited]);
    }
}

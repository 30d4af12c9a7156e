//! Compares the terminals of other processes with their device files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use anyhow::Result;
use observer_core::Input;
use observer_core::process::Comm;

use super::truth;
use super::values::{self, same};
use crate::kernel::snapshot::Snapshot;

/// Compares every terminal in use that is not a pseudo-terminal. The minor numbers of pseudo-terminals begin at 0, so they do
/// not show whether `tty_driver.minor_start` is read.
pub fn check(snapshot: &Snapshot) -> Result<()> {
    let mut seen = BTreeSet::new();
    snapshot.rows(|input| {
        if let Input::PassRow(row) = input
            && let Some(tty) = row.facts.tty
        {
            seen.insert((Comm(tty.name).as_bytes().to_vec(), tty.dev));
        }
    });
    for (name, dev) in seen {
        let Some(path) = device_file(&name) else { continue };
        // Not every terminal has a file.
        let Ok(file) = fs::metadata(path) else { continue };
        if file.file_type().is_char_device() {
            let expected = truth::kernel_dev(file.rdev());
            same("iterator", &values::TTY, (name.clone(), dev), (name, expected))?;
        }
    }
    Ok(())
}

/// Returns the device file of a console, a serial or a virtual terminal, by the kernel's name of it.
fn device_file(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (plain && (name.starts_with("tty") || name.starts_with("hvc"))).then(|| format!("/dev/{name}"))
}

#[cfg(test)]
mod tests {
    use super::device_file;

    #[test]
    fn only_terminals_by_their_plain_names_are_looked_at() {
        assert_eq!(device_file(b"ttyS0").as_deref(), Some("/dev/ttyS0"));
        for other in [&b"pts3"[..], b"tty/../sda", b"tty ", b"", b"\xff"] {
            assert_eq!(device_file(other), None);
        }
    }
}

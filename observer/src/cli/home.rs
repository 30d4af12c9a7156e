//! The path of a home in a command's arguments.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// The path without slashes at its end, as the map has homes.
pub fn plain(typed: &[u8]) -> &[u8] {
    let end = typed.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
    typed.get(..end).unwrap_or(typed)
}

/// The path to which symlinks lead; `None` if it does not exist.
pub fn resolved(path: &[u8]) -> Option<Vec<u8>> {
    let path = std::fs::canonicalize(OsStr::from_bytes(path)).ok()?;
    Some(path.into_os_string().into_vec())
}

/// What was typed, with a path that begins at the working directory (`.`, `./x`, `../x`) made absolute. Anything else is as it
/// was: a session may have any name.
pub fn absolute(typed: &[u8]) -> std::io::Result<Cow<'_, [u8]>> {
    let first = typed.split(|&byte| byte == b'/').next();
    if !matches!(first, Some(b"." | b"..")) {
        return Ok(Cow::Borrowed(typed));
    }
    let path = match resolved(typed) {
        Some(path) => path,
        // A directory that is gone is a home, too; symlinks and `..` of its path cannot be followed.
        None => std::path::absolute(OsStr::from_bytes(typed))?.into_os_string().into_vec(),
    };
    Ok(Cow::Owned(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_from_the_working_directory_is_made_absolute() -> std::io::Result<()> {
        let here = std::env::current_dir()?.canonicalize()?;
        let src = here.join("src");
        for (typed, expected) in [(".", here.as_path()), ("./src", &src), ("./src/../src", &src)] {
            assert_eq!(&*absolute(typed.as_bytes())?, expected.as_os_str().as_bytes(), "{typed}");
        }
        for name in ["alpha", "/x/y", ".hidden", "a/b", ""] {
            assert_eq!(&*absolute(name.as_bytes())?, name.as_bytes(), "a name or an absolute path");
        }
        Ok(())
    }
}

//! Paths as the kernel programs send them, and as the map holds them.

use alloc::vec::Vec;

use observer_common::record::path_flag;

use crate::model::process::Bytes;

/// Begins the name of a file that memfd_create(2) made.
const MEMFD: &[u8] = b"memfd:";

/// A path as a record holds it: the components from the leaf up, each followed by a NUL. [`join_path`] makes
/// the path of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawPath<'a> {
    /// The components.
    pub components: &'a [u8],
    /// Bits of [`observer_common::record::path_flag`].
    pub flags: u32,
}

/// Returns the absolute path of `raw`, or `None` where it is torn or incomplete. No components at all mean
/// `/`.
///
/// A component that no directory entry can have (empty, with a slash, `.` or `..`) makes the whole path torn.
/// The name of a file in memory (`memfd:`) is no directory entry: it stands alone, and may have slashes.
pub fn join_path(raw: RawPath<'_>) -> Option<Bytes> {
    if raw.flags & (path_flag::FAULT | path_flag::TRUNCATED) != 0 {
        return None;
    }
    if raw.components.is_empty() {
        return Some(Bytes::from(b"/".as_slice()));
    }
    let mut rest = raw.components.strip_suffix(b"\0")?;
    let mut path = Vec::with_capacity(raw.components.len());
    loop {
        let at = rest.iter().rposition(|&byte| byte == 0);
        let component = at.map_or(Some(rest), |at| rest.get(at + 1..))?;
        let stands_alone = at.is_none() && path.is_empty() && raw.flags & path_flag::UNREACHABLE != 0;
        let is_memfd = stands_alone && component.starts_with(MEMFD);
        if matches!(component, b"" | b"." | b"..") || (component.contains(&b'/') && !is_memfd) {
            return None;
        }
        path.push(b'/');
        path.extend_from_slice(component);
        match at {
            Some(at) => rest = rest.get(..at)?,
            None => return Some(Bytes::from(path)),
        }
    }
}

/// Returns whether `exe` is a file in memory, whose name says nothing of where it came from.
pub(crate) fn is_in_memory(exe: &[u8]) -> bool {
    exe.strip_prefix(b"/").is_some_and(|name| name.starts_with(MEMFD))
}

/// Returns whether `raw` is `path`, without building the path. This saves one allocation for each row of a
/// pass.
pub(crate) fn path_is(raw: RawPath<'_>, path: &[u8]) -> bool {
    if raw.flags & (path_flag::FAULT | path_flag::TRUNCATED) != 0 {
        return false;
    }
    if raw.components.is_empty() {
        return path == b"/";
    }
    let Some(path) = path.strip_prefix(b"/") else { return false };
    let Some(components) = raw.components.strip_suffix(b"\0") else { return false };
    components.len() == path.len()
        && components.rsplit(|&byte| byte == 0).eq(path.split(|&byte| byte == b'/'))
}

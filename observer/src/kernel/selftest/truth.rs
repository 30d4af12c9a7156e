//! What the system calls return, with which the self-test compares.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use observer_core::process::{DirId, Uids};

/// `PROC_CGROUP_INIT_INO` (include/linux/proc_ns.h): inode number of the initial cgroup namespace, on every kernel.
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;
const CGROUP2_MAGIC: libc::c_long = 0x6367_7270;
/// Where the v2 hierarchy is mounted: alone, or beside v1 hierarchies.
const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where a directory may be made that is removed at once. First where tmpfs usually is, which gives out file handles.
const PLACES: [&CStr; 3] = [
    c"/dev/shm/observer-self-test-XXXXXX",
    c"/run/observer-self-test-XXXXXX",
    c"/tmp/observer-self-test-XXXXXX",
];

/// Returns device, inode and mount of a directory.
pub fn directory(path: &CStr) -> Result<DirId> {
    // SAFETY: fills a struct of plain integers.
    let (asked, found) = unsafe {
        let mut found = std::mem::zeroed::<libc::statx>();
        let asked = libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            0,
            libc::STATX_INO | libc::STATX_MNT_ID,
            &raw mut found,
        );
        (asked, found)
    };
    ensure!(asked == 0, "look at {}: {}", path.to_string_lossy(), io::Error::last_os_error());
    Ok(DirId {
        dev: found.stx_dev_major << 20 | found.stx_dev_minor,
        ino: found.stx_ino,
        mnt_id: u32::try_from(found.stx_mnt_id).unwrap_or(0),
        ..DirId::default()
    })
}

/// Returns the generation of a directory, which its file handle contains; `None`: its file system gives out no handles,
/// or handles of a form that is not known here.
pub fn generation(path: &CStr) -> Option<u32> {
    /// `MAX_HANDLE_SZ` (include/linux/exportfs.h), in words.
    const WORDS: usize = 32;
    #[repr(C)]
    struct Handle {
        bytes: u32,
        form: libc::c_int,
        words: [u32; WORDS],
    }
    let mut handle = Handle { bytes: (WORDS * 4) as u32, form: 0, words: [0; WORDS] };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: a terminated string, and buffers of the sizes that the call fills.
    let asked = unsafe {
        let (handle, mount_id) = (&raw mut handle, &raw mut mount_id);
        libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), handle, mount_id, 0)
    };
    let word = match (asked, handle.form, handle.bytes) {
        // `FILEID_INO32_GEN`: the inode number, and the generation.
        (0, 1, 8) => 1,
        // tmpfs: the generation, and the inode number in two words.
        (0, 1, 12) => 0,
        // `XFS_FILEID_INO64_GEN`: the inode number in two words, and the generation.
        (0, 0x81, 12) => 2,
        // `FILEID_BTRFS_WITHOUT_PARENT`: inode number and subvolume in two words each, and the generation.
        (0, 0x4d, _) => 4,
        _ => return None,
    };
    handle.words.get(word).copied()
}

/// Converts a device number from stat(2)'s encoding to the kernel's (major << 20 | minor).
pub fn kernel_dev(dev: u64) -> u32 {
    (libc::major(dev) << 20) | libc::minor(dev)
}

/// Returns sid and pgid of a child.
pub fn ids(pid: u32) -> (u32, u32) {
    let pid = pid.cast_signed();
    // SAFETY: two queries without side effects.
    unsafe { (libc::getsid(pid).cast_unsigned(), libc::getpgid(pid).cast_unsigned()) }
}

/// Returns the user ids that children inherit.
pub fn own_uids() -> Uids {
    let (mut uid, mut euid, mut suid) = (0, 0, 0);
    // SAFETY: writes three integers.
    unsafe { libc::getresuid(&raw mut uid, &raw mut euid, &raw mut suid) };
    Uids { uid, euid, suid }
}

/// The cgroup of this process in the v2 hierarchy, which children inherit.
pub struct OwnCgroup {
    /// The path; `None` within a cgroup namespace, where only a part of it is visible.
    pub path: Option<Vec<u8>>,
    /// The id; `None` if the hierarchy is not mounted.
    pub id: Option<u64>,
}

impl OwnCgroup {
    /// Reads it; `None` if the kernel has no v2 hierarchy.
    pub fn own() -> Option<Self> {
        let text = fs::read("/proc/self/cgroup").ok()?;
        let path = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
        let is_v2 = |mount: &&str| {
            CString::new(*mount).is_ok_and(|mount| {
                // SAFETY: fills a struct of plain integers.
                unsafe {
                    let mut found = std::mem::zeroed::<libc::statfs>();
                    libc::statfs(mount.as_ptr(), &raw mut found) == 0 && found.f_type == CGROUP2_MAGIC
                }
            })
        };
        let directory = |mount: &str| [mount.as_bytes(), path].concat();
        let id = CGROUP_MOUNTS.iter().copied().find(is_v2).and_then(|mount| {
            fs::metadata(OsStr::from_bytes(&directory(mount))).ok().map(|directory| directory.ino())
        });
        let initial = fs::metadata("/proc/self/ns/cgroup")
            .is_ok_and(|namespace| namespace.ino() == INITIAL_CGROUP_NAMESPACE);
        Some(Self { path: initial.then(|| path.to_vec()), id })
    }
}

/// A directory made for one child, and removed when dropped.
pub struct TestDirectory {
    /// The path.
    pub path: CString,
    made: bool,
}

impl TestDirectory {
    /// Makes a new directory. If that is not possible, stands for the root, which is never renamed or deleted.
    pub fn make() -> Self {
        for place in PLACES {
            let mut template = place.to_bytes_with_nul().to_vec();
            // SAFETY: a terminated string that mkdtemp fills in place.
            let made = unsafe { !libc::mkdtemp(template.as_mut_ptr().cast()).is_null() };
            if let (true, Ok(path)) = (made, CString::from_vec_with_nul(template)) {
                return Self { path, made };
            }
        }
        Self { path: c"/".to_owned(), made: false }
    }

    /// Renames the directory; returns false if none was made.
    pub fn rename(&mut self) -> Result<bool> {
        if self.made {
            let other =
                CString::new([self.path.to_bytes(), b"-moved"].concat()).context("name a directory")?;
            let (from, to) = (OsStr::from_bytes(self.path.to_bytes()), OsStr::from_bytes(other.to_bytes()));
            fs::rename(from, to).with_context(|| format!("rename {}", from.to_string_lossy()))?;
            self.path = other;
        }
        Ok(self.made)
    }

    /// Deletes the directory; returns false if none was made.
    pub fn delete(&mut self) -> Result<bool> {
        let deleted = self.made;
        if std::mem::take(&mut self.made) {
            let path = OsStr::from_bytes(self.path.to_bytes());
            fs::remove_dir(path).with_context(|| format!("delete {}", path.to_string_lossy()))?;
        }
        Ok(deleted)
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // An error has nowhere to go here; a directory that stays behind is empty.
        let _ = self.delete();
    }
}

//! The dentry walk: from a directory up to the root of its mount namespace, and the like for kernfs.
//!
//! Components are appended from the leaf up, each followed by a NUL; the daemon turns them round. The position and
//! all else that differs from step to step stands in a map value and is read back by volatile loads: to the
//! verifier it is an unknown number then, and the states of all steps converge. As local variables the same
//! loop runs into the verifier's limit of 1,000,000 instructions (seen).

use observer_common::limits::{PATH_MAX, PATH_STEPS_MAX};
use observer_common::record::path_flag;

use crate::maps::TAIL_MASK;
use crate::task::{Access, Probed, is_null, offset, read, read_bytes};

/// Steps that one call of a walker takes; several calls make a walk. A walker is a global function, which the verifier
/// looks at once and on its own: the cost of a walk is that of these steps, however many calls and callers there are.
const STEPS_PER_CALL: usize = 32;
/// Calls that make the longest walk.
const CALLS_MAX: usize = PATH_STEPS_MAX / STEPS_PER_CALL;

/// State of a walk.
#[repr(C)]
pub struct Walk {
    /// Bytes of the tail in use.
    pub pos: u64,
    /// Where the section in progress began.
    start: u64,
    /// `struct dentry` or `struct kernfs_node` of this step.
    node: u64,
    /// `struct mount` of this step.
    mount: u64,
    /// Its root dentry.
    root: u64,
    /// `struct mnt_namespace` whose root the walk should reach.
    namespace: u64,
    /// [`path_flag`] bits.
    flags: u64,
    /// Digest of every link that was followed.
    digest: u64,
    /// 1 while the same way is gone once more, without copying names.
    again: u64,
}

/// Makes the walker of one scratch: a function named `$name` that takes up to [`STEPS_PER_CALL`] steps, and returns 1
/// when the walk is over.
macro_rules! walker {
    ($name:ident, $scratch:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name() -> u64 {
            let Some(scratch) = $scratch.get_ptr_mut(0) else { return 1 };
            // SAFETY: the per-CPU map value of the calling program, which is not re-entered on one CPU.
            let (walk, tail) = unsafe { (&raw mut (*scratch).walk, (&raw mut (*scratch).tail).cast::<u8>()) };
            crate::path::steps(walk, tail)
        }
    };
}
pub(crate) use walker;

/// Reads a field of a walk so that neither compiler nor verifier keeps what it knew of it.
macro_rules! load {
    ($walk:expr, $field:ident) => {
        // SAFETY: `$walk` points into a map value.
        unsafe { core::ptr::read_volatile(&raw const (*$walk).$field) }
    };
}

macro_rules! store {
    ($walk:expr, $field:ident, $value:expr) => {{
        let value = $value;
        // SAFETY: `$walk` points into a map value.
        unsafe { core::ptr::write_volatile(&raw mut (*$walk).$field, value) }
    }};
}
pub(crate) use {load, store};

/// One section of a tail, as written.
#[derive(Clone, Copy)]
pub struct Section {
    /// Its bytes.
    pub len: u32,
    /// [`path_flag`] bits.
    pub flags: u32,
}

/// Empties the tail.
#[inline(always)]
pub fn reset(walk: *mut Walk) {
    store!(walk, pos, 0);
}

/// Appends the path of `(mnt, dentry)` by the caller's `walker`. `namespace`: the `struct mnt_namespace` whose root it
/// should reach.
#[inline(always)]
pub fn append(
    walk: *mut Walk,
    mnt: u64,
    dentry: u64,
    namespace: u64,
    walker: extern "C" fn() -> u64,
) -> Section {
    store!(walk, start, load!(walk, pos));
    if is_null(dentry) {
        return Section { len: 0, flags: path_flag::FAULT };
    }
    store!(walk, namespace, namespace);
    let deleted = if unlinked(dentry) { path_flag::DELETED } else { 0 };
    store!(walk, flags, u64::from(path_flag::TRUNCATED | deleted));
    store!(walk, again, 0);
    go(walk, mnt, dentry, walker);
    // Gone twice: links that read the same both times all stood at once between the two. Others are of a rename or a
    // mount in progress, and the path may be one that never was.
    let (digest, mut flags) = (load!(walk, digest), load!(walk, flags) as u32);
    store!(walk, again, 1);
    go(walk, mnt, dentry, walker);
    if digest != load!(walk, digest) && flags & path_flag::TRUNCATED == 0 {
        flags |= path_flag::FAULT;
    }
    Section { len: (load!(walk, pos) - load!(walk, start)) as u32, flags }
}

/// Goes the whole way up once.
#[inline(always)]
fn go(walk: *mut Walk, mnt: u64, dentry: u64, walker: extern "C" fn() -> u64) {
    store!(walk, node, dentry);
    store!(walk, mount, mnt.wrapping_sub(u64::from(offset!(mount_mnt))));
    store!(walk, root, Probed::u64(mnt, offset!(vfsmount_root)));
    store!(walk, digest, 0);
    for _ in 0..CALLS_MAX {
        if walker() != 0 {
            break;
        }
    }
}

/// Takes a link into the digest.
#[inline(always)]
fn digest(walk: *mut Walk, link: u64) {
    store!(walk, digest, load!(walk, digest).rotate_left(7) ^ link);
}

/// Body of a walker: 1 when the walk is over.
#[inline(always)]
pub fn steps(walk: *mut Walk, tail: *mut u8) -> u64 {
    for _ in 0..STEPS_PER_CALL {
        let dentry = load!(walk, node);
        if dentry == load!(walk, root) {
            let mount = load!(walk, mount);
            let up = Probed::u64(mount, offset!(mount_parent));
            if up == mount || up == 0 {
                let reached = Probed::u64(mount, offset!(mount_ns)) == load!(walk, namespace);
                return finish(walk, if reached { 0 } else { path_flag::UNREACHABLE });
            }
            let mountpoint = Probed::u64(mount, offset!(mount_mountpoint));
            digest(walk, up ^ mountpoint);
            store!(walk, node, mountpoint);
            store!(walk, mount, up);
            let up_mnt = up.wrapping_add(u64::from(offset!(mount_mnt)));
            store!(walk, root, Probed::u64(up_mnt, offset!(vfsmount_root)));
            continue;
        }
        let (parent, hash_len, name) = entry(dentry);
        // The hash tells names apart that stand in the same place, within the dentry.
        digest(walk, parent ^ name.rotate_left(24) ^ hash_len);
        let len = hash_len >> 32;
        if parent == dentry || parent == 0 {
            // The top of a tree that hangs nowhere, or a read that failed. A file without a directory (memfd) has its
            // name here, the root of a file system "/".
            if parent == 0 || len <= 1 {
                return finish(walk, path_flag::UNREACHABLE);
            }
            return match component(walk, tail, name, len) {
                Step::Done => finish(walk, path_flag::UNREACHABLE | path_flag::DELETED),
                Step::Full => 1,
                Step::Fault => finish(walk, path_flag::FAULT),
            };
        }
        match component(walk, tail, name, len) {
            Step::Done => {}
            Step::Full => return 1,
            Step::Fault => return finish(walk, path_flag::FAULT),
        }
        store!(walk, node, parent);
    }
    0
}

/// Parent, hash and length of the name (`hash_len`), and the name's address of a dentry: by one read where they stand in a row, as they do
/// on every kernel seen.
#[inline(always)]
fn entry(dentry: u64) -> (u64, u64, u64) {
    let at = offset!(dentry_parent);
    if offset!(dentry_hash_len) == at + 8 && offset!(dentry_name) == at + 16 {
        let [parent, hash_len, name] = read::<[u64; 3]>(dentry.wrapping_add(u64::from(at)));
        return (parent, hash_len, name);
    }
    let hash_len = Probed::u64(dentry, offset!(dentry_hash_len));
    (Probed::u64(dentry, at), hash_len, Probed::u64(dentry, offset!(dentry_name)))
}

/// The walk came to its end, with these flags beside those it has.
#[inline(always)]
fn finish(walk: *mut Walk, flags: u32) -> u64 {
    let flags = load!(walk, flags) & !u64::from(path_flag::TRUNCATED) | u64::from(flags);
    store!(walk, flags, flags);
    1
}

/// Appends the path of a kernfs node (a cgroup) within its hierarchy.
#[inline(always)]
pub fn append_kernfs(walk: *mut Walk, tail: *mut u8, node: u64) -> Section {
    /// Deeper cgroups are flagged as truncated.
    const STEPS: usize = 32;
    store!(walk, start, load!(walk, pos));
    if is_null(node) {
        return Section { len: 0, flags: path_flag::FAULT };
    }
    store!(walk, node, node);
    let mut flags = path_flag::TRUNCATED;
    for _ in 0..STEPS {
        let node = load!(walk, node);
        let parent = Probed::u64(node, offset!(kernfs_parent));
        if parent == 0 {
            flags &= !path_flag::TRUNCATED;
            break;
        }
        let name = Probed::u64(node, offset!(kernfs_name));
        let at = tail.wrapping_add((load!(walk, pos) & TAIL_MASK) as usize);
        // SAFETY: 256 bytes beyond a masked position lie within the tail; the helper checks the source.
        let copied = unsafe {
            aya_ebpf::helpers::generated::bpf_probe_read_kernel_str(at.cast(), 256, name as *const _)
        };
        if copied <= 0 {
            flags |= path_flag::FAULT;
            break;
        }
        store!(walk, pos, load!(walk, pos) + (copied as u64 & 0x1ff));
        if load!(walk, pos) - load!(walk, start) > (PATH_MAX - 256) as u64 {
            break;
        }
        store!(walk, node, parent);
    }
    Section { len: (load!(walk, pos) - load!(walk, start)) as u32, flags }
}

enum Step {
    Done,
    Full,
    Fault,
}

/// Appends one component and its NUL.
#[inline(always)]
fn component(walk: *mut Walk, tail: *mut u8, name: u64, len: u64) -> Step {
    let len = len & 0xff;
    if load!(walk, again) != 0 {
        return Step::Done;
    }
    if load!(walk, pos) - load!(walk, start) + len + 1 > PATH_MAX as u64 {
        return Step::Full;
    }
    let at = load!(walk, pos) & TAIL_MASK;
    if !read_bytes(tail.wrapping_add(at as usize), len, name) {
        return Step::Fault;
    }
    let end = at + len;
    // SAFETY: at most 255 bytes beyond a masked position: within the tail.
    unsafe { core::ptr::write_volatile(tail.wrapping_add(end as usize), 0) };
    store!(walk, pos, load!(walk, pos) + len + 1);
    Step::Done
}

/// `d_unlinked`: unhashed, and not the root of its tree.
#[inline(always)]
fn unlinked(dentry: u64) -> bool {
    Probed::u64(dentry, offset!(dentry_hash_pprev)) == 0
        && Probed::u64(dentry, offset!(dentry_parent)) != dentry
}

//! The path walks: from a dentry up to the root of its mount namespace, and from a kernfs node up to the root of its
//! hierarchy.
//!
//! A walk appends components from the leaf up, each followed by a NUL; the daemon reverses them. The position, and
//! everything else that differs from step to step, stands in a map value and is read back by volatile loads. The verifier
//! then treats it as an unknown number, and the states of all steps converge. With local variables the same loop reaches
//! the verifier's limit of 1,000,000 instructions (seen on 6.1 and 6.18).

use observer_common::limits::{PATH_MAX, PATH_STEPS_MAX};
use observer_common::record::path_flag;

use crate::access::{Access, Probed, is_null, offset, read, read_bytes};
use crate::maps::{TAIL_MASK, Walk};

/// Steps that one call of a walker takes; a walk is several calls. A walker is a global function, which the verifier checks
/// once and on its own (from 5.6 on), so a walk costs the verifier these steps, however many calls and callers there are.
const STEPS_PER_CALL: usize = 32;
/// Calls of the longest walk.
const CALLS_MAX: usize = PATH_STEPS_MAX / STEPS_PER_CALL;

/// Defines the walker of one scratch: a function named `$name` that takes up to [`STEPS_PER_CALL`] steps with `$steps` and
/// returns 1 when the walk is complete.
macro_rules! walker {
    ($name:ident, $scratch:ident, $steps:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name() -> u64 {
            let Some(scratch) = $scratch.get_ptr_mut(0) else { return 1 };
            // SAFETY: the per-CPU map value of the calling program, which is not re-entered on one CPU.
            let (walk, tail) = unsafe { (&raw mut (*scratch).walk, (&raw mut (*scratch).tail).cast::<u8>()) };
            crate::path::$steps(walk, tail)
        }
    };
}
pub(crate) use walker;

/// Reads a field of a walk so that neither the compiler nor the verifier keeps what it knew of the value.
macro_rules! load {
    ($walk:expr, $field:ident) => {
        // SAFETY: `$walk` points into a map value.
        unsafe { core::ptr::read_volatile(&raw const (*$walk).$field) }
    };
}

/// Writes a field of a walk.
macro_rules! store {
    ($walk:expr, $field:ident, $value:expr) => {{
        let value = $value;
        // SAFETY: `$walk` points into a map value.
        unsafe { core::ptr::write_volatile(&raw mut (*$walk).$field, value) }
    }};
}
pub(crate) use {load, store};

/// One section of a tail.
#[derive(Clone, Copy)]
pub struct Section {
    /// Bytes in the section.
    pub len: u32,
    /// [`path_flag`] bits.
    pub flags: u32,
}

/// Empties the tail.
#[inline(always)]
pub fn reset(walk: *mut Walk) {
    store!(walk, pos, 0);
}

/// Appends the path of `(mnt, dentry)` with the caller's `walker`. `namespace` is the `struct mnt_namespace` whose root the
/// path should reach.
///
/// The path is walked twice. The second walk copies nothing and compares a digest of every link. Links that read the same
/// both times all existed at one time between the two walks. Otherwise a rename or a mount was in progress, the path may be
/// one that never existed, and it is flagged as [`path_flag::FAULT`]. So is a path of which a dentry was in the middle of a
/// move, which both walks would read alike.
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
    walk_up(walk, mnt, dentry, walker);
    let (digest, mut flags) = (load!(walk, digest), load!(walk, flags) as u32);
    store!(walk, again, 1);
    walk_up(walk, mnt, dentry, walker);
    flags |= load!(walk, flags) as u32 & path_flag::FAULT;
    if digest != load!(walk, digest) && flags & path_flag::TRUNCATED == 0 {
        flags |= path_flag::FAULT;
    }
    Section { len: (load!(walk, pos) - load!(walk, start)) as u32, flags }
}

/// Walks from `dentry` to the top once.
#[inline(always)]
fn walk_up(walk: *mut Walk, mnt: u64, dentry: u64, walker: extern "C" fn() -> u64) {
    store!(walk, node, dentry);
    store!(walk, mount, mnt.wrapping_sub(u64::from(offset!(mount_mnt))));
    store!(walk, root, Probed::u64(mnt, offset!(vfsmount_root)));
    store!(walk, digest, 0);
    run(walker);
}

/// Calls a walker until the walk is complete or too long.
#[inline(always)]
fn run(walker: extern "C" fn() -> u64) {
    for _ in 0..CALLS_MAX {
        if walker() != 0 {
            break;
        }
    }
}

/// Adds a link to the digest.
#[inline(always)]
fn add_to_digest(walk: *mut Walk, link: u64) {
    store!(walk, digest, load!(walk, digest).rotate_left(7) ^ link);
}

/// Body of a walker from a dentry to the root of a mount namespace; returns 1 when the walk is complete.
#[inline(always)]
pub fn dentry_steps(walk: *mut Walk, tail: *mut u8) -> u64 {
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
            add_to_digest(walk, up ^ mountpoint);
            store!(walk, node, mountpoint);
            store!(walk, mount, up);
            let up_mnt = up.wrapping_add(u64::from(offset!(mount_mnt)));
            store!(walk, root, Probed::u64(up_mnt, offset!(vfsmount_root)));
            continue;
        }
        let Entry { parent, hash_len, name, moving } = entry(dentry);
        store!(walk, flags, load!(walk, flags) | moving * u64::from(path_flag::FAULT));
        // The hash distinguishes short names, which all stand at the same place within the dentry.
        add_to_digest(walk, parent ^ name.rotate_left(24) ^ hash_len);
        let len = hash_len >> 32;
        if parent == dentry || parent == 0 {
            // The top of a tree that is not mounted, or a read that failed. A file without a directory (memfd) has its name
            // here; the name of a file system's root is "/".
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

/// What a walk reads of a dentry.
struct Entry {
    parent: u64,
    /// The hash and the length of the name.
    hash_len: u64,
    /// Address of the name.
    name: u64,
    /// 1 while the dentry is being changed: `__d_move` (fs/dcache.c) sets the name before the parent, and the dentry's
    /// sequence count is odd meanwhile. Otherwise 0.
    moving: u64,
}

/// Reads a dentry, in one read if its members are adjacent, as they are on every kernel that is tested.
#[inline(always)]
fn entry(dentry: u64) -> Entry {
    let at = offset!(dentry_parent);
    let adjacent = offset!(dentry_hash_len) == at + 8 && offset!(dentry_name) == at + 16;
    if adjacent && offset!(dentry_seq) + 20 == at {
        // Flags and sequence count, two words that are not needed, and the three.
        let [counted, _, _, parent, hash_len, name] =
            read::<[u64; 6]>(dentry.wrapping_add(u64::from(at - 24)));
        return Entry { parent, hash_len, name, moving: counted >> 32 & 1 };
    }
    let hash_len = Probed::u64(dentry, offset!(dentry_hash_len));
    let moving = u64::from(Probed::u32(dentry, offset!(dentry_seq)) & 1);
    Entry {
        parent: Probed::u64(dentry, at),
        hash_len,
        name: Probed::u64(dentry, offset!(dentry_name)),
        moving,
    }
}

/// Ends the walk, adding `flags` to those that are set, and returns 1.
#[inline(always)]
fn finish(walk: *mut Walk, flags: u32) -> u64 {
    let flags = load!(walk, flags) & !u64::from(path_flag::TRUNCATED) | u64::from(flags);
    store!(walk, flags, flags);
    1
}

/// Appends the path of a kernfs node (a cgroup) within its hierarchy, with the caller's `walker`.
#[inline(always)]
pub fn append_kernfs(walk: *mut Walk, node: u64, walker: extern "C" fn() -> u64) -> Section {
    store!(walk, start, load!(walk, pos));
    if is_null(node) {
        return Section { len: 0, flags: path_flag::FAULT };
    }
    store!(walk, node, node);
    store!(walk, flags, u64::from(path_flag::TRUNCATED));
    run(walker);
    Section { len: (load!(walk, pos) - load!(walk, start)) as u32, flags: load!(walk, flags) as u32 }
}

/// Body of a walker from a kernfs node to the root of its hierarchy; returns 1 when the walk is complete.
#[inline(always)]
pub fn kernfs_steps(walk: *mut Walk, tail: *mut u8) -> u64 {
    for _ in 0..STEPS_PER_CALL {
        let node = load!(walk, node);
        let parent = Probed::u64(node, offset!(kernfs_parent));
        if parent == 0 {
            return finish(walk, 0);
        }
        let name = Probed::u64(node, offset!(kernfs_name));
        let at = tail.wrapping_add((load!(walk, pos) & TAIL_MASK) as usize);
        // SAFETY: 256 bytes beyond a masked position lie within the tail; the helper checks the source.
        let copied = unsafe {
            aya_ebpf::helpers::generated::bpf_probe_read_kernel_str(at.cast(), 256, name as *const _)
        };
        if copied <= 0 {
            return finish(walk, path_flag::FAULT);
        }
        store!(walk, pos, load!(walk, pos) + (copied as u64 & 0x1ff));
        if load!(walk, pos) - load!(walk, start) > (PATH_MAX - 256) as u64 {
            return 1;
        }
        store!(walk, node, parent);
    }
    0
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

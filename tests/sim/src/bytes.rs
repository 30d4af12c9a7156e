//! Writes records in the machine's byte order, field by field in the order of their layout (`observer_common::record`).

use observer_core::ProcessKey;
use observer_core::process::{DirId, Tty};

/// A record in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes(Vec<u8>);

impl Bytes {
    /// Begins a record of `kind`, which thread `tid` of the process makes at `at`.
    pub fn header(kind: u32, at: u64, key: ProcessKey, tid: u32) -> Self {
        let head = Self(Vec::with_capacity(256)).u32(kind).u32(0).u64(at);
        head.u64(key.start_boottime.0).u32(key.tgid.0).u32(tid)
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// The length of `section`, which follows later.
    pub fn len_of(self, section: &[u8]) -> Self {
        self.u32(u32::try_from(section.len()).unwrap_or(u32::MAX))
    }

    /// A name in 16 bytes.
    pub fn name(self, name: &[u8]) -> Self {
        let mut padded = [0; 16];
        padded.iter_mut().zip(name).for_each(|(slot, byte)| *slot = *byte);
        self.raw(&padded)
    }

    pub fn dir(self, id: DirId) -> Self {
        // The decoder keeps the part of the address that tells inodes apart.
        let inode = u64::from(id.object) << 6;
        self.u64(id.ino).u64(inode).u32(id.dev).u32(id.mnt_id).u32(id.generation).u32(0)
    }

    pub fn tty_name(self, tty: Option<Tty>) -> Self {
        self.raw(&tty.map_or([0; 16], |tty| tty.name))
    }

    /// Sets the length in the header.
    pub fn done(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.splice(4..8, len.to_ne_bytes());
        self.0
    }
}

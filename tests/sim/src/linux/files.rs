//! Directories that are renamed, deleted and made again, and the `fs_struct`s that tasks share.

use std::collections::BTreeMap;

use observer_common::record::path_flag;
use observer_core::process::DirId;

/// Directories that there are at a time, with those that are deleted and in use.
const DIRS_MAX: usize = 24;
/// Names of directories.
const NAMES: [&str; 6] = ["a", "b", "c", "work", "x", "y"];

/// Place of a directory in [`Files::dirs`].
pub(crate) type DirNo = usize;

#[derive(Clone, Debug)]
struct Dir {
    name: &'static str,
    parent: DirNo,
    ino: u64,
    generation: u32,
    is_deleted: bool,
}

/// The file system.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dirs: BTreeMap<DirNo, Dir>,
    /// The directory of each `fs_struct`.
    pwd: BTreeMap<u32, DirNo>,
    next_fs: u32,
    next_dir: DirNo,
    generation: u32,
}

impl Files {
    pub fn new() -> Self {
        let dir = |name, parent, ino| Dir { name, parent, ino, generation: 1, is_deleted: false };
        let dirs = [
            dir("", 0, 2),
            dir("srv", 0, 3),
            dir("tmp", 0, 4),
            dir("a", 1, 5),
            dir("b", 1, 6),
            dir("x", 3, 7),
            dir("c", 1, 8),
        ];
        let next_dir = dirs.len();
        Self {
            dirs: dirs.into_iter().enumerate().collect(),
            pwd: BTreeMap::new(),
            next_fs: 1,
            next_dir,
            generation: 1,
        }
    }

    /// Makes an `fs_struct` with this directory.
    pub fn new_fs(&mut self, dir: DirNo) -> u32 {
        self.next_fs += 1;
        self.pwd.insert(self.next_fs, dir);
        self.next_fs
    }

    pub fn copy(&mut self, fs: u32) -> u32 {
        self.new_fs(self.pwd(fs))
    }

    pub fn pwd(&self, fs: u32) -> DirNo {
        self.pwd.get(&fs).copied().unwrap_or_default()
    }

    pub fn set_pwd(&mut self, fs: u32, dir: DirNo) {
        self.pwd.insert(fs, dir);
    }

    /// Forgets the `fs_struct`s that no task has, and the deleted directories that none is in.
    pub fn release(&mut self, used: impl Fn(u32) -> bool) {
        self.pwd.retain(|&fs, _| used(fs));
        loop {
            let in_use = |no: DirNo| {
                self.pwd.values().any(|&dir| dir == no) || self.dirs.values().any(|dir| dir.parent == no)
            };
            let unused = self.dirs.iter().find(|&(&no, dir)| dir.is_deleted && !in_use(no));
            let Some((&no, _)) = unused else { return };
            self.dirs.remove(&no);
        }
    }

    /// A directory that exists.
    pub fn pick(&self, by: u32) -> DirNo {
        let existing: Vec<DirNo> =
            self.dirs.iter().filter(|(_, dir)| !dir.is_deleted).map(|(&no, _)| no).collect();
        existing.get(by as usize % existing.len().max(1)).copied().unwrap_or_default()
    }

    /// The identity of a directory, seen from a mount namespace.
    pub fn id(&self, no: DirNo, mnt_ns: u32) -> DirId {
        let Some(dir) = self.dirs.get(&no) else { return DirId::default() };
        let object = u32::try_from(no).unwrap_or_default() + 1;
        DirId { ino: dir.ino, dev: 8, mnt_id: mnt_ns, generation: dir.generation, object }
    }

    /// The components from the leaf up, each followed by a NUL, and the flags of the path.
    pub fn path(&self, no: DirNo) -> (Vec<u8>, u32) {
        let (mut components, mut at) = (Vec::new(), no);
        while let Some(dir) = self.dirs.get(&at).filter(|_| at != 0) {
            components.extend(dir.name.as_bytes());
            components.push(0);
            at = dir.parent;
        }
        let is_deleted = self.dirs.get(&no).is_some_and(|dir| dir.is_deleted);
        (components, if is_deleted { path_flag::DELETED } else { 0 })
    }

    fn is_free(&self, parent: DirNo, name: &str) -> bool {
        !self.dirs.values().any(|dir| dir.parent == parent && dir.name == name && !dir.is_deleted)
    }

    fn is_below(&self, mut no: DirNo, above: DirNo) -> bool {
        while no != 0 {
            if no == above {
                return true;
            }
            no = self.dirs.get(&no).map_or(0, |dir| dir.parent);
        }
        above == 0
    }

    /// rename(2) to a name in the same or another directory. Returns whether it succeeded.
    pub fn rename(&mut self, no: DirNo, parent: DirNo, name: u32) -> bool {
        let Some(name) = NAMES.get(name as usize % NAMES.len()).copied() else { return false };
        if no <= 2 || self.is_below(parent, no) || !self.is_free(parent, name) {
            return false;
        }
        let Some(dir) = self.dirs.get_mut(&no) else { return false };
        (dir.name, dir.parent) = (name, parent);
        true
    }

    /// rename(2) with RENAME_EXCHANGE. Returns whether it succeeded.
    pub fn exchange(&mut self, one: DirNo, other: DirNo) -> bool {
        if one <= 2 || other <= 2 || self.is_below(one, other) || self.is_below(other, one) {
            return false;
        }
        let place = |dir: Option<&Dir>| dir.map(|dir| (dir.name, dir.parent));
        let (from, to) = (place(self.dirs.get(&one)), place(self.dirs.get(&other)));
        for (no, place) in [(one, to), (other, from)] {
            if let (Some(dir), Some(place)) = (self.dirs.get_mut(&no), place) {
                (dir.name, dir.parent) = place;
            }
        }
        true
    }

    /// rmdir(2). Returns whether it succeeded.
    pub fn remove(&mut self, no: DirNo) -> bool {
        let is_empty = !self.dirs.values().any(|dir| dir.parent == no && !dir.is_deleted);
        match self.dirs.get_mut(&no) {
            Some(dir) if no > 2 && is_empty => {
                dir.is_deleted = true;
                true
            }
            _ => false,
        }
    }

    /// mkdir(2). The inode number may be that of a directory that is gone.
    pub fn make(&mut self, parent: DirNo, name: u32) {
        let Some(name) = NAMES.get(name as usize % NAMES.len()).copied() else { return };
        if self.dirs.len() >= DIRS_MAX || !self.is_free(parent, name) {
            return;
        }
        self.generation += 1;
        let ino = (2..).find(|ino| !self.dirs.values().any(|dir| dir.ino == *ino)).unwrap_or_default();
        self.dirs
            .insert(self.next_dir, Dir { name, parent, ino, generation: self.generation, is_deleted: false });
        self.next_dir += 1;
    }
}

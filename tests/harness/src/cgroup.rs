//! Control groups for tests.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup of the test's own, removed on drop (once its processes are gone).
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory.
    pub path: PathBuf,
}

impl Cgroup {
    /// A cgroup of the v2 hierarchy. `name` is unique within this test binary; `a/b` makes both.
    pub fn new(name: &str) -> Self {
        Self::below(unified().expect("a v2 hierarchy is mounted below /sys/fs/cgroup"), name)
    }

    /// A cgroup whose processes have at most so many bytes of memory together, in the hierarchy that has the memory
    /// controller: a v1 hierarchy of its own, or v2.
    pub fn limited(name: &str, bytes: u64) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (cgroup, limit) = if v1.join("memory.limit_in_bytes").exists() {
            (Self::below(v1, name), "memory.limit_in_bytes")
        } else {
            let root =
                unified().expect("a hierarchy with the memory controller is mounted below /sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+memory").expect("have the memory controller");
            (Self::below(root, name), "memory.max")
        };
        fs::write(cgroup.path.join(limit), bytes.to_string()).expect("limit the cgroup's memory");
        cgroup
    }

    fn below(root: &Path, name: &str) -> Self {
        let path = root.join(format!("observer-tests-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("create a cgroup");
        Self { path }
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        let listed = fs::read_to_string(self.path.join("cgroup.procs")).expect("list the cgroup's processes");
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

/// The root of the v2 hierarchy.
fn unified() -> Option<&'static Path> {
    let mut roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new).into_iter();
    roots.find(|root| root.join("cgroup.procs").exists() && root.join("cgroup.controllers").exists())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while fs::remove_dir(&self.path).is_err() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

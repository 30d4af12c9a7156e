//! Control groups for tests.

/// A v2 cgroup of the test's own, removed on drop (once its processes are gone).
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory.
    pub path: std::path::PathBuf,
}

impl Cgroup {
    /// `name` is unique within this test binary; `a/b` makes both.
    pub fn new(name: &str) -> Self {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .iter()
            .map(std::path::Path::new)
            .find(|root| root.join("cgroup.procs").exists() && root.join("cgroup.controllers").exists())
            .expect("a v2 hierarchy is mounted below /sys/fs/cgroup");
        let path = root.join(format!("observer-tests-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("create a cgroup");
        Self { path }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while std::fs::remove_dir(&self.path).is_err() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

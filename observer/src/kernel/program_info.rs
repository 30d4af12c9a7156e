//! What the kernel says of a loaded program: `bpf_prog_show_fdinfo` in kernel/bpf/syscall.c.

/// The text of a program's descriptor.
pub struct ProgramInfo(String);

impl ProgramInfo {
    /// Reads it; `None` if that fails.
    pub fn read(fd: i32) -> Option<Self> {
        std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok().map(Self)
    }

    /// The number behind `label`; `None` where this kernel does not give it.
    pub fn number(&self, label: &str) -> Option<u64> {
        self.0.lines().find_map(|line| line.strip_prefix(label))?.trim().parse().ok()
    }
}

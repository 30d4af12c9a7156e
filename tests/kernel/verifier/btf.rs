//! Names of the kernel's types: a program's own name is cut after 15 bytes, so two of the tracepoints' look the same.

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Type names by id.
pub struct Names {
    names: Vec<String>,
}

impl Names {
    /// Of the running kernel.
    pub fn of_kernel() -> Self {
        let bytes = std::fs::read(KERNEL_BTF).expect("the kernel publishes BTF");
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 4).expect("BTF is whole");
            u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
        };
        let header = word(4) as usize;
        let (mut at, strings) = (header + word(8) as usize, header + word(16) as usize);
        let end = at + word(12) as usize;
        let mut names = vec![String::new()];
        while at < end {
            let text = bytes.get(strings + word(at) as usize..).unwrap_or_default();
            let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
            names.push(String::from_utf8_lossy(text).into_owned());
            let info = word(at + 4);
            at += 12 + trailer(info >> 24 & 0x1f, (info & 0xffff) as usize);
        }
        Self { names }
    }

    /// The tracepoint whose type has this id.
    pub fn tracepoint(&self, id: u32) -> Option<String> {
        self.names.get(id as usize)?.strip_prefix("btf_trace_").map(str::to_owned)
    }
}

/// Bytes after the common 12 of a type: <https://docs.kernel.org/bpf/btf.html>.
fn trailer(kind: u32, vlen: usize) -> usize {
    match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * vlen,
        6 | 13 => 8 * vlen,
        _ => panic!("BTF kind {kind} is new"),
    }
}

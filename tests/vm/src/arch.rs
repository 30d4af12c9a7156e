//! The processors for whose kernels machines are booted, and where these differ.

use std::env;
use std::fs;
use std::path::Path;

/// A processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// x86-64
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// arm64
    #[value(name = "arm64", alias = "aarch64")]
    Arm64,
}

/// Everything that is emulated, without what is dear: instructions that copy byte by byte and not word by word, of which kernels
/// and C libraries think that they are fast (`erms`, `fsrm`), a fifth level of page tables, and keys of pages, which empty the
/// emulator's cache of addresses. A machine takes a fifth less processor time without these.
const X86_64_CPU: &str = "max,erms=off,fsrm=off,la57=off,pku=off";
/// Without signed pointers, whose signatures are dear to compute, and without scalable vectors. A shell that starts 150 others
/// took 43 s without these, 50 s with the vectors, and more than 120 s with both.
const ARM64_CPU: &str = "max,pauth=off,sve=off";

/// Ends the name of a series, and the releases, of kernels whose pages have 16 KiB. Debian has none with 64 KiB.
pub(crate) const LARGE_PAGES: &str = "-16k";

impl Arch {
    /// The processor of this machine; `None` if no machine is booted for it.
    pub fn of_this_machine() -> Option<Self> {
        [Self::X86_64, Self::Arm64].into_iter().find(|arch| arch.rust() == env::consts::ARCH)
    }

    /// Rust's name.
    pub fn rust(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// What compilers and directories of libraries call it.
    pub fn triplet(self) -> String {
        format!("{}-linux-gnu", self.rust())
    }

    /// Rust's name of the target.
    pub fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.rust())
    }

    /// The numbers of a series of kernels, and what ends their releases: those of virtual machines, and for arm64 also those
    /// whose pages have 16 KiB.
    pub(crate) fn releases(self, series: &str) -> (&str, String) {
        match (self, series.strip_suffix(LARGE_PAGES)) {
            (Self::Arm64, Some(numbers)) => (numbers, format!("-{}{LARGE_PAGES}", self.debian())),
            _ => (series, format!("-cloud-{}", self.debian())),
        }
    }

    /// What distinguishes its directories in the cache and below `target/`: nothing for the first that there was.
    pub(crate) fn apart(self) -> &'static str {
        match self {
            Self::X86_64 => "",
            Self::Arm64 => "-arm64",
        }
    }

    /// The option that has `cargo xtask vm` boot its machines; empty for the usual one.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::X86_64 => "",
            Self::Arm64 => " --arch arm64",
        }
    }

    /// The emulator, and what it emulates. It has a second serial line of its own on x86-64 only.
    pub(crate) fn machine(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", &["-M", "q35", "-cpu", X86_64_CPU]),
            Self::Arm64 => ("qemu-system-aarch64", &["-M", "virt", "-cpu", ARM64_CPU]),
        }
    }

    /// The device of the first serial line, which is the kernel's console, and of the second, for results.
    pub(crate) fn serial_lines(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("ttyS0", "ttyS1"),
            Self::Arm64 => ("ttyAMA0", "ttyS0"),
        }
    }

    /// Whether a file is a kernel image for it to its last byte.
    pub(crate) fn is_whole_image(self, file: &Path) -> bool {
        let Ok(bytes) = fs::read(file) else { return false };
        let needed = match self {
            Self::X86_64 => boot_protocol_bytes(&bytes),
            Self::Arm64 => pe_bytes(&bytes),
        };
        needed.is_some_and(|needed| bytes.len() as u64 >= needed)
    }
}

/// The size of an x86 image by the boot protocol's header: the setup's size in sectors at 0x1f1, the rest's in units of 16
/// bytes at 0x1f4, `HdrS` at 0x202. A signature may follow.
fn boot_protocol_bytes(image: &[u8]) -> Option<u64> {
    let rest = u32_at(image, 0x1f4)?;
    let magic = image.get(0x202..0x206)? == b"HdrS";
    magic.then_some((u64::from(*image.get(0x1f1)?) + 1) * 512 + u64::from(rest) * 16)
}

/// Where the last section of an arm64 image ends, which is a program of EFI as well: `ARM\x64` at 0x38, the offset of the PE
/// header at 0x3c, in that the machine at 4, the number of sections at 6, the size of the optional header at 20. The sections
/// follow that, each of 40 bytes, with its size in the file at 16 and its place there at 20.
fn pe_bytes(image: &[u8]) -> Option<u64> {
    const ARM64_MACHINE: u16 = 0xaa64;
    let header = u32_at(image, 0x3c)? as usize;
    if image.get(header..header + 4)? != b"PE\0\0" || u16_at(image, header + 4)? != ARM64_MACHINE {
        return None;
    }
    let sections = header + 24 + usize::from(u16_at(image, header + 20)?);
    let ends = (0..usize::from(u16_at(image, header + 6)?)).map(|index| {
        let section = sections + 40 * index;
        Some(u64::from(u32_at(image, section + 16)?) + u64::from(u32_at(image, section + 20)?))
    });
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Zeros, and what is written over them at some offsets, in as many bytes.
    fn file(bytes: usize, written: &[(usize, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 0x206];
        for (at, with) in written {
            file.splice(*at..at + with.len(), with.iter().copied());
        }
        file.resize(bytes, 0);
        file
    }

    /// An x86 image whose header gives 2,064 bytes.
    pub(crate) fn image(bytes: usize) -> Vec<u8> {
        file(bytes, &[(0x1f1, &[3]), (0x1f4, &[1]), (0x202, b"HdrS")])
    }

    /// An arm64 image of two sections: 0x200 bytes at 0x200, and 0x400 at 0x400.
    fn arm64_image(bytes: usize) -> Vec<u8> {
        let header = [(0x3c, &[0x40][..]), (0x40, b"PE\0\0"), (0x44, &[0x64, 0xaa, 2, 0]), (0x54, &[0x70])];
        let sections = [(0xc8, &[0, 2, 0, 0, 0, 2]), (0xc8 + 40, &[0, 4, 0, 0, 0, 4])];
        let sections = sections.map(|(at, sizes)| (at + 16, &sizes[..]));
        file(bytes, &[&header[..], &sections].concat())
    }

    #[test]
    fn an_image_is_whole_to_its_last_byte() -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let whole = |arch: Arch, bytes: &[u8]| {
            fs::write(file.path(), bytes).map(|()| arch.is_whole_image(file.path()))
        };
        for (arch, bytes, expected) in [
            (Arch::X86_64, image(2064), true),
            (Arch::X86_64, image(2063), false),
            (Arch::Arm64, arm64_image(2048), true),
            (Arch::Arm64, arm64_image(2047), false),
            (Arch::Arm64, image(2064), false),
            (Arch::X86_64, arm64_image(2048), false),
            (Arch::Arm64, vec![0; 2064], false),
            (Arch::X86_64, Vec::new(), false),
        ] {
            assert_eq!(whole(arch, &bytes)?, expected, "{arch:?}, {} bytes", bytes.len());
        }
        Ok(())
    }
}

//! The C library of the oldest Debian that the package is for, to link the product with: `CACHE/sysroot`. A program needs
//! the newest symbols that its linker saw, so one that is linked with this machine's library runs on no older Debian.

use std::path::PathBuf;

use anyhow::Result;

use crate::arch::Arch;
use crate::unpacked::Packages;

/// The release, whose packages the archive of the kernels has as well.
const RELEASE: &str = "bullseye";
const PACKAGES: [&str; 3] = ["libc6", "libc6-dev", "libgcc-s1"];

/// The sysroot.
#[derive(Debug)]
pub struct Sysroot {
    arch: Arch,
    path: PathBuf,
}

impl Sysroot {
    /// The sysroot, if it was fetched; nothing is changed.
    pub fn present(arch: Arch) -> Option<Self> {
        Some(Self { arch, path: packages(arch).present()? })
    }

    /// The sysroot, fetched from Debian's archive where it is not there yet.
    pub fn obtain(arch: Arch) -> Result<Self> {
        Ok(Self { arch, path: packages(arch).obtain()? })
    }

    /// Arguments for the compiler that links a program. The driver puts this machine's directories before those of a
    /// sysroot, so they are named as well.
    pub fn link_arguments(&self) -> Vec<String> {
        let (root, triplet) = (self.path.display(), self.arch.triplet());
        let libraries = ["usr/lib", "lib"].map(|directory| format!("-L{root}/{directory}/{triplet}"));
        let startup = [format!("--sysroot={root}"), format!("-B{root}/usr/lib/{triplet}")];
        startup.into_iter().chain(libraries).collect()
    }
}

fn packages(arch: Arch) -> Packages<'static> {
    Packages {
        arch,
        directory: format!("sysroot/{RELEASE}{}", arch.apart()),
        what: "the C library of the oldest Debian that the package is for, to link with",
        packages: PACKAGES.map(|package| format!("{package}/{RELEASE}")).into(),
    }
}

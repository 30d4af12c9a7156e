//! The smallest program there is: a 64-bit ELF file of 160-odd bytes that changes into the directory named by its
//! first argument (if there is one) and exits with code 7. Storms exec it, so that their cost is the kernel's.

/// Exit code of the program.
pub const CODE: i32 = 7;

/// Where the image is mapped, and how much precedes its code: ELF header and one program header.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// The processor as ELF numbers it, and its code: `chdir(argv[1])` (EFAULT without one), `exit(7)`.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "x86_64")]
const CODE_BYTES: [u8; 24] = [
    0xb8, 80, 0, 0, 0, // mov eax, SYS_chdir
    0x48, 0x8b, 0x7c, 0x24, 16, // mov rdi, [rsp + 16]
    0x0f, 0x05, // syscall
    0xbf, 7, 0, 0, 0, // mov edi, 7
    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
    0x0f, 0x05, // syscall
];

#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(target_arch = "aarch64")]
const CODE_BYTES: [u8; 24] = [
    0xe0, 0x0b, 0x40, 0xf9, // ldr x0, [sp, #16]
    0x28, 0x06, 0x80, 0xd2, // mov x8, #49 (chdir)
    0x01, 0x00, 0x00, 0xd4, // svc #0
    0xe0, 0x00, 0x80, 0xd2, // mov x0, #7
    0xa8, 0x0b, 0x80, 0xd2, // mov x8, #93 (exit)
    0x01, 0x00, 0x00, 0xd4, // svc #0
];

/// The program's file.
pub fn image() -> Vec<u8> {
    let size = HEADERS + CODE_BYTES.len() as u64;
    let mut image: Vec<u8> = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [2u16, MACHINE] {
        image.extend(half.to_le_bytes()); // e_type EXEC, e_machine
    }
    image.extend(1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        image.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    image.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        image.extend(half.to_le_bytes()); // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    }
    for word in [1u32, 5] {
        image.extend(word.to_le_bytes()); // PT_LOAD, read and execute
    }
    for word in [0, BASE, BASE, size, size, 0x1000] {
        image.extend(word.to_le_bytes()); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    }
    image.extend(CODE_BYTES);
    image
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_runs_and_exits_with_its_code() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("tiny");
        std::fs::write(&path, super::image()).expect("write the program");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
        let status = std::process::Command::new(&path).arg("/").status().expect("run it");
        assert_eq!(status.code(), Some(super::CODE));
    }
}

//! Resolves every offset in use from the kernel's BTF. A missing or ambiguous name is an error that names it.

use anyhow::{Result, bail};
use observer_common::offsets::{ABSENT, Entry, Offsets, TABLE};

use super::btf::{Btf, MemberError};

/// Offsets of this kernel; `ring_bytes` is for the caller to set.
pub fn resolve(btf: &Btf) -> Result<Offsets> {
    let mut offsets = Offsets::ZERO;
    let mut problems = Vec::new();
    for (index, entry) in TABLE.iter().enumerate() {
        match resolve_entry(btf, entry) {
            Ok(offset) => {
                offsets.set(index, offset);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        bail!(
            "this kernel's BTF lacks what observer reads:\n  {}\nobserver does not know this kernel's layout: \
             please report these lines with the output of `uname -r`",
            problems.join("\n  ")
        );
    }
    match btf.member("task_struct", "in_execve") {
        Ok(member) if member.bits == 1 => {
            offsets.task_in_execve_byte = member.bit_offset / 8;
            offsets.task_in_execve_mask = 1 << (member.bit_offset % 8);
        }
        _ => offsets.task_in_execve_byte = ABSENT,
    }
    offsets.exit_has_group_dead = u32::from(btf.tracepoint_arity("sched_process_exit") == Some(2));
    Ok(offsets)
}

fn resolve_entry(btf: &Btf, entry: &Entry) -> Result<u32, String> {
    let mut reason = MemberError::NoMember;
    for path in entry.members {
        match btf.member(entry.of, path) {
            Ok(member) if member.bits != 0 && entry.size != 0 => {
                return Err(format!("struct {}: {path}: is a bit field of {} bits", entry.of, member.bits));
            }
            Ok(member) if member.size < entry.size => {
                return Err(format!(
                    "struct {}: {path}: {} bytes, expected at least {}",
                    entry.of, member.size, entry.size
                ));
            }
            Ok(member) => return Ok(member.bit_offset / 8),
            Err(MemberError::NoMember) => {}
            Err(other) => reason = other,
        }
    }
    Err(format!("struct {}: {}: {reason}", entry.of, entry.members.join(" or ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_kernel_without_the_fields_is_refused_with_their_names() {
        // A BTF file with no types at all.
        let header = [0x0001_eb9f_u32, 24, 0, 0, 0, 1];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.push(0);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("write it");
        let said = resolve(&Btf::read(file.path()).expect("index it")).expect_err("refuse it").to_string();
        for line in
            ["struct task_struct: start_boottime or real_start_time: ", "struct dentry: d_name.hash_len: "]
        {
            assert!(said.contains(line), "{said}");
        }
        assert!(said.ends_with("with the output of `uname -r`"), "{said}");
    }

    #[test]
    fn every_offset_resolves_on_the_running_kernel() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        if !path.exists() {
            return;
        }
        let offsets = resolve(&Btf::read(path).expect("read BTF")).expect("resolve");
        assert_ne!(offsets.task_tgid, offsets.task_pid);
        assert_ne!(offsets.mount_mnt, 0, "struct mount does not begin with its vfsmount");
    }
}

use std::path::Path;

use super::*;

#[test]
fn a_kernel_without_the_fields_is_refused_with_their_names() {
    // A BTF file with no types at all.
    let header = [0x0001_eb9f_u32, 24, 0, 0, 0, 1];
    let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.push(0);
    let refusal = Contract::check(&Btf::index(bytes).expect("index it")).expect_err("refuse it").to_string();
    for line in [
        "struct task_struct: start_boottime or real_start_time: ",
        "struct dentry: d_name.hash_len: ",
        "struct bpf_iter__task: meta: ",
        "enum pid_type: PIDTYPE_SID is not 3",
        "tracepoint sched_process_fork: this kernel does not have it",
        "iterator task: this kernel does not have it",
    ] {
        assert!(refusal.contains(line), "{line} in {refusal}");
    }
    assert!(!refusal.contains("task_rename"), "what can be done without is no reason: {refusal}");
    assert!(refusal.ends_with("with the output of `uname -r`"), "{refusal}");
}

/// A kernel without BTF has nothing to compare the list with. Then this prints so, and the real-kernel tests
/// (`cargo xtask test`, `cargo xtask vm`) fail.
#[test]
fn every_offset_resolves_on_the_running_kernel() {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    let btf = match Btf::read(path) {
        Ok(btf) => btf,
        Err(error) => {
            assert!(!path.exists(), "{error:#}");
            println!("NOT TESTED: this kernel publishes no BTF, and observer refuses to run on it");
            return;
        }
    };
    let offsets = Contract::check(&btf).expect("the kernel keeps the contract").offsets;
    assert_ne!(offsets.task_tgid, offsets.task_pid);
    assert_ne!(offsets.mount_mnt, 0, "struct mount does not begin with its vfsmount");
}

#[test]
fn no_field_and_no_hook_stands_twice() {
    let mut points: Vec<_> = HOOKS.iter().map(|hook| describe(hook.point)).collect();
    let mut fields: Vec<_> = MEMBERS.iter().map(|member| (member.of, member.names)).collect();
    points.sort();
    fields.sort();
    let (points_before, fields_before) = (points.len(), fields.len());
    points.dedup();
    fields.dedup();
    assert_eq!((points.len(), fields.len()), (points_before, fields_before));
}

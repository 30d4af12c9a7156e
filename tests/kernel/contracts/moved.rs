//! When a member has another offset than the BTF file gives, the self-test or the verifier must detect it at
//! start, whichever member it is; otherwise observer would show wrong values.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use observer_common::offsets::{KernelMember, MEMBERS};
use observer_harness::btf::{KERNEL_BTF, WitnessBtf, kind};
use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;
use observer_harness::{Cgroup, failure, share};

/// The distance by which a member is moved: one word, as a kernel that is built with one more option moves
/// it.
const BYTES: u32 = 8;
/// Of the members that are an emulated machine's share, each so many-th is moved: the checks are the same code on every
/// kernel, and this machine's kernel has all members moved.
const SAMPLE_EMULATED: usize = 4;
/// Members whose neighbour holds the same value except in a case that the self-test cannot cause. These are
/// moved by two words.
const TWINS: [(&str, &str); 6] = [
    ("task_real_parent", "parent: differs while the process is traced"),
    ("task_real_cred", "cred: differs while a process acts for another (overlayfs)"),
    ("task_mm", "active_mm: differs for kernel threads"),
    ("signal_live", "quick_threads: differs for a moment of an exit"),
    ("mm_arg_end", "env_start: differs after prctl(PR_SET_MM)"),
    ("binprm_filename", "interp: differs for scripts"),
];

/// Returns the kernel's type information `file`, which `btf` was parsed from, with this member moved.
fn moved(file: &[u8], btf: &WitnessBtf, kernel_member: &KernelMember) -> Vec<u8> {
    let mut file = file.to_vec();
    let twin = TWINS.iter().any(|(field, _)| *field == kernel_member.field);
    let bytes = if twin { 2 * BYTES } else { BYTES };
    let mut moved = Vec::new();
    for id in btf.named(kind::STRUCT, kernel_member.of) {
        let Some(member) = kernel_member.names.iter().find_map(|path| btf.member(id, path)) else { continue };
        // Two structs of one name may contain the member through the same third struct.
        if !moved.contains(&(member.owner, member.index)) {
            btf.move_member_of_file(&mut file, member, bytes);
            moved.push((member.owner, member.index));
        }
    }
    assert!(!moved.is_empty(), "{}.{} is there to be moved", kernel_member.of, kernel_member.names.join("/"));
    file
}

/// Returns which check detected the moved member, according to the doctor's output.
fn caught(result: &CommandResult, kernel_member: &KernelMember) -> Result<&'static str, String> {
    let name = format!("{}.{}", kernel_member.of, kernel_member.names.join("/"));
    if result.code != Some(1) {
        return Err(format!("{name}: NOT NOTICED: exit code {:?}: {}", result.code, result.stderr));
    }
    let checks = result.json();
    let failed = checks.as_array().into_iter().flatten().filter(|check| check["verdict"] == "fails");
    let details: Vec<_> = failed.filter_map(|check| check["detail"].as_str()).collect();
    match details.as_slice() {
        [one] if one.contains("self-test failed") && one.contains(&name) => Ok("self-test"),
        [one] if one.contains("self-test failed") => Err(format!("{name}: not named: {one}")),
        [one] if one.contains("the kernel refused program") => Ok("verifier"),
        _ => Err(format!("{name}: {details:?}")),
    }
}

/// Runs the doctor within a cgroup, because the root cgroup has no name to read.
fn doctor(file: &Path, cgroup: &Cgroup) -> CommandResult {
    let mut command = Command::new("timeout");
    command.args(["60", "sh", "-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]);
    command.arg(cgroup.path.join("cgroup.procs")).arg(product());
    command.args(["doctor", "--json", "--socket"]).arg(cgroup.path.join("no-socket"));
    CommandResult::of(command.arg("--btf").arg(file))
}

/// Returns whether no shown value comes from the member on this kernel. `unmoved` is the doctor's output for the
/// unchanged file.
fn is_idle(btf: &WitnessBtf, kernel_member: &KernelMember, unmoved: &str) -> bool {
    // Read only to doubt a path: it is odd while the directory moves, which no self-test can hold still.
    if kernel_member.field == "dentry_seq" {
        return true;
    }
    // Only the program that the next line names reads this member.
    if kernel_member.field == "inode_mode" && !unmoved.contains("fexit/d_move") {
        return true;
    }
    // Kernels with the member `quick_threads` set the group's exit code at the last thread's exit, and the
    // leader's exit code is not used.
    let quick = |&id: &u32| btf.member(id, "quick_threads").is_some();
    kernel_member.field == "task_exit_code" && btf.named(kind::STRUCT, "signal_struct").iter().any(quick)
}

#[test]
fn a_wrong_offset_of_any_member_is_noticed_at_start() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    let (outer, inner) = (Cgroup::new("outer"), Cgroup::new("outer/inner"));
    let unmoved = doctor(Path::new(KERNEL_BTF), &inner);
    assert_eq!(unmoved.code, Some(0), "without a change the start succeeds: {}", unmoved.text());
    let sample = if share::is_emulated() { SAMPLE_EMULATED } else { 1 };
    let members: Vec<_> = share::of(MEMBERS).into_iter().step_by(sample).collect();
    let kernel = std::fs::read(KERNEL_BTF).expect("the kernel publishes BTF");
    let (btf, next, missed) = (WitnessBtf::parse(&kernel), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        // A doctor waits for the kernel half of its time.
        for _ in 0..2 * std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(kernel_member) = members.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if is_idle(&btf, kernel_member, unmoved.text()) {
                        println!("moved {}: read for nothing on this kernel", kernel_member.field);
                        continue;
                    }
                    let file = dir.path().join(kernel_member.field);
                    std::fs::write(&file, moved(&kernel, &btf, kernel_member)).expect("write the file");
                    match caught(&doctor(&file, &inner), kernel_member) {
                        Ok(by) => println!("moved {}: {by}", kernel_member.field),
                        Err(why) => missed.lock().expect("no thread failed").push(why),
                    }
                    std::fs::remove_file(&file).expect("remove the file");
                }
            });
        }
    });
    drop((inner, outer));
    let missed = missed.into_inner().expect("no thread failed");
    assert!(missed.is_empty(), "{} of {}:\n{}", missed.len(), members.len(), missed.join("\n"));
}

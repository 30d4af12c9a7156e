//! Kernels that differ from what observer expects, simulated with `--btf` and an edited copy of this kernel's
//! type information. Each one is refused with its own sentence and an exit code, and never with a panic.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use observer_harness::btf::{self, WitnessBtf, kind};
use observer_harness::daemon::product;
use observer_harness::failure;
use observer_harness::observe::CommandResult;

use crate::{assert_refused, run};

/// The end of every refusal of a file.
const NEXT_STEP: &str = "or leave the option out";
/// The number of parts that a file is cut into.
const CUTS: usize = 64;
/// The number of bytes that are changed, one at a time.
const FLIPS: u64 = 24;
/// The seed of their positions, which are the same in each run.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Runs `observer run` with a BTF file of these bytes.
fn run_with(dir: &Path, bytes: &[u8]) -> CommandResult {
    let file = dir.join("edited.btf");
    std::fs::write(&file, bytes).expect("write the file");
    run(&[], dir, &["--btf", &file.display().to_string()])
}

/// An edit of this kernel's type information, and the parts of the refusal that it must cause.
type Edit = (&'static str, fn(&mut WitnessBtf), &'static [&'static str]);

fn only(btf: &WitnessBtf, of: u32, name: &str) -> u32 {
    let all = btf.named(of, name);
    let whole = all.into_iter().filter(|&id| of != kind::STRUCT || !btf.members(id).is_empty());
    let [id] = whole.collect::<Vec<_>>()[..] else { panic!("one {name}") };
    id
}

fn member(btf: &WitnessBtf, of: &str, path: &str) -> btf::WitnessMember {
    btf.member(only(btf, kind::STRUCT, of), path).expect("such a member")
}

/// Returns the prototype of a tracepoint. Programs do not see its first argument.
fn prototype(btf: &WitnessBtf, name: &str) -> u32 {
    let pointer = btf.resolve(only(btf, kind::TYPEDEF, &format!("btf_trace_{name}")));
    btf.get(pointer).size_or_type
}

const EDITS: [Edit; 12] = [
    (
        "a member is gone",
        |btf| btf.rename_member(member(btf, "task_struct", "start_boottime"), "start_gone"),
        &["struct task_struct: start_boottime or real_start_time: the struct has no such member"],
    ),
    (
        "a struct is gone",
        |btf| btf.rename(only(btf, kind::STRUCT, "nsproxy"), "nsproxy_gone"),
        &[
            "struct nsproxy: mnt_ns: this kernel has no struct of that name",
            "struct task_struct: nsproxy is struct nsproxy_gone *, expected struct nsproxy *",
        ],
    ),
    (
        "two structs of one name disagree",
        |btf| {
            let (id, int) = (only(btf, kind::STRUCT, "vfsmount"), member(btf, "task_struct", "pid").ty);
            let other = btf.duplicate(id);
            let root = btf.member(other, "mnt_root").expect("a root");
            btf.move_member(root, 8);
            btf.retype_member(root, int);
        },
        &["struct vfsmount: mnt_root: several structs of that name disagree on it"],
    ),
    (
        "an integer is wider",
        |btf| {
            let wide = member(btf, "task_struct", "start_boottime").ty;
            btf.retype_member(member(btf, "task_struct", "tgid"), wide);
        },
        &["struct task_struct: tgid is ", "expected an integer of 4 bytes"],
    ),
    (
        "a pointer is an integer",
        |btf| {
            let wide = member(btf, "task_struct", "start_boottime").ty;
            btf.retype_member(member(btf, "task_struct", "fs"), wide);
        },
        &["struct task_struct: fs is ", "expected struct fs_struct *"],
    ),
    (
        "a pointer is to something else",
        |btf| {
            let other = member(btf, "task_struct", "mm").ty;
            btf.retype_member(member(btf, "task_struct", "signal"), other);
        },
        &["struct task_struct: signal is struct mm_struct", "expected struct signal_struct *"],
    ),
    (
        "a member that is compiled in has moved",
        |btf| btf.move_member(member(btf, "trace_event_raw_sys_exit", "ret"), 8),
        &[
            "struct trace_event_raw_sys_exit: ret is ",
            "at byte 24, expected an integer of 8 bytes at byte 16",
        ],
    ),
    (
        "a tracepoint without which there is no map is gone",
        |btf| btf.rename(only(btf, kind::TYPEDEF, "btf_trace_sched_process_exec"), "gone"),
        &["tracepoint sched_process_exec: this kernel does not have it"],
    ),
    (
        "a tracepoint hands out something else",
        |btf| {
            let (proto, other) = (prototype(btf, "sched_process_fork"), member(btf, "task_struct", "mm").ty);
            btf.retype_argument(proto, 2, other);
        },
        &["tracepoint sched_process_fork: argument 1 is struct mm_struct", "expected struct task_struct *"],
    ),
    (
        "the iterator is gone",
        |btf| btf.rename(only(btf, kind::FUNC, "bpf_iter_task"), "gone"),
        &["iterator task: this kernel does not have it"],
    ),
    (
        "there are two iterators",
        |btf| {
            btf.duplicate(only(btf, kind::FUNC, "bpf_iter_task"));
        },
        &["iterator task: this kernel has several functions of that name"],
    ),
    (
        "a constant has another value",
        |btf| btf.rename_constant(only(btf, kind::ENUM, "pid_type"), "PIDTYPE_SID", "PIDTYPE_OTHER"),
        &["enum pid_type: PIDTYPE_SID is not 3"],
    ),
];

#[test]
fn a_refusal_names_what_the_kernel_lacks() {
    failure::require_root();
    let kernel = WitnessBtf::of_kernel();
    let dir = tempfile::tempdir().expect("a directory");
    for (what, edit, sentence) in EDITS {
        let mut edited = kernel.clone();
        edit(&mut edited);
        let result = run_with(dir.path(), &edited.bytes());
        println!("{what}: {}", result.stderr);
        assert_refused(&result, 1, sentence);
        assert_refused(&result, 1, &[NEXT_STEP]);
        let mut lines = result.stderr.lines().filter(|line| line.starts_with("  "));
        let named = |line: &str| sentence.iter().any(|part| line.contains(part));
        assert!(lines.all(named), "{what}: that and nothing else: {}", result.stderr);
    }
}

#[test]
fn a_file_that_is_not_btf_is_refused_with_the_reason() {
    failure::require_root();
    let whole = std::fs::read(btf::KERNEL_BTF).expect("the kernel publishes BTF");
    let half = whole.get(..whole.len() / 2).expect("half of it");
    let dir = tempfile::tempdir().expect("a directory");
    let cases: [(&[u8], &str); 5] = [
        (b"", "it is not BTF"),
        (b"garbage, garbage, garbage, garbage", "it is not BTF"),
        (&btf::in_other_byte_order(&whole), "in the other byte order"),
        (half, "the BTF is cut short"),
        (whole.get(..10).unwrap_or_default(), "the BTF header is cut short"),
    ];
    for (bytes, sentence) in cases {
        assert_refused(&run_with(dir.path(), bytes), 1, &[sentence, "edited.btf", NEXT_STEP]);
    }
    let absent = dir.path().join("absent.btf").display().to_string();
    for (path, sentence) in [
        (absent.as_str(), "No such file"),
        ("/sys/kernel/btf", "no regular file"),
        ("/dev/zero", "no regular file"),
    ] {
        assert_refused(&run(&[], dir.path(), &["--btf", path]), 1, &[sentence, path, NEXT_STEP]);
    }
}

#[test]
fn a_missing_optional_hook_becomes_a_blind_spot() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("edited.btf");
    let mut edited = WitnessBtf::of_kernel();
    edited.rename(only(&edited, kind::TYPEDEF, "btf_trace_task_rename"), "gone");
    let (proto, other) = (prototype(&edited, "cgroup_attach_task"), member(&edited, "task_struct", "mm").ty);
    edited.retype_argument(proto, 1, other);
    // This adds a static function of the same name, to which a program might be attached by mistake.
    edited.duplicate(only(&edited, kind::FUNC, "set_fs_pwd"));
    edited.rename_member(member(&edited, "oom_control", "memcg"), "gone");
    edited.write(&file);
    let result = CommandResult::of(Command::new(product()).args(["doctor", "--json", "--btf"]).arg(&file));
    assert_eq!(result.code, Some(0), "it runs: {}", result.stderr);
    let checks = result.json();
    let checks = checks.as_array().expect("an array of checks");
    for (fact, why) in [
        ("comm", "tracepoint task_rename: this kernel does not have it"),
        ("cgroup", "tracepoint cgroup_attach_task: argument 0 is struct mm_struct"),
        ("oom_scope", "(struct oom_control: memcg: the struct has no such member)"),
    ] {
        let blind = checks.iter().find(|check| check["name"] == format!("blind: {fact}"));
        let detail = blind.and_then(|check| check["detail"].as_str()).unwrap_or_default();
        assert!(detail.contains(why), "{fact}: {detail}");
    }
    let fallback =
        checks.iter().find(|check| check["name"].as_str().is_some_and(|name| name.contains("fchdir")));
    let detail = fallback.and_then(|check| check["detail"].as_str()).unwrap_or_default();
    assert!(detail.contains("set_fs_pwd: this kernel has several functions of that name"), "{detail}");
    let attached = |name: &str| checks.iter().any(|check| check["name"] == name);
    assert!(!attached("tp_btf/task_rename") && !attached("tp_btf/cgroup_attach_task"), "not attached");
    assert!(attached("tp_btf/signal_generate"), "the others are");
}

#[test]
fn a_wrong_offset_is_detected_before_it_shows_wrong_values() {
    failure::require_root();
    let dir = tempfile::tempdir().expect("a directory");
    let mut edited = WitnessBtf::of_kernel();
    edited.move_member(member(&edited, "cred", "suid"), 8);
    let file = dir.path().join("edited.btf");
    edited.write(&file);
    let socket = dir.path().join("no-socket");
    for args in [&["ps", "--json"][..], &["list", "--json"], &["audit", "--json"]] {
        let mut command = Command::new(product());
        let result =
            CommandResult::of(command.args(args).arg("--socket").arg(&socket).arg("--btf").arg(&file));
        assert_refused(&result, 4, &["self-test failed", "uid, euid and suid", "cred.suid", "uname -r"]);
    }
    let result = run(&[], dir.path(), &["--btf", &file.display().to_string()]);
    assert_refused(&result, 1, &["self-test failed", "cred.suid", "uname -r"]);
}

/// Runs `observer ps` with this file. It must answer or refuse, whatever the file contains; returns whether
/// it answered.
#[track_caller]
fn assert_survives(what: &str, dir: &Path, name: &str, bytes: &[u8]) -> bool {
    let file = dir.join(name);
    std::fs::write(&file, bytes).expect("write the file");
    let mut command = Command::new("timeout");
    command.arg("60").arg(product()).args(["ps", "--json", "--socket"]).arg(dir.join("no-socket"));
    let result = CommandResult::of(command.arg("--btf").arg(&file));
    assert!(!result.stderr.contains("panicked"), "{what}: {}", result.stderr);
    match result.code {
        Some(0) => true,
        Some(4) => {
            let refused = result.stdout.is_empty() && !result.stderr.is_empty();
            assert!(refused, "{what}: a sentence and nothing else: {}", result.stderr);
            false
        }
        other => panic!("{what}: ended with {other:?}: {}", result.stderr),
    }
}

#[test]
fn a_truncated_file_is_refused() {
    failure::require_root();
    let whole = std::fs::read(btf::KERNEL_BTF).expect("the kernel publishes BTF");
    let dir = tempfile::tempdir().expect("a directory");
    for part in 0..CUTS {
        let cut = whole.get(..whole.len() * part / CUTS).expect("a part of it");
        let taken = assert_survives(&format!("{part}/{CUTS}"), dir.path(), "cut.btf", cut);
        assert!(!taken, "{part}/{CUTS} of it is taken for the whole");
    }
}

#[test]
fn a_file_with_one_changed_byte_is_refused_or_works() {
    failure::require_root();
    let whole = std::fs::read(btf::KERNEL_BTF).expect("the kernel publishes BTF");
    let dir = tempfile::tempdir().expect("a directory");
    let next = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (next, refused, whole, dir) = (&next, &refused, &whole, dir.path());
            scope.spawn(move || {
                while let flip = next.fetch_add(1, Ordering::Relaxed) as u64
                    && flip < FLIPS
                {
                    // The header is short, so every fourth change is made there.
                    let random = SEED.wrapping_mul(flip + 1).rotate_left(23).wrapping_mul(SEED);
                    let span = if flip.is_multiple_of(4) { 24 } else { whole.len() as u64 };
                    let at = usize::try_from(random % span).expect("an index");
                    let mut changed = whole.clone();
                    let byte = changed.get_mut(at).expect("a byte");
                    *byte ^= 1 << (random >> 61);
                    let what = format!("byte {at} is {byte:#04x}");
                    if !assert_survives(&what, dir, &format!("{thread}.btf"), &changed) {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let refused = refused.into_inner();
    println!("{refused} of {FLIPS} refused");
    assert!(refused > 0, "changes of the header are");
}

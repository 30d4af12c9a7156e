//! The cost of the programs to the verifier. The verifier gives up at 1,000,000 instructions, and kernels
//! differ by factors. The headroom is tested because a harmless line can use it up.
//!
//! Kernels before 5.16 do not keep the count, and the loader requests no log of a program that loads. So this
//! test traces `observer doctor` and, where it loads a program, requests the log's statistics in its place.

mod trace;

use observer_harness::btf::WitnessBtf;
use observer_harness::daemon::product;

/// A fifth of the verifier's limit.
const INSTRUCTIONS_MAX: u64 = 200_000;
/// The programs that the map requires.
const VITAL: [&str; 4] = ["sched_process_fork", "sched_process_exec", "sched_process_exit", "iter_task"];

/// The verifier's result for one program.
#[derive(Debug)]
struct Verdict {
    name: String,
    accepted: bool,
    /// The number of instructions processed; `None` if the verifier never saw the program, because the kernel
    /// does not attach such programs.
    count: Option<u64>,
}

/// Returns what is wrong with the programs; it is empty if every program is far from the limit and every
/// required program was loaded.
fn wrong(verdicts: &[Verdict]) -> Vec<String> {
    let mut wrong: Vec<_> = verdicts
        .iter()
        .filter_map(|verdict| match verdict.count {
            Some(count) if !verdict.accepted => {
                Some(format!("{} refused after {count} instructions", verdict.name))
            }
            Some(count) if count > INSTRUCTIONS_MAX => {
                Some(format!("{} takes {count} instructions, more than {INSTRUCTIONS_MAX}", verdict.name))
            }
            None if verdict.accepted => Some(format!("{}: no count", verdict.name)),
            _ => None,
        })
        .collect();
    let loaded = |name| verdicts.iter().any(|verdict| verdict.accepted && verdict.name == name);
    wrong
        .extend(VITAL.into_iter().filter(|&name| !loaded(name)).map(|name| format!("{name} was not loaded")));
    wrong
}

/// A program's own name is cut after 15 bytes, so two programs of tracepoints may have the same name. What a
/// program attaches to identifies it, except for second programs.
fn name_of(load: &trace::Load, btf: &WitnessBtf) -> String {
    match load.attach_btf_id {
        0 => load.name.clone(),
        _ if load.name.ends_with("_second") => load.name.clone(),
        id => match btf.name(id) {
            name if name.starts_with("bpf_iter_") => load.name.clone(),
            name => name.trim_start_matches("btf_trace_").to_owned(),
        },
    }
}

#[test]
fn every_program_is_far_from_the_verifiers_limit() {
    observer_harness::failure::require_root();
    let btf = WitnessBtf::of_kernel();
    let mut verdicts: Vec<Verdict> = Vec::new();
    // The kind of hook that the kernel does not choose itself is loaded when it is requested.
    let loads = ["auto", "tracepoints"].map(|hooks| trace::loads(&product(), &["doctor", "--hooks", hooks]));
    // The loader's own probes of kernel features are not programs of the product.
    for load in loads.iter().flatten().filter(|load| !load.name.starts_with("aya_")) {
        let (name, count) = (name_of(load, &btf), load.instructions());
        if verdicts.iter().any(|verdict| verdict.name == name) {
            continue;
        }
        match count {
            Some(count) => println!("verified {name} {count}"),
            None => println!("not verified: {name}: {:?}", load.log),
        }
        verdicts.push(Verdict { name, accepted: load.accepted, count });
    }
    assert!(verdicts.iter().any(|verdict| verdict.name.starts_with("sys_exit_")), "both ways: {verdicts:?}");
    let wrong = wrong(&verdicts);
    assert!(wrong.is_empty(), "{}\n{verdicts:?}", wrong.join("\n"));
}

#[test]
fn a_program_beyond_the_limit_is_reported() {
    let verdict = |name: &str, accepted, count| Verdict { name: name.into(), accepted, count };
    let fine =
        || VITAL.map(|name| verdict(name, true, Some(INSTRUCTIONS_MAX))).into_iter().collect::<Vec<_>>();
    assert!(wrong(&fine()).is_empty());
    for (other, found) in [
        (verdict("set_fs_pwd", true, Some(INSTRUCTIONS_MAX + 1)), "set_fs_pwd takes 200001 instructions"),
        (verdict("set_fs_pwd", false, Some(1_000_001)), "set_fs_pwd refused after 1000001 instructions"),
        (verdict("set_fs_pwd", true, None), "set_fs_pwd: no count"),
    ] {
        let all: Vec<_> = fine().into_iter().chain([other]).collect();
        let wrong = wrong(&all);
        assert!(matches!(wrong.as_slice(), [one] if one.starts_with(found)), "{wrong:?}");
    }
    // On a kernel that attaches no such programs, the verifier never sees the program.
    assert!(
        wrong(&fine().into_iter().chain([verdict("set_fs_pwd", false, None)]).collect::<Vec<_>>()).is_empty()
    );
    let missing: Vec<_> = fine().into_iter().skip(1).collect();
    assert_eq!(wrong(&missing), ["sched_process_fork was not loaded"]);
}

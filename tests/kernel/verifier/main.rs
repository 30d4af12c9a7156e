//! What the programs cost the verifier. It gives up at 1,000,000 instructions, and kernels differ by factors: the
//! headroom is watched, because a harmless line can use it up.
//!
//! Kernels before 5.16 do not keep the count, and no program's log is asked for when it loads. So `observer doctor` runs
//! traced, and where it loads a program, the log's statistics are asked for in its name.

mod trace;

use observer_harness::btf::WitnessBtf;
use observer_harness::daemon::product;

/// A fifth of what the verifier takes.
const INSTRUCTIONS_MAX: u64 = 200_000;
/// Programs without which there is no map.
const VITAL: [&str; 4] = ["sched_process_fork", "sched_process_exec", "sched_process_exit", "iter_task"];

/// What became of one program.
#[derive(Debug)]
struct Verdict {
    name: String,
    accepted: bool,
    /// Instructions processed; `None`: the verifier never saw it, for the kernel does not attach such programs.
    count: Option<u64>,
}

/// What is wrong with them; nothing, if every one is far from the limit and those that must be there are.
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

/// A program's own name is cut after 15 bytes, so two of the tracepoints' look the same: what it attaches to tells, but for
/// second programs.
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
    // Whichever way is not the kernel's best is loaded where it is asked for.
    let loads = ["auto", "tracepoints"].map(|hooks| trace::loads(&product(), &["doctor", "--hooks", hooks]));
    // The loader's own trials of what the kernel can are no programs of ours.
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
fn what_is_near_the_limit_is_found() {
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
    // A kernel that attaches no such programs: the verifier never saw it.
    assert!(
        wrong(&fine().into_iter().chain([verdict("set_fs_pwd", false, None)]).collect::<Vec<_>>()).is_empty()
    );
    let missing: Vec<_> = fine().into_iter().skip(1).collect();
    assert_eq!(wrong(&missing), ["sched_process_fork was not loaded"]);
}

//! What the programs cost the verifier. It gives up at 1,000,000 instructions, and kernels differ by factors: the
//! headroom is watched, because a harmless line can use it up.
//!
//! Kernels before 5.16 do not keep the count, and no program's log is asked for when it loads. So `observer doctor` runs
//! traced, and where it loads a program, the log's statistics are asked for in its name.

mod btf;
mod trace;

use observer_tests::daemon::product;

/// A fifth of what the verifier takes.
const INSTRUCTIONS_MAX: u64 = 200_000;
/// Programs without which there is no map.
const VITAL: [&str; 4] = ["sched_process_fork", "sched_process_exec", "sched_process_exit", "iter_task"];

#[test]
fn every_program_is_far_from_the_verifiers_limit() {
    observer_tests::failure::require_root();
    let loads = trace::loads(&product(), &["doctor"]);
    let names = btf::Names::of_kernel();
    let mut seen = Vec::new();
    // The loader's own trials of what the kernel can are no programs of ours.
    for load in loads.iter().filter(|load| !load.name.starts_with("aya_")) {
        let name = names.tracepoint(load.attach_btf_id).unwrap_or_else(|| load.name.clone());
        assert!(load.accepted, "{name} loads: {}", load.log);
        let count = load.instructions().unwrap_or_else(|| panic!("{name}: no count in {:?}", load.log));
        println!("verified {name} {count}");
        seen.push((name, count));
    }
    for vital in VITAL {
        assert!(seen.iter().any(|(name, _)| name == vital), "{vital} was loaded: {seen:?}");
    }
    seen.retain(|(_, count)| *count > INSTRUCTIONS_MAX);
    assert!(seen.is_empty(), "above {INSTRUCTIONS_MAX} instructions: {seen:?}");
}

//! A million operations of chance: the map is the kernel's whenever no gap is open, and what was reported gives the map.

use std::num::NonZero;
use std::thread;

use observer_sim::op::operations;
use observer_sim::play::{PlayCounts, play};

/// Histories, and the operations of each.
const SEEDS: u64 = 502;
const STEPS: usize = 2_000;
/// Those in which a fault was found that is not mended (docs/trust.md).
const OPEN: [u64; 0] = [];

/// Plays every `threads`th seed from `first` on. Returns what they led to together.
fn play_some(first: u64, threads: u64) -> PlayCounts {
    let mut sum = PlayCounts::default();
    let seeds = (first..SEEDS).step_by(usize::try_from(threads).unwrap_or(1));
    for seed in seeds.filter(|seed| !OPEN.contains(seed)) {
        match play(&operations(seed, STEPS)) {
            Ok(counts) => sum += counts,
            Err((number, fault)) => panic!(
                "{fault}\nafter operation {number}; repeat it: cargo xtask sim --seed {seed} --steps {}",
                number + 1
            ),
        }
    }
    sum
}

#[test]
fn the_map_is_the_kernels_after_a_million_operations() {
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let mut sum = PlayCounts::default();
    thread::scope(|scope| {
        let players: Vec<_> =
            (0..threads).map(|first| scope.spawn(move || play_some(first, threads))).collect();
        for player in players {
            match player.join() {
                Ok(counts) => sum += counts,
                Err(failure) => std::panic::resume_unwind(failure),
            }
        }
    });
    println!("{sum:?}");
    assert_eq!(sum.steps, (SEEDS - OPEN.len() as u64) * STEPS as u64);
    // What the histories are made for happened in them.
    let PlayCounts { lost, left_out, checks, unobserved, gaps, restarts, kept, sessions, .. } = sum;
    for (what, count) in [
        ("records were lost", lost),
        ("records were left out", left_out),
        ("the map was compared", checks),
        ("nobody saw an end", unobserved),
        ("a gap was opened", gaps),
        ("the daemon was started again", restarts),
        ("sessions were kept by a restart", kept),
        ("sessions lived at a time", sessions),
    ] {
        assert!(count > 0, "{what} {count} times: {sum:?}");
    }
}

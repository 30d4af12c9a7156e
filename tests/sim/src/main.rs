//! `cargo xtask sim`: plays histories, and shortens the first that fails.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use observer_sim::op::{Op, operations};
use observer_sim::play::play;
use observer_sim::shrink::shrink;

/// Plays histories of a model of Linux.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Operations of each history.
    #[arg(long, default_value_t = 1_000)]
    steps: usize,
    /// Seeds from the first one on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Goes on after a seed that fails, and shortens none.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let Arguments { seed, steps, seeds, keep_going } = Arguments::parse();
    let mut failed = false;
    for seed in seed..seed + seeds {
        let began = Instant::now();
        let ops = operations(seed, steps);
        let (number, fault) = match play(&ops) {
            Ok(counts) => {
                println!("seed {seed}: {counts:?} in {:.1?}", began.elapsed());
                continue;
            }
            Err(failure) => failure,
        };
        println!("seed {seed} fails after operation {number}: {fault}");
        println!("repeat it: cargo xtask sim --seed {seed} --steps {}", number + 1);
        failed = true;
        if keep_going {
            continue;
        }
        println!("a shorter history that fails:");
        let shorter = shrink(&ops);
        for Op { verb, by } in &shorter {
            println!("    (Verb::{verb:?}, {by:?}),");
        }
        if let Err((_, fault)) = play(&shorter) {
            println!("{fault}");
        }
        break;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

//! Thousands of schedules of changes, time and faults against a model of the database: whatever fails, nothing is lost,
//! nothing is applied twice, presence ends with the heartbeats, retries have pauses, and once the faults end everything is
//! delivered.

mod daemon;
mod database;
mod fault;
mod fleet;
mod random;
mod schedule;

use schedule::Schedule;

/// How many schedules run.
const SCHEDULES: u64 = 100_000;
/// Names the seed of the only schedule that runs.
const SEED: &str = "OBSERVER_SCHEDULE";

#[test]
fn no_schedule_of_faults_loses_or_repeats_an_entry() {
    if let Some(seed) = std::env::var(SEED).ok().map(|seed| seed.parse().expect("a seed is a number")) {
        let mut schedule = Schedule::new(seed);
        println!("{}", schedule.describe());
        return schedule.play();
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for seed in (first..SCHEDULES).step_by(threads as usize) {
                    let outcome = std::panic::catch_unwind(|| Schedule::new(seed).play());
                    assert!(
                        outcome.is_ok(),
                        "schedule {seed} failed; repeat it with {SEED}={seed} cargo test -p observer no_schedule_of_faults"
                    );
                }
            });
        }
    });
}

//! The cases of property tests.

use std::hash::{BuildHasher as _, RandomState};

use proptest::test_runner::{Config, RngSeed};

/// How many cases proptest has where nobody says otherwise.
const CASES_OF_PROPTEST: u32 = 256;

/// So many cases, unless the environment has a number, and others each time, unless it has a seed.
pub fn others_each_time(cases: u32) -> Config {
    let default = Config::default();
    let seed = match default.rng_seed {
        RngSeed::Random => RandomState::new().hash_one(std::process::id()),
        RngSeed::Fixed(seed) => seed,
    };
    // The harness shows it where the test fails.
    println!("PROPTEST_RNG_SEED={seed}");
    let cases = if default.cases == CASES_OF_PROPTEST { cases } else { default.cases };
    Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..default }
}

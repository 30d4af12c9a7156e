//! The developer commands: `cargo xtask VERB`.

fn main() {}

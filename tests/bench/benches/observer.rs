//! The program of `cargo xtask bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    observer_bench::main()
}

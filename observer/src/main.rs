//! observer: keeps the map session → pid true, from the kernel's own probes.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod boot;
mod cli;
mod clock;
mod config;
mod daemon;
mod glob;
mod journal;
mod kernel;
mod show;
mod socket;
mod terminal;

fn main() -> std::process::ExitCode {
    cli::main()
}

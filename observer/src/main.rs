//! observer: keeps the map session → pid true, from the kernel's own probes.

mod clock;
mod config;
mod glob;
mod kernel;
mod show;
mod socket;

fn main() {}

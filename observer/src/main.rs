//! observer: keeps the map session → pid true, from the kernel's own probes.

mod clock;
mod config;
mod kernel;
mod show;

fn main() {}

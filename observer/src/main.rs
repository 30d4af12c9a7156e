//! observer: keeps the map session → pid true, from the kernel's own probes.

mod kernel;

fn main() {}

//! What the mirror costs: `cargo xtask bench --only commit --only outage --only fleet` runs this, one name at a time, and makes a
//! table of what it prints: one figure a line, as JSON. Progress goes to standard error.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

mod commit;
mod figure;
mod fleet;
mod outage;
mod server;

/// What a run is to be.
#[derive(Clone, Copy)]
struct Scale {
    quick: bool,
}

impl Scale {
    /// A size of the full run, or of the quick one.
    fn of<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let scale = Scale { quick: words.iter().any(|word| word == "--quick") };
    let name = words.iter().find(|word| !word.starts_with("--")).map(String::as_str);
    let figures = match name {
        Some("commit") => commit::measure(scale),
        Some("outage") => outage::measure(scale),
        Some("fleet") => fleet::measure(scale),
        _ => panic!("commit, outage or fleet: which? cargo xtask bench --only NAME knows how to ask"),
    };
    for figure in figures {
        println!("{}", figure.json());
    }
}

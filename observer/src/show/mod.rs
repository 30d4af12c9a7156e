//! What observer shows: core types as JSON (the contract of docs/json.md), and bytes and times for people.
//! Reads the core, knows neither kernel nor socket.

pub mod answer;
pub mod bytes;
pub mod change;
pub mod death;
pub mod process;
pub mod session;
pub mod style;
pub mod table;
pub mod time;

/// What every object needs besides the row that it shows.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// This boot's id, from /proc/sys/kernel/random/boot_id.
    pub boot_id: &'a str,
    /// No gap is open and the last reading of the kernel succeeded.
    pub certain: bool,
}

#[cfg(test)]
mod tests;

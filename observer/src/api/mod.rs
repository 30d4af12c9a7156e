//! What leaves the process: core types, status and answers as JSON (the contract of docs/json.md). Knows no adapter.

pub mod answer;
pub mod audience;
pub mod change;
pub mod changed;
pub mod check;
pub mod cost;
pub mod death;
pub mod doubt;
pub mod entry;
pub mod explain;
pub mod explain_words;
pub mod key;
pub mod left;
pub mod leftovers;
pub mod metrics;
mod pane;
pub mod process;
pub mod restarts;
pub mod session;
pub mod signal;
pub mod status;
pub mod words;

use audience::Audience;

/// The facts that every JSON object carries beside its own fields, and who reads it.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The id of this boot, from /proc/sys/kernel/random/boot_id.
    pub boot_id: &'a str,
    /// Whether no gap is open and the last pass over the processes succeeded.
    pub certain: bool,
    /// Who reads it.
    pub audience: Audience,
}

impl Context<'_> {
    /// The same for another reader.
    #[must_use]
    pub const fn read_by(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }
}

#[cfg(test)]
pub(crate) mod tests;

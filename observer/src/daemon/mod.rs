//! The daemon: one event loop that owns the map. The only code, beside the commands, that knows more than one adapter.

pub mod answers;
mod audit;
mod behind;
mod birth_history;
pub mod canary;
mod columns;
pub mod costs;
mod ending;
pub mod ends;
mod event_loop;
mod gap_log;
mod known_reads;
mod live_map;
mod log_fields;
mod log_repeats;
mod logging;
mod memory;
mod mirror_link;
mod notify;
mod options;
pub mod owners;
mod pace;
mod pass_rest;
mod passes;
mod pieces;
pub mod previous;
mod questions;
mod read_results;
mod recorded;
mod recorded_left;
mod reload;
mod reported;
mod reread;
mod resident;
pub mod resume;
mod session_entries;
mod sink;
mod sleep;
mod start;
mod status;
#[cfg(test)]
mod test_session;
mod watchdog;

pub use logging::{LogFormat, LogLevel};
pub use options::{DaemonOptions, JournalPlace, PathChoice, RuleReader, RuleSet};
pub use start::run;

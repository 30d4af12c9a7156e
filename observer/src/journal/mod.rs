//! The journal: every change of a session and every gap, in a local SQLite file, before anything is delivered
//! (docs/journal.md). One file is one stream; its entries are numbered from 1.
//!
//! [`Journal`] is the event loop's side: [`Journal::push`] numbers an entry and queues it, and waits for no disk. A thread
//! commits what is queued. [`Spool`] is the mirror's side. [`JournalReader`] reads what is committed, through a
//! connection of its own.

mod bounds;
pub mod doctor;
mod error;
mod file;
mod handle;
mod identity;
mod live;
mod lock;
mod lost;
mod migration;
mod options;
mod pending;
mod quarantine;
mod queue;
mod reader;
mod removal;
mod shares;
mod spool;
mod state_dir;
mod tables;
mod waiting;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod gone_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod start_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use bounds::BIRTHS_BYTES_MAX;
pub use handle::Journal;
pub use live::{LifeProofs, shared_by_users};
pub use options::{JournalOptions, MAX_AGE_DEFAULT, MAX_BYTES_DEFAULT, MAX_BYTES_MIN};
pub use pending::{Pushed, Resumed};
pub use queue::{JournalProgress, Numbering};
pub use reader::{EntryFilter, JournalReader};
pub use spool::{Committed, Spool};
pub use tables::RecordedBirths;

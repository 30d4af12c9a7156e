//! Loads and attaches the programs that this kernel accepts, and records the source of each fact and what stays unseen.

mod choose;
mod exits;
mod functions;
mod links;
mod program;
mod report;
mod tracefs;
mod trial;

pub use self::choose::attach;
pub use self::links::HeldLinks;
pub use self::report::{Attached, BlindSpot, FactSource, HookChoice};
pub use self::tracefs::is_mounted as tracefs_mounted;

//! What the core speaks about: processes, their identity and their end, and what changes.

pub mod change;
pub mod death;
pub mod ids;
pub mod process;

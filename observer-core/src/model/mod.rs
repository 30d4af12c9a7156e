//! What the core speaks about: processes, their identity and their end, sessions, and what changes.

pub mod change;
pub mod death;
pub mod ids;
pub mod process;
pub mod rule;
pub mod session;
pub mod starts;

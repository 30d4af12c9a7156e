//! The types that inputs, changes and the map have in common: processes, their identity and their end,
//! sessions and their rules, changes.

pub mod cgroup;
pub mod change;
pub mod cost;
pub mod death;
pub mod explanation;
pub mod ids;
pub mod label;
pub mod left;
pub mod process;
pub mod rule;
pub mod session;
pub mod starts;

//! The map of live processes.

pub(crate) mod early_births;
pub(crate) mod ended;
pub(crate) mod entry;
pub(crate) mod fields;
pub(crate) mod left_counts;
pub(crate) mod merge;
pub(crate) mod namespaces;
pub(crate) mod oom;
pub(crate) mod open_deaths;
pub(crate) mod pane;
pub(crate) mod program;
pub(crate) mod recent;
pub(crate) mod signals;
pub(crate) mod table;
mod tgid_map;
mod tombstones;

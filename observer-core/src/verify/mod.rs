//! What checks the map: against the kernel's rows, and against itself.

pub mod audit;
pub mod invariants;

//! A model of Linux that makes truthful histories of ring records, and simulations that run the product on them: whatever is
//! lost, late or out of order, the map is what the kernel has once a pass has healed it.
//!
//! A history is a list of operations that a seed makes ([`op`]). [`linux`] does those of the kernel, [`daemon`] those of the
//! daemon with the real decoder and the real core, and [`check`] compares the two. [`shrink`] shortens a history that fails.

mod bytes;
pub mod check;
pub mod daemon;
pub mod linux;
pub mod op;
pub mod play;
mod random;
pub mod reports;
pub mod resume;
mod rules;
pub mod shrink;

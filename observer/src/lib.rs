//! observer: keeps the map session → pid true, from the kernel's own probes. The program is `main.rs`; a library so
//! that `tests` can drive parts of it without a kernel. Nothing outside this workspace depends on it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod boot;
pub mod cli;
mod clock;
mod config;
mod daemon;
mod glob;
mod heap;
mod journal;
mod kernel;
pub mod postgres;
mod show;
mod socket;
mod terminal;

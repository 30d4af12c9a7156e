//! observer: maps each terminal session of this machine to its process, from the kernel's own events. The program is
//! `main.rs`. This is a library so that `tests` can drive parts of it without a kernel; nothing outside this workspace
//! depends on it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods))]
#![cfg_attr(not(test), deny(clippy::print_stderr))]

pub mod api;
mod boot;
#[expect(clippy::disallowed_macros, reason = "a command speaks to a person, on standard error")]
pub mod cli;
mod clock;
mod config;
mod daemon;
mod heap;
mod journal;
mod kernel;
pub mod mirror;
mod socket;
mod terminal;
mod text;

//! The core: kernel records go in, the map of live processes and sessions stays right, changes come out.
//!
//! No I/O, no clock, no async, no logging: time is an argument, [`Core::handle`] never fails, anomalies are
//! counted. The daemon, the tests and the fuzzers drive the same code.
//!
//! The folders are layers, and imports point downwards only: `model` ← `input` ← `processes` ← `sessions` ← `core`;
//! `verify` checks the core from outside. `limits` stands below all of them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod core;
pub mod input;
pub mod limits;
mod model;
mod processes;
mod sessions;
mod verify;

pub use crate::core::{Core, CoreCounters, Settings};
pub use input::Input;
pub use input::decode::{DecodeError, decode};
pub use model::change::{Change, Request, Sink};
pub use model::ids::{BootTime, ProcessKey, Tgid};
pub use model::process::Process;
pub use model::rule::Rule;
pub use model::session::Session;
pub use model::{change, death, ids, process, rule, session, starts};
pub use verify::{audit, invariants};

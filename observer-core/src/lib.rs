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
mod homes;
pub mod input;
pub mod limits;
mod model;
mod primary;
mod processes;
mod resume;
mod rows;
mod rules;
pub mod session;
mod sessions;
mod settling;
mod verify;

pub use crate::core::{Core, CoreCounters, Settings};
pub use input::Input;
pub use input::decode::{DecodeError, decode};
pub use model::change::{Change, Request, Sink};
pub use model::ids::{BootTime, ProcessKey, Tgid};
pub use model::process::Process;
pub use model::{change, death, ids, process};
pub use session::{Rule, Session};
pub use verify::{audit, invariants};

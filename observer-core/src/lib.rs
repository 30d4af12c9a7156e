//! The core of observer: it applies records of the kernel, keeps the map of live processes and sessions, and
//! reports changes.
//!
//! It does no I/O, reads no clock, and neither logs nor awaits: time is an argument, [`Core::handle`] never
//! fails, and anomalies are counted. The daemon, the tests and the fuzzers drive the same code.
//!
//! The folders are layers, and imports point downwards only: `model` ← `input` ← `processes` ← `sessions` ←
//! `core`; `verify` checks the core from outside. `limits` is below all of them.
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
pub use model::{cgroup, change, cost, death, explanation, ids, label, left, process, rule, session, starts};
pub use verify::{audit, invariants};

//! The core: kernel records go in, the map of live processes and sessions stays right, changes come out.
//!
//! No I/O, no clock, no async, no logging: time is an argument, [`Core::handle`] never fails, anomalies are
//! counted. The daemon, the tests and the fuzzers drive the same code.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod audit;
pub mod change;
pub mod check;
pub mod decode;
mod entry;
mod events;
mod homes;
pub mod ids;
pub mod input;
pub mod limits;
mod live;
mod merge;
mod passes;
mod primary;
pub mod process;
mod reconcile;
pub mod resume;
mod rows;
mod rules;
pub mod session;
mod sessions;
pub mod table;

pub use change::{Change, Request, Sink};
pub use ids::{BootTime, ProcessKey, Tgid};
pub use input::Input;
pub use process::Process;
pub use session::{Rule, Session};
pub use table::Core;

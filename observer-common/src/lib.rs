//! Bytes that cross the line between the kernel programs and the daemon: record layouts, control words,
//! counters and limits. No logic, no allocation.
//!
//! Records hold fixed-width integers and byte arrays only, in the machine's byte order; sizes and offsets are
//! asserted at compile time, so that the two sides cannot disagree.
#![no_std]
#![forbid(unsafe_code)]

pub mod chosen;
pub mod control;
pub mod hooks;
pub mod limits;
pub mod offsets;
pub mod origin;
pub mod record;

//! The control map: one memory-mapped array of 64-bit words that both sides read and write without a system
//! call.

use crate::hooks::HOOKS;
use crate::record::{HINT_COUNT, KIND_COUNT};

/// Word index: what the reader is doing, one of [`READER_IDLE`], [`READER_LINGERING`], [`READER_POLLING`].
pub const READER_STATE: u32 = 0;
/// Word index: how many tgids stand in the `WATCHED` map; 0 spares the programs its look-up.
pub const WATCHED_COUNT: u32 = 1;
/// Word index: hint bit `b` is raised while the word at `HINTS + b` is not 0; the daemon clears it. A word each,
/// because kernels before 5.12 have no atomic OR.
pub const HINTS: u32 = 2;
/// Word index: set to 1 when a record concerns a terminal or a watched process; the reader clears it before it
/// drains.
pub const URGENT: u32 = 6;
/// Word index: records of kind `k` that could not be reserved stand at `DROPS + k`.
pub const DROPS: u32 = 8;
/// Word index: records of kind `k` not reserved because the ring was above half full (the field is then read
/// again, nothing is lost) stand at `THROTTLED + k`.
pub const THROTTLED: u32 = DROPS + KIND_COUNT as u32;
/// Word index: set to 1 when the program of hook `h` (its index in [`HOOKS`]) first ran, where that is asked for.
pub const FIRED: u32 = THROTTLED + KIND_COUNT as u32;
/// Word index: events of kind `k` that the kernel skipped the first program for, and the second told, stand at `SECOND + k`.
pub const SECOND: u32 = FIRED + HOOKS.len() as u32;
/// Words in the control map.
pub const WORDS: u32 = 128;

/// The reader sleeps and nothing is pending: the first record of any kind wakes it.
pub const READER_IDLE: u64 = 0;
/// The reader sleeps with a timer of at most 20 ms running: only records of a session or a terminal wake it.
pub const READER_LINGERING: u64 = 1;
/// The reader drains, or will within 2 ms: nothing wakes it.
pub const READER_POLLING: u64 = 2;

const _: () = assert!(HINTS as usize + HINT_COUNT <= URGENT as usize);
const _: () = assert!(SECOND as usize + KIND_COUNT <= WORDS as usize);

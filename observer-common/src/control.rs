//! The control map: one memory-mapped array of 64-bit words that both sides read and write without a system call.

use crate::hooks::HOOKS;
use crate::record::{HINT_COUNT, KIND_COUNT};

/// Word index: what the reader is doing, one of [`READER_IDLE`], [`READER_LINGERING`], [`READER_POLLING`].
pub const READER_STATE: u32 = 0;
/// Word index: the number of tgids in the `WATCHED` map; if it is 0, the programs skip the look-up.
pub const WATCHED_COUNT: u32 = 1;
/// Word index: hint bit `b` is raised while the word at `HINTS + b` is not 0; the daemon clears it. Each bit has a word of its
/// own, because BPF has no atomic OR before 5.12.
pub const HINTS: u32 = 2;
/// Word index: set to 1 when a record concerns a terminal or a watched process; the reader clears it before it
/// drains.
pub const URGENT: u32 = 6;
/// Word index: while it is not 0, the records of execs have the environment of processes without a terminal as well.
pub const ALL_ENVIRONMENTS: u32 = 7;
/// Word index: the word at `DROPS + k` counts records of kind `k` that could not be reserved.
pub const DROPS: u32 = 8;
/// Word index: the word at `THROTTLED + k` counts records of kind `k` that were not sent because the ring was more than half
/// full, or because their user had sent too many. The daemon reads their fields again. Where a program starts is told
/// with its exec ([`CWD_LEFT_OUT_AT`]), because it may end before that.
pub const THROTTLED: u32 = DROPS + KIND_COUNT as u32;
/// Word index: the word at `FIRED + h` is set to 1 when the program of hook `h` (its index in [`HOOKS`]) first runs. Only
/// programs that are tried at start ([`Hook::trial`](crate::hooks::Hook::trial)) set it.
pub const FIRED: u32 = THROTTLED + KIND_COUNT as u32;
/// Word index: the word at `SECOND + k` counts events of kind `k` for which the kernel skipped the first program, and which the
/// second program reported.
pub const SECOND: u32 = FIRED + HOOKS.len() as u32;
/// Word index: when a record of a working directory was last left out, boot time, ns.
pub const CWD_LEFT_OUT_AT: u32 = SECOND + KIND_COUNT as u32;
/// Words in the control map.
pub const WORDS: u32 = 128;

/// Reader state: it sleeps without a timer, and the first record of any kind wakes it.
pub const READER_IDLE: u64 = 0;
/// Reader state: it sleeps for at most 20 ms, and only records of a session or a terminal wake it.
pub const READER_LINGERING: u64 = 1;
/// Reader state: it drains, or will within 2 ms, and nothing wakes it.
pub const READER_POLLING: u64 = 2;

const _: () = assert!(HINTS as usize + HINT_COUNT <= URGENT as usize);
const _: () = assert!(CWD_LEFT_OUT_AT < WORDS);

/// Returns the index of the [`FIRED`] word of the hook whose point has this name; `None` if no such hook is tried at start.
pub const fn fired_word(name: &str) -> Option<u32> {
    let (mut hooks, mut word) = (HOOKS, FIRED);
    while let Some((hook, others)) = hooks.split_first() {
        if hook.trial.is_some() && is_same(hook.point.name().as_bytes(), name.as_bytes()) {
            return Some(word);
        }
        (hooks, word) = (others, word + 1);
    }
    None
}

const fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let (Some((first, rest)), Some((second, others))) = (one.split_first(), other.split_first()) {
        if *first != *second {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}

//! Finds a short history that fails as a long one does.

use crate::op::Op;
use crate::play::play;

/// Plays at most so many histories.
const TRIES: usize = 20_000;

/// Drops operations as long as what is left still fails.
pub fn shrink(ops: &[Op]) -> Vec<Op> {
    let Err((last, fault)) = play(ops) else { return ops.to_vec() };
    // Another fault may be hidden in a shorter history.
    let fails = |ops: &[Op]| {
        play(ops).err().filter(|(_, other)| kind(other) == kind(&fault)).map(|(number, _)| number)
    };
    // What follows the failure has nothing to do with it.
    let mut kept: Vec<Op> = ops.iter().copied().take(last + 1).collect();
    let mut size = kept.len() / 2;
    let mut tries = 0;
    while size > 0 && tries < TRIES {
        let mut at = 0;
        let before = kept.len();
        while at < kept.len() && tries < TRIES {
            tries += 1;
            let without = |(number, op): (usize, &Op)| (number < at || number >= at + size).then_some(*op);
            let fewer: Vec<Op> = kept.iter().enumerate().filter_map(without).collect();
            match fails(&fewer) {
                Some(last) => kept = fewer.into_iter().take(last + 1).collect(),
                None => at += size,
            }
        }
        if kept.len() == before || size > 1 {
            size /= 2;
        }
    }
    kept
}

/// What a fault is about: its words before the first process.
fn kind(fault: &str) -> &str {
    fault.split(|c: char| c.is_ascii_digit() || c == 'P').next().unwrap_or_default()
}

//! Waiting for a condition, up to a deadline.

use std::time::{Duration, Instant};

/// Longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Calls `look` until it returns `Ok`; after `limit` fails with the last `Err`, which describes what was seen instead.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < end, "not within {limit:?}: {what}; last seen: {seen}"),
        }
        std::thread::sleep(PAUSE);
    }
}

//! A test that makes one check for each of many values, or tries a race many times: this machine makes all of them, and each
//! virtual machine makes a part, in which no value is left to none.

use std::path::Path;

/// What a virtual machine of `cargo xtask vm` has at this path: the tests that it runs.
const PLAN: &str = "/vm/plan";

/// Whether this is such a machine. It emulates its processor, and takes some ten times as long for everything.
pub fn is_emulated() -> bool {
    Path::new(PLAN).exists()
}

/// `INDEX/MACHINES`: which part of the values a virtual machine checks. Unset means all.
pub const VARIABLE: &str = "OBSERVER_TEST_SHARE";

/// Returns the values that are checked here.
#[track_caller]
pub fn of<T>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let Ok(share) = std::env::var(VARIABLE) else { return all.into_iter().collect() };
    let mine =
        part(all, &share).unwrap_or_else(|| panic!("{VARIABLE}={share}: write INDEX/MACHINES, or unset it"));
    assert!(!mine.is_empty(), "{VARIABLE}={share} leaves no value to check");
    mine
}

/// Every `MACHINES`-th value from `INDEX` on.
fn part<T>(all: impl IntoIterator<Item = T>, share: &str) -> Option<Vec<T>> {
    let (index, machines) = share.split_once('/')?;
    let (index, machines): (usize, usize) = (index.parse().ok()?, machines.parse().ok()?);
    (index < machines).then(|| all.into_iter().skip(index).step_by(machines).collect())
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn the_parts_of_all_machines_together_are_the_whole() {
        let mut together: Vec<_> =
            (0..4).flat_map(|index| part(0..14, &format!("{index}/4")).expect("a share")).collect();
        together.sort_unstable();
        assert_eq!(together, (0..14).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for wrong in ["", "1", "4/4", "0/0", "a/4", "-1/4"] {
            assert_eq!(part(0..14, wrong), None, "{wrong}");
        }
    }
}

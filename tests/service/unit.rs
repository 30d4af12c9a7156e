//! The unit's files as systemd checks them.

use std::process::Command;

use observer_harness::observe::CommandResult;

use crate::system::{UNIT, installed};

/// The largest allowed exposure in tenths, on systemd's own scale from 0 (nothing to attack) to 10.
const EXPOSURE_MAX: &str = "15";

#[test]
fn the_unit_has_no_mistake_that_systemd_finds() {
    let _alone = installed();
    let result = CommandResult::of(Command::new("systemd-analyze").args(["verify", "--man=no", UNIT]));
    assert_eq!((result.code, result.text(), result.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn the_units_exposure_is_below_the_limit() {
    let _alone = installed();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let result =
        CommandResult::of(Command::new("systemd-analyze").args(["security", "--no-pager", &threshold, UNIT]));
    assert_eq!(result.code, Some(0), "more than {EXPOSURE_MAX} tenths: {}", result.text());
    println!("{}", result.text().lines().last().unwrap_or_default());
}

#[test]
fn the_units_user_is_a_system_user_with_a_group_of_its_own() {
    let _alone = installed();
    let result = CommandResult::of(Command::new("id").args(["--name", "--groups", "observer"]));
    assert_eq!(result.text().trim(), "observer", "{result:?}");
    let result = CommandResult::of(Command::new("id").args(["--user", "observer"]));
    let uid: u32 = result.text().trim().parse().expect("a number");
    assert!((1..1000).contains(&uid), "{uid} is a system user's");
}

//! Races within one process: the map ends equal to the kernel.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use observer_tests::truth::assert_row;
use observer_tests::{Daemon, Options, Stage, text};

const TIMES: &[u8] = b"10000";
const LONG: Duration = Duration::from_secs(60);

#[test]
fn two_threads_that_race_each_other_into_directories_end_where_the_kernel_has_them() {
    let _alone = crate::alone();
    let (daemon, stage) = (Daemon::start(&Options::default()), Stage::new());
    let dirs = [stage.mkdir("a"), stage.mkdir("b")];
    for _ in 0..3 {
        let mut puppet = stage.puppet();
        puppet.patience(LONG);
        puppet.does("chdir_race", &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes(), TIMES]);
        assert_row(&daemon, puppet.pid);
    }
    assert_eq!(daemon.drops(), 0, "nothing lost");
}

#[test]
fn children_born_while_their_parent_moves_are_where_the_kernel_has_them() {
    let _alone = crate::alone();
    let (daemon, stage) = (Daemon::start(&Options::default()), Stage::new());
    let dirs = [stage.mkdir("a"), stage.mkdir("b")];
    let mut puppet = stage.puppet();
    puppet.patience(LONG);
    let kept = puppet
        .does("fork_race", &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes(), TIMES, b"100"]);
    assert_eq!(kept.len(), 100);
    let rows = daemon.ps();
    for pid in kept {
        let truth = observer_tests::Truth::of(pid.try_into().expect("a pid")).expect("it stays");
        let row = rows
            .iter()
            .find(|row| text::u64_any(row, "pid") == Some(pid))
            .unwrap_or_else(|| panic!("{pid} has no row"));
        let found = truth.differences(row);
        assert!(found.is_empty(), "{pid}: {found:?}");
    }
    assert_row(&daemon, puppet.pid);
    assert_eq!(daemon.drops(), 0, "nothing lost");
}

//! Races, and users who try to drown the daemon: the map ends equal to the kernel, and others lose nothing.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use observer_tests::truth::assert_row;
use observer_tests::{Daemon, Options, Stage, Watch, text};

const TIMES: &[u8] = b"10000";
const LONG: Duration = Duration::from_secs(60);

#[test]
fn two_threads_that_race_each_other_into_directories_end_where_the_kernel_has_them() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
    let dirs = [stage.mkdir("a"), stage.mkdir("b")];
    for _ in 0..3 {
        let mut puppet = stage.puppet();
        puppet.patience(LONG);
        puppet.does("chdir_race", &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes(), TIMES]);
        assert_row(daemon, puppet.pid);
    }
    assert_eq!(daemon.drops(), 0, "nothing lost");
}

#[test]
fn children_born_while_their_parent_moves_are_where_the_kernel_has_them() {
    let (daemon, stage) = (Daemon::shared(), Stage::new());
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
    assert_row(daemon, puppet.pid);
    assert_eq!(daemon.drops(), 0, "nothing lost");
}

#[test]
fn a_user_who_loops_chdir_and_prctl_costs_nobody_a_birth_or_a_death() {
    // The smallest ring: if looping could force a gap anywhere, it would here.
    let daemon = Daemon::start(&Options { ring_bytes: Some(1 << 20), ..Options::default() });
    let stage = Stage::new();
    let watch = Watch::all(&daemon);
    let dirs = [stage.mkdir("a"), stage.mkdir("b")];
    let mut loopers: Vec<_> = (0..3).map(|_| stage.puppet()).collect();
    for looper in &mut loopers {
        looper.does("loop_for_ever", &[dirs[0].as_os_str().as_bytes(), dirs[1].as_os_str().as_bytes()]);
    }
    let mut ends = Vec::new();
    for code in 0..200 {
        let puppet = stage.puppet();
        let pid = puppet.pid;
        let waited = puppet.ends("exit", &[(code % 100).to_string().as_bytes()]);
        ends.push((pid, waited.raw_status));
    }
    for (pid, raw_status) in ends {
        let end =
            watch.wait_within(LONG, &format!("the end of {pid}"), |frame| frame.is("process_ended", pid));
        assert_eq!(end.death().get("raw_status"), Some(&raw_status.into()), "{pid}");
        assert_eq!(watch.count(|frame| frame.is("process_started", pid)), 1, "{pid} was born once");
    }
    let status = daemon.status();
    assert_eq!(observer_tests::observe::total(&status, "drops_by_kind"), 0, "{status:#}");
    assert_eq!(text::u64_any(&status, "gaps"), Some(0), "{status:#}");
    drop(loopers);
    daemon.assert_no_drift();
}

#[test]
fn after_all_this_the_map_is_the_kernels() {
    let daemon = Daemon::shared();
    let found = observer_tests::population::differences(daemon);
    assert!(found.is_empty(), "the map is not what /proc says:\n{}", found.join("\n"));
    daemon.assert_no_drift();
}

//! Both kinds of hook give the same map: two daemons, one of each kind, observe the same sequence of events.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use observer_harness::Verb;
use observer_harness::fixture::PuppetOptions;
use observer_harness::{Daemon, Fixture, Options, Pty, eventually};
use serde_json::{Map, Value};

/// The times at which a value was read and at which a daemon's own program saw the exec differ between the
/// two daemons.
const OWN: [&str; 2] = ["as_of", "exec_at"];

fn rows(daemon: &Daemon, pids: &[u32]) -> BTreeMap<u64, Map<String, Value>> {
    let known = |row: &Value| row.get("pid").and_then(Value::as_u64);
    let ours = daemon.ps().into_iter().filter(|row| pids.iter().any(|&pid| known(row) == Some(pid.into())));
    ours.filter_map(|row| match row {
        Value::Object(mut fields) => {
            fields.retain(|name, _| !OWN.iter().any(|own| name.ends_with(own)));
            Some((fields.get("pid")?.as_u64()?, fields))
        }
        _ => None,
    })
    .collect()
}

#[test]
fn both_ways_show_the_same_map() {
    let _alone = crate::scene::alone();
    let start = |way| Daemon::try_start(&Options { hooks: Some(way), ..Default::default() });
    let (by_calls, by_functions) = match (start("tracepoints"), start("fexit")) {
        (Ok(by_calls), Ok(by_functions)) => (by_calls, by_functions),
        // Some kernels attach no program to functions, and some users may not attach one to system calls.
        (Err(refusal), _) | (_, Err(refusal)) => {
            return assert!(refusal.contains("cannot be had"), "no other reason: {refusal}");
        }
    };
    let (fixture, pty) = (Fixture::new(), Pty::open());
    let mut puppet = fixture.cast(&PuppetOptions { pty: Some(&pty), ..Default::default() });
    puppet.does(Verb::Ignore, &[b"1"]);
    let (mut child, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    let (mut other, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    let (mut user, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    let (mut apart, _) = puppet.bears(&fixture, Verb::Fork, &[]);
    let dir = fixture.mkdir("before");
    child.chdir(&fixture.mkdir("before/below"));
    other.chdir(&fixture.mkdir("doomed"));
    user.does(Verb::Fchdir, &[fixture.mkdir("users").as_os_str().as_bytes()]);
    fs::rename(&dir, fixture.dir().join("after")).expect("rename");
    fs::remove_dir(fixture.dir().join("doomed")).expect("rmdir");
    other.does(Verb::Setsid, &[]);
    user.does(Verb::Setpgid, &[b"0", b"0"]);
    user.does(Verb::Setresuid, &[b"1000", b"1001", b"1002"]);
    apart.does(Verb::UnshareMounts, &[]);
    apart.does(Verb::MountTmpfs, &[fixture.mkdir("mount").as_os_str().as_bytes()]);
    apart.chdir(&fixture.dir().join("mount"));
    child.does(Verb::LosesTerminal, &[]);
    let pids = [puppet.pid, child.pid, other.pid, user.pid, apart.pid];
    // Rows whose parent died are read again a moment later, by each daemon at its own time.
    eventually("both maps are the same", observer_harness::watch::SOON, || {
        let (calls, functions) = (rows(&by_calls, &pids), rows(&by_functions, &pids));
        assert_eq!((calls.len(), functions.len()), (pids.len(), pids.len()), "every puppet is in both");
        if calls == functions { Ok(()) } else { Err(format!("{calls:#?}\n{functions:#?}")) }
    });
    for daemon in [&by_calls, &by_functions] {
        daemon.assert_no_drift();
    }
}

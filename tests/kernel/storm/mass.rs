//! Hundreds of processes that one signal ends, beside another load on all processors: each of them has its certificate, and the
//! map has none of them any more.

use std::collections::BTreeMap;

use observer_harness::fixture::PuppetOptions;
use observer_harness::observe::total;
use observer_harness::{Daemon, Fixture, Options, Verb, Watch, eventually, population, text};
use serde_json::{Value, json};

/// Processes that one signal ends, and how often that happens: at least, and at most.
const AT_ONCE: usize = 400;
const ROUNDS: std::ops::Range<usize> = 10..60;

#[test]
fn hundreds_that_one_signal_ends_beside_another_load_have_their_certificates_and_leave_the_map() {
    let _alone = crate::alone();
    let (daemon, fixture) = (Daemon::start(&Options::default()), Fixture::new());
    let watch = Watch::start(&daemon, &["watch", "--json", "--all", "massed"]);
    let program = Some(fixture.program("massed"));
    let mut parent = fixture.cast(&PuppetOptions { program, ..Default::default() });
    parent.patience(crate::LONG);
    let mut storm = crate::Storm::begin(&fixture, crate::PROCESSES);
    let mut movers: Vec<u32> = storm.makers.iter().map(|maker| maker.pid).collect();
    movers.push(parent.pid);
    let mut died: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let (mut rounds, mut beside) = (0, 0);
    while rounds < ROUNDS.start || (rounds < ROUNDS.end && storm.goes_on()) {
        let numbers = parent.does(Verb::KillsMany, &[AT_ONCE.to_string().as_bytes()]);
        rounds += 1;
        beside += usize::from(storm.goes_on());
        let pairs = numbers.as_chunks::<2>().0;
        assert_eq!(pairs.len(), AT_ONCE);
        pairs.iter().for_each(|&[pid, raw_status]| died.entry(pid).or_default().push(raw_status));
        // At once, and not only when it is quiet.
        let found = population::differences_while(&daemon, &movers);
        assert!(found.is_empty(), "round {rounds}: the map is not what /proc says:\n{}", found.join("\n"));
    }
    storm.end();
    assert!(beside >= 3, "{beside} of {rounds} rounds were beside the other load");
    let is_one = |frame: &observer_harness::Frame| {
        frame.kind() == "process_ended" && frame.field("ppid") == Some(&json!(parent.pid))
    };
    eventually("each death is reported", crate::LONG, || match watch.count(is_one) {
        reported if reported == rounds * AT_ONCE => Ok(()),
        reported => Err(format!("{reported} of {}", rounds * AT_ONCE)),
    });
    watch.assert_no_holes();
    for frame in watch.frames().iter().filter(|frame| is_one(frame)) {
        let death = frame.death();
        let status = died.get_mut(&frame.pid().expect("a pid").into()).and_then(Vec::pop);
        assert_eq!(death.get("raw_status").and_then(Value::as_u64), status, "{death:#}");
        assert_eq!(death.pointer("/sender/pid"), Some(&json!(parent.pid)), "{death:#}");
    }
    assert!(died.values().all(Vec::is_empty), "whoever died has a certificate: {died:?}");
    let status = daemon.status();
    assert_eq!(total(&status, "drops_by_kind"), 0, "{status:#}");
    assert_eq!(text::u64_any(&status, "gaps"), Some(0), "{status:#}");
    crate::assert_right_now(&daemon);
    daemon.assert_no_drift();
    println!("{rounds} rounds, {beside} of them beside the other load");
}

use observer_core::BootTime;
use observer_core::cost::ProcessUsage;
use observer_core::input::{Block, ProcessFacts, RawPath};

use super::*;

const DAEMON: Tgid = Tgid(100);
const AT: BootTime = BootTime(5);
/// Every key here is younger.
const BEGUN_AT: BootTime = BootTime(3);
const SECOND: Duration = Duration::from_secs(1);
const EVERY_30: CanaryTiming =
    CanaryTiming { interval: Duration::from_secs(30), patience: Duration::from_secs(10) };

fn key(tgid: u32) -> ProcessKey {
    ProcessKey { tgid: Tgid(tgid), start_boottime: BootTime(u64::from(tgid)) }
}

fn fork(tgid: u32, creator: Tgid) -> Input<'static> {
    let creator = ProcessKey { tgid: creator, start_boottime: BootTime(1) };
    Input::Fork {
        at: AT,
        key: key(tgid),
        facts: ProcessFacts { parent: creator, ..ProcessFacts::default() },
        creator,
    }
}

fn moved(tgid: u32, components: &'static [u8]) -> Input<'static> {
    let path = RawPath { components, flags: 0 };
    Input::Cwd { at: AT, key: key(tgid), cwd: Default::default(), mnt_ns: 1, path, fs_shared: false }
}

fn exec(tgid: u32, parent: Tgid, argv: &'static [u8]) -> Input<'static> {
    let parent = ProcessKey { tgid: parent, start_boottime: BootTime(1) };
    Input::Exec {
        at: AT,
        key: key(tgid),
        facts: ProcessFacts { parent, ..ProcessFacts::default() },
        exe: RawPath::default(),
        filename: b"/proc/self/exe",
        argv: Block { bytes: argv, truncated: false },
        env: Block::default(),
    }
}

fn exit(tgid: u32, raw_status: u32) -> Input<'static> {
    Input::Exit { at: AT, key: key(tgid), raw_status, led_sid: None, usage: ProcessUsage::default() }
}

/// What the canary with this tgid does, in order.
fn life(tgid: u32) -> [Input<'static>; 4] {
    [
        fork(tgid, DAEMON),
        moved(tgid, b"btf\0kernel\0sys\0"),
        exec(tgid, DAEMON, b"observer\0canary\0"),
        exit(tgid, 86 << 8),
    ]
}

/// The rounds with the time of their beginning.
struct Scene {
    rounds: CanaryRounds,
    begin: Instant,
    look: CanaryLook,
}

impl Scene {
    /// A canary was ordered at second 0.
    fn started() -> Self {
        let begin = Instant::now();
        let outcome = CanaryOutcome::Ended;
        let look =
            CanaryLook { now: begin, lost: 0, throttled: 0, sees_moves: true, is_caught_up: true, outcome };
        let mut scene = Self { rounds: CanaryRounds::new(DAEMON, EVERY_30, begin, BEGUN_AT), begin, look };
        assert_eq!(scene.at(0), Some(CanaryStep::Start));
        scene
    }

    fn at(&mut self, second: u32) -> Option<CanaryStep> {
        self.look.now = self.begin + second * SECOND;
        self.rounds.look(&self.look)
    }

    fn takes_all(&mut self, inputs: &[Input<'_>]) {
        for input in inputs {
            assert!(self.rounds.takes(input), "{input:?}");
        }
    }

    fn due(&self) -> Duration {
        self.rounds.due() - self.begin
    }
}

fn missing(what: &str) -> Option<CanaryStep> {
    Some(CanaryStep::Missing(what.into()))
}

#[test]
fn where_no_hook_reports_changes_of_directory_none_is_awaited() {
    let mut scene = Scene::started();
    scene.look.sees_moves = false;
    let [fork, _, exec, exit] = life(7);
    scene.takes_all(&[fork, exec]);
    assert_eq!(scene.at(10), missing("death"));
    scene.takes_all(&[exit]);
    assert_eq!(scene.at(11), Some(CanaryStep::Start));
    let [fork, _, exec, exit] = life(8);
    scene.takes_all(&[fork, exec, exit]);
    assert_eq!(scene.at(12), Some(CanaryStep::CameRound(SECOND)));
}

#[test]
fn a_canary_comes_round_once_its_birth_move_exec_and_death_came() {
    let mut scene = Scene::started();
    let inputs = life(7);
    for input in &inputs {
        assert_eq!(scene.at(2), None, "before {input:?}");
        scene.takes_all(std::slice::from_ref(input));
    }
    assert_eq!(scene.at(3), Some(CanaryStep::CameRound(3 * SECOND)));
    assert_eq!((scene.due(), scene.at(29), scene.at(30)), (30 * SECOND, None, Some(CanaryStep::Start)));
}

#[test]
fn each_event_that_does_not_come_is_named_when_patience_ends() {
    for (left_out, name) in ["birth", "change of directory", "exec", "death"].into_iter().enumerate() {
        let mut scene = Scene::started();
        for (index, input) in life(7).iter().enumerate() {
            if index != left_out {
                scene.rounds.takes(input);
            }
        }
        assert_eq!(scene.at(9), None, "{name}");
        let expected = if name == "birth" { "birth, change of directory, exec, death" } else { name };
        assert_eq!(scene.at(10), missing(expected));
        assert!(scene.rounds.is_missing());
    }
}

#[test]
fn an_event_with_another_value_than_the_canarys_does_not_count() {
    for (input, name) in [
        (moved(7, b"kernel\0sys\0"), "change of directory"),
        (exec(7, DAEMON, b"observer\0list\0"), "exec"),
        (exit(7, 0), "death"),
    ] {
        let mut scene = Scene::started();
        scene.takes_all(&life(7));
        scene.takes_all(&[input]);
        assert_eq!(scene.at(10), missing(name));
    }
}

#[test]
fn a_first_miss_is_followed_by_another_canary_at_once_and_later_ones_by_the_interval() {
    let mut scene = Scene::started();
    assert_eq!(
        (scene.at(10), scene.due()),
        (missing("birth, change of directory, exec, death"), 10 * SECOND)
    );
    assert_eq!(scene.at(10), Some(CanaryStep::Start));
    assert!(scene.at(20).is_some_and(|step| step != CanaryStep::Start));
    assert_eq!(scene.due(), 40 * SECOND);
    assert_eq!(scene.at(40), Some(CanaryStep::Start));
    scene.takes_all(&life(8));
    assert_eq!(scene.at(41), Some(CanaryStep::CameRound(SECOND)));
    assert!(!scene.rounds.is_missing(), "it came round again");
}

#[test]
fn only_the_daemons_own_children_are_taken_and_their_late_records_too() {
    let mut scene = Scene::started();
    for input in [fork(7, Tgid(8)), moved(7, b"a\0"), exec(7, Tgid(8), b"a\0"), exit(7, 0)] {
        assert!(!scene.rounds.takes(&input), "another's: {input:?}");
    }
    scene.takes_all(&life(9));
    assert!(scene.at(1).is_some());
    scene.takes_all(&[Input::Release { at: AT, key: key(9), cpu_ns: 1 }]);
    let reused = ProcessKey { tgid: Tgid(9), start_boottime: BootTime(77) };
    assert!(
        !scene.rounds.takes(&Input::Release { at: AT, key: reused, cpu_ns: 1 }),
        "the pid of another process"
    );
    // Whose birth was lost.
    scene.takes_all(&[exec(10, DAEMON, b"observer\0canary\0"), exit(10, 86 << 8)]);
    for tgid in 20..40 {
        scene.takes_all(&life(tgid));
    }
    assert_eq!(scene.rounds.known.len(), KNOWN_MAX);
}

#[test]
fn the_records_of_a_late_canary_are_not_taken_for_the_next_ones() {
    let mut scene = Scene::started();
    let [birth, moved, exec, death] = life(7);
    scene.takes_all(&[birth]);
    assert_eq!(scene.at(10), missing("change of directory, exec, death"));
    assert_eq!(scene.at(10), Some(CanaryStep::Start));
    scene.takes_all(&[moved, exec, death]);
    assert_eq!(scene.at(11), None);
    scene.takes_all(&life(8));
    assert_eq!(scene.at(12), Some(CanaryStep::CameRound(2 * SECOND)));
}

#[test]
fn a_canary_that_cannot_tell_is_no_miss_while_others_are_born_or_die() {
    type Spoil = fn(&mut CanaryLook);
    let spoilt: [Spoil; 3] = [
        |look| look.outcome = CanaryOutcome::Failed("signal 9 ended it".into()),
        |look| look.outcome = CanaryOutcome::Runs,
        |look| look.lost += 1,
    ];
    for spoil in spoilt {
        let mut scene = Scene::started();
        spoil(&mut scene.look);
        assert_eq!(scene.at(10), missing("birth, change of directory, exec, death"), "nobody else was seen");
        let mut scene = Scene::started();
        spoil(&mut scene.look);
        scene.rounds.takes(&exit(55, 0));
        assert_eq!(scene.at(9), None);
        assert_eq!(scene.at(10), Some(CanaryStep::Unproven));
        assert!(!scene.rounds.is_missing());
        assert_eq!(scene.due(), 30 * SECOND);
    }
}

#[test]
fn others_do_not_end_a_blindness_and_do_not_excuse_a_canary_that_could_tell() {
    let mut scene = Scene::started();
    scene.rounds.takes(&exit(55, 0));
    assert!(matches!(scene.at(10), Some(CanaryStep::Missing(_))), "it ran, and no record was lost");
    assert_eq!(scene.at(10), Some(CanaryStep::Start));
    scene.look.outcome = CanaryOutcome::NotStarted("no process is free".into());
    scene.rounds.takes(&exit(55, 0));
    assert!(matches!(scene.at(20), Some(CanaryStep::Missing(_))), "only a canary ends it");
}

#[test]
fn a_host_without_room_for_a_process_is_not_seen_less() {
    let mut scene = Scene::started();
    scene.look.outcome = CanaryOutcome::NotStarted("no process is free".into());
    assert_eq!(scene.at(10), Some(CanaryStep::Unproven), "though nobody is born and nobody dies");
    assert!(!scene.rounds.is_missing());
}

#[test]
fn without_room_for_a_process_and_without_a_witness_nobody_knows_after_some_time() {
    let mut scene = Scene::started();
    scene.look.outcome = CanaryOutcome::NotStarted("no process is free".into());
    let mut round = |start, sees_another: bool| {
        assert!(start == 0 || scene.at(start) == Some(CanaryStep::Start));
        if sees_another {
            scene.rounds.takes(&exit(55, 0));
        }
        scene.at(start + 10)
    };
    let [unproven, untold] = [CanaryStep::Unproven, CanaryStep::Untold].map(Some);
    assert_eq!([0, 30].map(|start| round(start, false)), [unproven.clone(), unproven.clone()]);
    assert_eq!([60, 90].map(|start| round(start, false)), [untold.clone(), untold.clone()]);
    assert_eq!(round(120, true), unproven, "another process ended, and that was seen");
    assert_eq!([150, 180, 210].map(|start| round(start, false)), [unproven.clone(), unproven, untold]);
}

#[test]
fn a_canary_is_no_witness_of_itself() {
    let mut scene = Scene::started();
    let [birth, moved, _, death] = life(7);
    scene.takes_all(&[birth, moved, death]);
    scene.look.lost += 1;
    assert_eq!(scene.at(10), missing("exec"));
}

#[test]
fn children_that_the_program_had_before_it_became_the_daemon_are_no_canaries() {
    let mut scene = Scene::started();
    for input in [fork(2, DAEMON), exec(2, DAEMON, b"agent\0"), exit(2, 0)] {
        assert!(!scene.rounds.takes(&input), "{input:?}");
    }
    scene.takes_all(&life(7));
    assert_eq!(scene.at(1), Some(CanaryStep::CameRound(SECOND)));
}

#[test]
fn a_daemon_in_a_chroot_sees_its_canary() {
    let mut scene = Scene::started();
    let [birth, _, exec, death] = life(7);
    scene.takes_all(&[birth, moved(7, b"btf\0kernel\0sys\0host\0"), exec, death]);
    assert_eq!(scene.at(1), Some(CanaryStep::CameRound(SECOND)));
}

#[test]
fn a_move_that_was_throttled_is_not_missing() {
    let mut scene = Scene::started();
    let [birth, _, exec, death] = life(7);
    scene.takes_all(&[birth, exec, death]);
    assert_eq!(scene.at(1), None);
    scene.look.throttled += 1;
    assert_eq!(scene.at(2), Some(CanaryStep::CameRound(2 * SECOND)));
}

#[test]
fn nothing_is_missing_before_the_ring_was_read() {
    let mut scene = Scene::started();
    scene.look.is_caught_up = false;
    assert_eq!(scene.at(100), None, "its records may be in the ring");
    scene.takes_all(&life(7));
    assert!(scene.at(100).is_some());
}

#[test]
fn a_loop_that_reads_but_is_always_behind_is_not_blind() {
    let mut scene = Scene::started();
    scene.look.is_caught_up = false;
    scene.rounds.takes(&exit(55, 0));
    assert_eq!(scene.at(10), Some(CanaryStep::Unproven));
    assert_eq!(scene.at(30), Some(CanaryStep::Start));
    assert_eq!(scene.at(40), None, "nothing came in this time");
    scene.look.is_caught_up = true;
    assert!(matches!(scene.at(41), Some(CanaryStep::Missing(_))));
}

#[test]
fn three_canaries_fit_into_the_time_of_a_watchdog() {
    let timing = |interval, watchdog| CanaryTiming::new(interval * SECOND, watchdog);
    assert_eq!(timing(30, None), EVERY_30);
    assert_eq!(timing(30, Some(90 * SECOND)), EVERY_30);
    let of = |interval, patience| CanaryTiming { interval: interval * SECOND, patience: patience * SECOND };
    assert_eq!([timing(30, Some(6 * SECOND)), timing(2, Some(60 * SECOND))], [of(2, 2), of(2, 10)]);
    assert_eq!(timing(2, None), of(2, 10));
}

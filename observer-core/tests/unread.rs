//! Processes whose arguments are not known, which decide whether a rule admits them: it is said that they may be sessions, for
//! as long as that is so.

#![allow(clippy::indexing_slicing)]

mod support;

use observer_common::record::path_flag;
use observer_core::explanation::Position;
use observer_core::input::RawPath;
use observer_core::limits::{SETTLE_NS, UNREAD_A_USER_MAX};
use observer_core::process::{Bytes, Pane};
use observer_core::rule::{Conditions, HomeRule, Ignore, Instances};
use observer_core::session::{Doubt, State};
use observer_core::{Input, ProcessKey, Rule};
use proptest::prelude::*;
use support::{Proc, World, globs, on_pty, only_comm, only_program, only_uid, rule, shell};

/// A rule for two scripts of an interpreter: their arguments alone tell whether it admits them.
fn scripts() -> Rule {
    Rule { conditions: only_program(&["claude", "codex"]), ..rule() }
}

/// A core that was started beside `found`, whose arguments it has not read.
fn look(rules: Vec<Rule>, found: &[&Proc]) -> World {
    look_ignoring(Vec::new(), rules, found)
}

fn look_ignoring(ignored: Vec<Ignore>, rules: Vec<Rule>, found: &[&Proc]) -> World {
    let mut world = World::ignoring(ignored, rules);
    world.interpreter = Some("node");
    world.now = 5_000_000_000;
    world.pass(found);
    world
}

/// What runs before the core is started: a shell, and a script that it started in /srv/a.
fn bash_and(name: &'static str) -> (Proc, Proc) {
    let mut before = World::new(Vec::new());
    let bash = shell(&mut before);
    let script = Proc { cwd: "/srv/a".into(), ..before.child(&bash, 20, name) };
    (bash, script)
}

/// The path of a home that is undecided, the process and the name.
type DoubtedHome = (String, u32, String);

/// The homes in doubt, each with the process and the name, and the users.
fn in_doubt(world: &World) -> (Vec<DoubtedHome>, Vec<(u32, u32)>) {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let found = world.core.unread_arguments();
    let homes = found.homes.iter().inspect(|it| assert_eq!(it.doubt, Doubt::ArgumentsUnread));
    let homes = homes.map(|it| (text(&it.home.path), it.key.tgid.0, text(&it.name)));
    let users = found.users.iter().inspect(|it| assert_eq!(it.doubt, Doubt::ArgumentsUnread));
    (homes.collect(), users.map(|it| (it.uid, it.key.tgid.0)).collect())
}

#[track_caller]
fn assert_in_doubt(world: &World, homes: &[(&str, u32, &str)]) {
    let homes: Vec<_> =
        homes.iter().map(|&(home, pid, name)| (home.to_owned(), pid, name.to_owned())).collect();
    assert_eq!(in_doubt(world), (homes, Vec::new()));
}

#[track_caller]
fn assert_no_doubt(world: &World) {
    assert_in_doubt(world, &[]);
}

fn primary(world: &World, home: &str) -> Option<u32> {
    world.session(home).filter(|it| it.state != State::Ended).map(|session| session.primary.tgid.0)
}

#[test]
fn a_script_whose_arguments_are_not_read_may_be_a_session_until_they_are() {
    let (bash, claude) = bash_and("claude");
    for rules in [
        vec![scripts()],
        vec![Rule { conditions: Conditions { argv: globs(&["**"]), ..Conditions::default() }, ..rule() }],
    ] {
        let mut world = look(rules, &[&bash, &claude]);
        assert_eq!(primary(&world, "/srv/a"), None);
        assert_in_doubt(&world, &[("/srv/a", 20, "a")]);
        world.memory(&claude);
        assert_eq!(primary(&world, "/srv/a"), Some(20));
        assert_no_doubt(&world);
    }
    // Another program, which the arguments show, or which it executes.
    let (bash, mut server) = bash_and("server");
    let mut world = look(vec![scripts()], &[&bash, &server]);
    assert_in_doubt(&world, &[("/srv/a", 20, "a")]);
    world.memory(&server);
    assert_no_doubt(&world);
    let mut world = look(vec![scripts()], &[&bash, &server]);
    world.exec(&mut server, "vim");
    assert_no_doubt(&world);
    world.exec(&mut server, "claude");
    assert_eq!(primary(&world, "/srv/a"), Some(20));
    let mut world = look(vec![scripts()], &[&bash, &server]);
    world.exit(&server, 0);
    assert_no_doubt(&world);
}

#[test]
fn there_is_no_doubt_of_what_no_rule_can_admit_whatever_its_arguments_are() {
    let (bash, script) = bash_and("claude");
    let with = |conditions: Conditions| Rule {
        conditions: Conditions { program: globs(&["claude"]), ..conditions },
        ..rule()
    };
    for (what, rules, script) in [
        ("its comm", vec![with(only_comm(&["agent"]))], script.clone()),
        ("a comm that is refused", vec![scripts()], Proc { comm: "bash", ..script.clone() }),
        ("its user", vec![with(only_uid(8))], script.clone()),
        ("its terminal", vec![with(on_pty())], Proc { tty: None, ..script.clone() }),
        ("its directory", vec![scripts()], Proc { cwd: "/root".into(), ..script.clone() }),
        ("it is a wrapper", vec![scripts()], Proc { comm: "sudo", ..script.clone() }),
        ("the rule asks for no arguments", vec![rule()], script.clone()),
        (
            "the rule is for a pane, and no multiplexer is there",
            vec![Rule {
                conditions: Conditions { mux_socket: globs(&["**"]), ..Conditions::default() },
                ..rule()
            }],
            script.clone(),
        ),
    ] {
        let world = look(rules, &[&bash, &script]);
        assert_eq!(in_doubt(&world), (Vec::new(), Vec::new()), "{what}");
    }
    let ignoring = |conditions| vec![Ignore { conditions, ..Ignore::default() }];
    let world = look_ignoring(ignoring(only_comm(&["claude"])), vec![scripts()], &[&bash, &script]);
    assert_no_doubt(&world);
    let world = look_ignoring(ignoring(only_program(&["claude"])), vec![scripts()], &[&bash, &script]);
    assert_in_doubt(&world, &[("/srv/a", 20, "a")]);
}

#[test]
fn an_executable_that_is_no_interpreter_is_called_by_its_name_or_a_part_of_it() {
    let (bash, script) = bash_and("claude-code");
    for (name, is_doubtful) in
        [("vi", false), ("claude-code", true), ("claudecode", false), ("a.codex", true), ("vim.basic", true)]
    {
        let found = Proc { comm: "x", ..script.clone() };
        let mut world = World::new(vec![scripts()]);
        let named = Proc { comm: name, ..found };
        world.pass(&[&bash, &named]);
        assert_eq!(!in_doubt(&world).0.is_empty(), is_doubtful, "{name}");
    }
}

#[test]
fn what_has_a_session_or_was_started_by_one_is_in_no_doubt() {
    let (bash, claude) = bash_and("claude");
    let mut world = look(vec![scripts()], &[&bash, &claude]);
    world.memory(&claude);
    let helper = world.child(&claude, 21, "claude");
    let elsewhere = Proc { cwd: "/srv/b".into(), ..world.child(&claude, 22, "claude") };
    // A user has one session in a home.
    let beside = world.child(&bash, 23, "claude");
    let beside = Proc { cwd: "/srv/a".into(), ..beside };
    world.pass(&[&bash, &claude, &helper, &elsewhere, &beside]);
    assert_no_doubt(&world);
    let stranger = Proc { uid: 8, ..world.child(&beside, 24, "claude") };
    world.pass(&[&bash, &claude, &helper, &elsewhere, &beside, &stranger]);
    let homes = world.core.unread_arguments().homes;
    assert_eq!(homes.iter().map(|it| (it.home.uid, it.key)).collect::<Vec<_>>(), [(8, stranger.key)]);
    world.exit(&stranger, 0);
    world.exit(&claude, 0);
    assert_in_doubt(&world, &[("/srv/a", 21, "a"), ("/srv/b", 22, "b")]);
    // What has a terminal of its own is no helper.
    let codex = world.spawn(&bash, 30, "codex");
    let mut codex = codex;
    world.chdir(&mut codex, "/srv/c");
    world.wait(2 * SETTLE_NS);
    let own = Proc { tty: Some("pts9"), cwd: "/srv/d".into(), ..world.child(&codex, 31, "claude") };
    world.pass(&[&bash, &codex, &own]);
    world.pass(&[&bash, &codex, &own]);
    assert_in_doubt(&world, &[("/srv/d", 31, "d")]);
}

#[test]
fn where_each_process_has_a_session_there_may_be_one_more() {
    let (bash, outer) = bash_and("claude");
    let rules = || vec![Rule { instances: Instances::Each, ..scripts() }];
    let mut world = look(rules(), &[&bash, &outer]);
    let inner = world.spawn(&outer, 21, "claude");
    assert_eq!(primary(&world, "/srv/a"), Some(21));
    assert_no_doubt(&world);
    let beside = Proc { cwd: "/srv/a".into(), ..world.child(&bash, 22, "claude") };
    world.pass(&[&bash, &outer, &inner, &beside]);
    assert_in_doubt(&world, &[("/srv/a", 22, "a")]);
}

#[test]
fn a_rule_that_admits_it_leaves_the_doubt_whether_a_rule_before_it_would() {
    let (bash, claude) = bash_and("claude");
    let claude = Proc { cwd: "/srv/a/src".into(), ..claude };
    let anything = || Rule { home: HomeRule::Cwd, ..rule() };
    let world = look(vec![scripts(), anything()], &[&bash, &claude]);
    assert_eq!(primary(&world, "/srv/a/src"), Some(20));
    assert_in_doubt(&world, &[("/srv/a", 20, "a")]);
    let world = look(vec![anything(), scripts()], &[&bash, &claude]);
    assert_eq!(primary(&world, "/srv/a/src"), Some(20));
    assert_no_doubt(&world);
}

#[test]
fn a_user_is_in_doubt_where_no_name_is_known_or_there_are_too_many_processes() {
    let (bash, claude) = bash_and("claude");
    let world = look(vec![Rule { name: "{program}".into(), ..scripts() }], &[&bash, &claude]);
    assert_eq!(in_doubt(&world), (Vec::new(), vec![(7, 20)]));
    // The path of the directory is too long, so that it may be in any home.
    let mut world = look(vec![scripts()], &[&bash, &claude]);
    let (at, cwd) = (world.tick_clock(), world.dir("/srv/a/deep"));
    let path = RawPath { components: b"deep\0", flags: path_flag::TRUNCATED };
    world.feed(Input::Cwd { at, key: claude.key, cwd, mnt_ns: claude.mnt_ns, path, fs_shared: false });
    assert_eq!(in_doubt(&world), (Vec::new(), vec![(7, 20)]));

    let bound = u32::try_from(UNREAD_A_USER_MAX).expect("a small number");
    let workers = |count: u32| -> Vec<Proc> {
        (0..count).map(|at| Proc { key: ProcessKey::new(100 + at, 900), ..claude.clone() }).collect()
    };
    for (count, users) in [(bound, Vec::new()), (bound + 1, vec![(7, 100 + bound)])] {
        let workers = workers(count);
        let found: Vec<&Proc> = std::iter::once(&bash).chain(&workers).collect();
        let world = look(vec![scripts()], &found);
        assert_eq!(in_doubt(&world), (vec![("/srv/a".to_owned(), 100, "a".to_owned())], users));
    }
}

#[test]
fn who_is_known_not_to_own_the_home_is_in_no_doubt() {
    let (bash, claude) = bash_and("claude");
    let rules = || vec![Rule { owner: true, ..scripts() }];
    let mut world = look(rules(), &[&bash, &claude]);
    assert_in_doubt(&world, &[("/srv/a", 20, "a")]);
    let codex = world.spawn(&bash, 21, "codex");
    let mut codex = codex;
    world.chdir(&mut codex, "/srv/a");
    world.wait(2 * SETTLE_NS);
    world.answer_owner(7, Some(9));
    assert_no_doubt(&world);
    let inside = Proc { mnt_ns: 2, ..claude };
    let world = look(rules(), &[&bash, &inside]);
    assert_no_doubt(&world);
}

#[test]
fn an_environment_that_is_not_read_may_name_the_pane_that_a_rule_requires() {
    let (bash, claude) = bash_and("claude");
    let of_panes = |socket| {
        let conditions = Conditions { mux_socket: globs(&[socket]), ..Conditions::default() };
        vec![Rule { conditions, ..rule() }]
    };
    let server = Proc { comm: "tmux: server", tty: None, ..bash.clone() };
    let mut before = World::new(Vec::new());
    before.now = 2_000;
    let pane = Proc { tty: Some("pts4"), comm: "bash", ..before.child(&server, 11, "bash") };
    let claude = Proc { parent: pane.key, tty: pane.tty, ..claude };
    let mut world = World::new(of_panes("/tmp/agents"));
    world.interpreter = Some("node");
    world.sids.insert(pane.key, pane.key.tgid.0);
    let claude = Proc { key: ProcessKey::new(20, 3_000), ..claude };
    world.sids.insert(claude.key, pane.key.tgid.0);
    world.now = 5_000_000_000;
    world.pass(&[&server, &pane, &claude]);
    assert_in_doubt(&world, &[("/srv/a", 20, "a")]);
    let process = world.core.process(claude.key.tgid).expect("it lives");
    assert_eq!(process.pane, Pane::None);
}

/// An unread launcher and what it started run the same executable: nobody knows whether it is the same program.
#[test]
fn under_a_rule_that_asks_for_no_arguments_an_unread_launcher_stays_the_primary() {
    let (bash, outer) = bash_and("claude");
    let inner = Proc { key: ProcessKey::new(21, 2_000), parent: outer.key, exec_id: 3, ..outer.clone() };
    let rules = vec![Rule { not_program: globs(&["server"]), ..rule() }];
    let mut world = look(rules, &[&bash, &outer, &inner]);
    assert_eq!(primary(&world, "/srv/a"), Some(20));
    assert!(world.session("/srv/a").is_some_and(|session| session.unconfirmed));
    assert_no_doubt(&world);
    world.memory(&outer);
    assert_eq!(primary(&world, "/srv/a"), Some(20));
    world.memory(&inner);
    assert_eq!(primary(&world, "/srv/a"), Some(21), "it stands aside for the same program");
}

const NAMES: [&str; 5] = ["claude", "bash", "claude", "vim", "sudo"];
const DIRS: [&str; 4] = ["/srv/a", "/srv/a/x", "/srv/b", "/root"];
const TTYS: [Option<&str>; 3] = [None, Some("pts1"), Some("pts2")];

#[derive(Clone, Copy, Debug)]
enum Op {
    Spawn { by: usize, name: usize, tty: usize },
    Exit { by: usize },
    Chdir { by: usize, to: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let by = 0..16_usize;
    prop_oneof![
        5 => (by.clone(), 0..NAMES.len(), 0..TTYS.len()).prop_map(|(by, name, tty)| Op::Spawn { by, name, tty }),
        1 => by.clone().prop_map(|by| Op::Exit { by }),
        4 => (by, 0..DIRS.len()).prop_map(|(by, to)| Op::Chdir { by, to }),
    ]
}

/// Runs processes, and returns those that live and a core that saw all of it.
fn lasting(ops: &[Op], rules: Vec<Rule>) -> (World, Vec<Proc>) {
    let mut world = World::new(rules);
    world.interpreter = Some("node");
    let mut procs = vec![shell(&mut world)];
    for (at, op) in ops.iter().enumerate() {
        let at = u32::try_from(at).expect("a small number");
        match *op {
            Op::Spawn { by, name, tty } => {
                let by = procs[by % procs.len()].clone();
                let mut child = world.fork(&by, 20 + at);
                if let Some(tty) = TTYS[tty] {
                    world.setsid(&mut child, Some(tty));
                }
                world.exec(&mut child, NAMES[name]);
                procs.push(child);
            }
            Op::Exit { by } => {
                let by = by % procs.len();
                let is_parent = procs.iter().any(|it| it.parent == procs[by].key);
                if by > 0 && !is_parent {
                    let proc = procs.remove(by);
                    world.exit(&proc, 0);
                }
            }
            Op::Chdir { by, to } => {
                let by = by % procs.len();
                world.chdir(&mut procs[by], DIRS[to]);
            }
        }
        world.wait(2 * SETTLE_NS);
    }
    (world, procs)
}

/// Whether an ancestor of the process is the primary of a session.
fn is_below_primary(world: &World, procs: &[Proc], key: ProcessKey) -> bool {
    let parent_of = |key: ProcessKey| procs.iter().find(|it| it.key == key).map(|it| it.parent);
    let is_primary = |key: &ProcessKey| {
        let explained = world.core.explain(key.tgid);
        matches!(explained.map(|it| it.position), Some(Position::Primary { .. }))
    };
    std::iter::successors(parent_of(key), |&above| parent_of(above)).any(|above| is_primary(&above))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A home that has a session where all arguments are known has one, or is in doubt, where some are. None is in doubt once all
    /// are.
    #[test]
    fn nothing_is_certainly_none_that_is_a_session(
        ops in prop::collection::vec(op(), 1..24),
        is_each in any::<bool>(),
        read in any::<u32>(),
    ) {
        let instances = if is_each { Instances::Each } else { Instances::One };
        let rules = || vec![Rule { instances, ..scripts() }];
        let (lasting, procs) = lasting(&ops, rules());
        let find = |mut world: World| {
            world.interpreter = Some("node");
            world.dirs.clone_from(&lasting.dirs);
            world.sids.clone_from(&lasting.sids);
            world.now = lasting.now + 1_000_000_000;
            world.pass(&procs.iter().collect::<Vec<_>>());
            world
        };
        let mut all = find(World::restarted(rules()));
        procs.iter().for_each(|proc| all.memory(proc));
        all.resume_recorded(&[], 0);
        prop_assert_eq!(in_doubt(&all), (Vec::new(), Vec::new()));
        let mut look = find(World::new(rules()));
        for (at, proc) in procs.iter().enumerate() {
            let (homes, users) = in_doubt(&look);
            prop_assert!(users.is_empty());
            for (home, pid, _) in &homes {
                let unread = procs.iter().find(|it| it.key.tgid.0 == *pid).expect("it lives");
                prop_assert!(!["bash", "sudo"].contains(&unread.comm), "{home}: {unread:?}");
            }
            for (session, _) in all.core.sessions() {
                let home = String::from_utf8_lossy(&session.home.path).into_owned();
                // Where another process became a primary before all were known, it stays that, and this one is its helper.
                let is_in_doubt = homes.iter().any(|(it, ..)| *it == home);
                let is_helper = || is_below_primary(&look, &procs, session.primary);
                let is_known = primary(&look, &home).is_some() || is_in_doubt || is_helper();
                prop_assert!(is_known, "{home} of {:?}: {homes:?}", session.primary);
            }
            if read & (1 << (at % 32)) != 0 {
                look.memory(proc);
            }
        }
        procs.iter().for_each(|proc| look.memory(proc));
        prop_assert_eq!(in_doubt(&look), (Vec::new(), Vec::new()));
    }
}

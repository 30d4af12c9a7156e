//! Conditions of rules, and names of sessions. Each test shows one fact.

mod support;

use std::sync::Arc;

use observer_core::explanation::Unmet;
use observer_core::input::Block;
use observer_core::process::{Argv, ArgvSource};
use observer_core::rule::{Conditions, Ignore, MntNsRule, NameTemplate, UserNames};
use observer_core::session::State;
use observer_core::{Input, ProcessKey, Rule, Settings, Tgid};
use support::{Glob, Proc, World, assert_reported, at_home, globs, only_comm, only_uid, rule};

const IN_TMUX: &[u8] = b"TMUX=/tmp/a,b/default,50,0\0TMUX_PANE=%5\0";

fn only_argv(glob: &'static str) -> Conditions {
    Conditions { argv: globs(&[glob]), ..Conditions::default() }
}

fn only_socket(glob: &'static str) -> Conditions {
    Conditions { mux_socket: globs(&[glob]), ..Conditions::default() }
}

fn only_host() -> Conditions {
    Conditions { mnt_ns: MntNsRule::Host, ..Conditions::default() }
}

fn with(conditions: Conditions) -> Rule {
    Rule { conditions, ..rule() }
}

fn ignoring(conditions: Conditions) -> Vec<Ignore> {
    vec![Ignore { conditions, ..Ignore::default() }]
}

fn exec(world: &mut World, proc: &mut Proc, argv: &[u8], truncated: bool) {
    world.exec_args(proc, "node", Block { bytes: argv, truncated }, b"");
}

/// Reads the arguments and the environment of a process from its memory.
fn read_memory(world: &mut World, proc: &Proc, argv: &[u8], env: &[u8]) {
    let at = world.tick_clock();
    let [argv, env] = [argv, env].map(|bytes| Block { bytes, truncated: false });
    world.feed(Input::Memory { at, key: proc.key, exec_id: proc.exec_id, argv, env });
}

/// A process that a pass shows for the first time, in the directory of `above`.
fn found(above: &Proc, tgid: u32, comm: &'static str) -> Proc {
    Proc { key: ProcessKey::new(tgid, 7), parent: above.key, comm, exec_id: 9, ..above.clone() }
}

fn unmet(world: &World, tgid: u32) -> Option<Unmet> {
    *world.core.explain(Tgid(tgid)).expect("in the map").rules.first().expect("a rule")
}

#[test]
fn arguments_are_those_that_were_read_whole() {
    let cases: [(&[u8], bool, &[&str]); 7] = [
        (b"a\0b c\0", false, &["a", "b c"]),
        (b"a\0\0b\0", false, &["a", "", "b"]),
        (b"", false, &[]),
        (b"\0", false, &[""]),
        (b"a\0b", true, &["a"]),
        (b"a\0b\0", true, &["a", "b"]),
        (b"a title", false, &["a title"]),
    ];
    for (bytes, truncated, expected) in cases {
        let argv = Argv { bytes: bytes.into(), truncated, source: ArgvSource::Exec, uid: 0 };
        let whole: Vec<_> = argv.whole().map(String::from_utf8_lossy).collect();
        assert_eq!(whole, expected, "{bytes:?} {truncated}");
        let has_more = bytes.splitn(2, |&byte| byte == 0).nth(1).is_some_and(|rest| !rest.is_empty());
        assert_eq!(argv.has_more_than_name(), has_more, "{bytes:?}");
    }
}

#[test]
fn any_argument_may_be_the_one_that_a_rule_requires() {
    let mut world = World::new(vec![with(only_argv("--agent"))]);
    let bash = at_home(&mut world);
    let cases: [(&[u8], bool, bool); 5] = [
        (b"node\0x.js\0--agent\0", false, true),
        (b"--agent\0", false, true),
        (b"node\0--agent=1\0", false, false),
        (b"node\0--agent", true, false),
        (b"", false, false),
    ];
    for (argv, truncated, admitted) in cases {
        let mut node = world.fork(&bash, 20);
        exec(&mut world, &mut node, argv, truncated);
        let expected = if admitted { None } else { Some(Unmet::Argv) };
        assert_eq!(unmet(&world, 20), expected, "{argv:?}");
        assert_eq!(world.session("/srv/a").is_some_and(|it| it.primary == node.key), admitted, "{argv:?}");
        world.exit(&node, 0);
    }
}

#[test]
fn an_exec_with_other_arguments_is_asked_again() {
    let mut world = World::new(vec![with(only_argv("--agent"))]);
    let bash = at_home(&mut world);
    let mut node = world.fork(&bash, 20);
    exec(&mut world, &mut node, b"node\0", false);
    assert_reported(&mut world, &[]);
    exec(&mut world, &mut node, b"node\0--agent\0", false);
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    exec(&mut world, &mut node, b"node\0", false);
    assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 execed-away"]);
}

#[test]
fn arguments_that_are_known_later_admit_then() {
    let mut world = World::new(vec![with(only_argv("--agent"))]);
    let bash = at_home(&mut world);
    let node = found(&bash, 20, "node");
    world.pass(&[&bash, &node]);
    assert_eq!(unmet(&world, 20), Some(Unmet::Argv), "what is not known matches nothing");
    // A child of a process that was refused is refused without asking the rules; its arguments come later, too.
    let child = world.fork(&node, 21);
    assert_reported(&mut world, &[]);
    read_memory(&mut world, &node, b"node\0--agent\0", b"");
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    world.exit(&node, 0);
    read_memory(&mut world, &child, b"node\0--agent\0", b"");
    world.wait(2 * observer_core::limits::SETTLE_NS);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(child.key));
}

#[test]
fn arguments_that_are_known_later_end_what_began_without_them() {
    let rules = || vec![Rule { not_program: globs(&["tool"]), ..rule() }];
    let mut world = World::ignoring(ignoring(only_argv("--batch")), rules());
    let bash = at_home(&mut world);
    let (batch, tool, agent) =
        (found(&bash, 20, "python3"), found(&bash, 21, "python3"), found(&bash, 22, "python3"));
    world.pass(&[&bash, &batch, &tool, &agent]);
    assert_eq!(world.take_reports().last().map(String::as_str), Some("changed /srv/a 20 live roots=3"));
    read_memory(&mut world, &batch, b"python3\0x.py\0--batch\0", b"");
    assert_reported(
        &mut world,
        &["ended /srv/a 20 ended roots=0 not-admitted", "started /srv/a 21 live roots=2"],
    );
    read_memory(&mut world, &tool, b"python3\0tool.py\0", b"");
    assert_reported(
        &mut world,
        &["ended /srv/a 21 ended roots=0 not-admitted", "started /srv/a 22 live roots=1"],
    );
    assert_eq!(world.session("/srv/a").map(|session| session.starts.len()), Some(1));
    read_memory(&mut world, &agent, b"python3\0agent.py\0", b"");
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(agent.key));
    world.assert_reports_give_the_map();
}

#[test]
fn arguments_that_are_known_later_end_nothing_for_what_is_no_argument() {
    let conditions = Conditions { comm: globs(&["claude"]), ..support::on_pty() };
    let mut world = World::new(vec![with(conditions)]);
    let bash = at_home(&mut world);
    let mut claude = found(&bash, 20, "claude");
    world.pass(&[&bash, &claude]);
    assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
    world.set_tty(&mut claude, None);
    assert_reported(&mut world, &["changed /srv/a 20 detached roots=1"]);
    read_memory(&mut world, &claude, b"claude\0", b"");
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(claude.key));
}

#[test]
fn a_program_that_a_rule_refuses_is_no_session_whatever_its_comm() {
    let mut world = World::new(vec![Rule { not_program: globs(&["vim"]), ..rule() }]);
    let bash = at_home(&mut world);
    let mut vim = world.fork(&bash, 20);
    world.exec(&mut vim, "vim");
    let at = world.tick_clock();
    world.feed(Input::Comm { at, key: vim.key, comm: support::comm("claude") });
    assert_eq!(unmet(&world, 20), Some(Unmet::NotProgram));
    assert_reported(&mut world, &[]);
}

#[test]
fn a_script_that_names_env_is_no_session_under_its_own_name() {
    for (comm, expected) in [("helper", &[][..]), ("python3", &["started /srv/a 20 live roots=1"])] {
        let mut world = World::new(vec![with(only_comm(&[comm]))]);
        let bash = at_home(&mut world);
        let mut helper = world.fork(&bash, 20);
        world.exec_script_by(&mut helper, "/usr/bin/env", "/usr/bin/env", "helper");
        assert_reported(&mut world, &[]);
        world.exec(&mut helper, "python3");
        assert_reported(&mut world, expected);
    }
}

#[test]
fn a_rule_with_a_group_admits_its_members_alone() {
    let members = |uids: &[u32]| Conditions { members: Some(uids.to_vec()), ..Conditions::default() };
    let cases = [
        (members(&[5, 7]), None),
        (members(&[5]), Some(Unmet::Group)),
        (members(&[]), Some(Unmet::Group)),
        (Conditions { members: Some(vec![7]), ..only_uid(8) }, Some(Unmet::User)),
        (Conditions { members: Some(vec![8]), ..only_uid(7) }, Some(Unmet::Group)),
        (Conditions { members: Some(vec![7]), ..only_uid(7) }, None),
    ];
    for (conditions, expected) in cases {
        let shown = format!("{conditions:?}");
        let mut world = World::new(vec![with(conditions)]);
        let bash = at_home(&mut world);
        world.spawn(&bash, 20, "claude");
        assert_eq!(unmet(&world, 20), expected, "{shown}");
        assert_eq!(world.session("/srv/a").is_some(), expected.is_none(), "{shown}");
    }
}

#[test]
fn a_rule_with_a_cgroup_admits_what_is_moved_there_and_refuses_the_rest() {
    let conditions = Conditions { cgroup: globs(&["/agents/*"]), ..Conditions::default() };
    let mut world = World::new(vec![with(conditions)]);
    let bash = at_home(&mut world);
    let agent = world.spawn(&bash, 20, "claude");
    assert_eq!((unmet(&world, 20), world.session("/srv/a")), (Some(Unmet::Cgroup), None));
    let moved_to = |world: &mut World, cgroup_id, path: &str| {
        let at = world.tick_clock();
        world.feed(Input::Cgroup { at, key: agent.key, cgroup_id, path: path.as_bytes() });
    };
    moved_to(&mut world, 5, "/other/a");
    assert_eq!(unmet(&world, 20), Some(Unmet::Cgroup));
    moved_to(&mut world, 6, "/agents/a");
    assert_eq!(unmet(&world, 20), None);
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(agent.key));
    // Rules admit and do not evict.
    moved_to(&mut world, 5, "/other/a");
    assert_eq!(world.session("/srv/a").map(|session| session.state), Some(State::Live));
}

#[test]
fn a_rule_with_a_unit_or_a_container_admits_what_is_moved_there_and_refuses_the_rest() {
    let id = "1b2c".repeat(16);
    for (conditions, lacks, there) in [
        (
            Conditions { unit: globs(&["agent@*"]), ..Conditions::default() },
            Unmet::Unit,
            "/system.slice/system-agent.slice/agent@7.service/sub".to_owned(),
        ),
        (
            Conditions { container: globs(&["1b2c*"]), ..Conditions::default() },
            Unmet::Container,
            format!("/system.slice/docker-{id}.scope"),
        ),
    ] {
        let mut world = World::new(vec![with(conditions)]);
        let bash = at_home(&mut world);
        let agent = world.spawn(&bash, 20, "claude");
        let moved_to = |world: &mut World, cgroup_id, path: &str| {
            let at = world.tick_clock();
            world.feed(Input::Cgroup { at, key: agent.key, cgroup_id, path: path.as_bytes() });
        };
        assert_eq!(
            (unmet(&world, 20), world.session("/srv/a")),
            (Some(lacks), None),
            "its cgroup is not known"
        );
        moved_to(&mut world, 5, "/system.slice/other.service");
        assert_eq!((unmet(&world, 20), world.session("/srv/a")), (Some(lacks), None));
        moved_to(&mut world, 6, &there);
        assert_eq!(unmet(&world, 20), None);
        assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(agent.key));
    }
}

#[test]
fn what_is_ignored_by_unit_or_container_is_no_session() {
    let id = "1b2c".repeat(16);
    for conditions in [
        Conditions { unit: globs(&["docker-*"]), ..Conditions::default() },
        Conditions { container: globs(&["*"]), ..Conditions::default() },
    ] {
        let mut world = World::new(vec![rule()]);
        world.set_rules(vec![rule()], ignoring(conditions));
        let bash = at_home(&mut world);
        let mut inside = world.fork(&bash, 20);
        let at = world.tick_clock();
        let path = format!("/system.slice/docker-{id}.scope");
        world.feed(Input::Cgroup { at, key: inside.key, cgroup_id: 6, path: path.as_bytes() });
        world.exec(&mut inside, "claude");
        world.wait(2 * observer_core::limits::SETTLE_NS);
        assert_eq!(world.session("/srv/a"), None);
        let beside = world.spawn(&bash, 21, "claude");
        assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(beside.key));
    }
}

#[test]
fn a_rule_for_the_host_admits_nobody_in_another_mount_namespace() {
    let mut world = World::new(vec![with(only_host()), Rule { name: "second".into(), ..rule() }]);
    let bash = at_home(&mut world);
    let mut inside = world.fork(&bash, 20);
    inside.mnt_ns = 2;
    world.chdir(&mut inside, "/srv/b");
    world.exec(&mut inside, "claude");
    world.wait(2 * observer_core::limits::SETTLE_NS);
    assert_eq!(unmet(&world, 20), Some(Unmet::MntNs));
    assert_eq!(world.session("/srv/b").map(|session| session.rule), Some(1), "the next rule is asked");
    world.spawn(&bash, 21, "claude");
    assert_eq!(world.session("/srv/a").map(|session| session.rule), Some(0));
    world.set_rules(vec![with(only_host())], Vec::new());
    assert_eq!(
        ["/srv/a", "/srv/b"].map(|home| world.session(home).map(|session| session.end_reason.is_some())),
        [Some(false), Some(true)]
    );
}

#[test]
fn a_wrapper_that_enters_a_namespace_starts_no_session_on_the_host() {
    let mut world = World::new(vec![with(only_host())]);
    let bash = at_home(&mut world);
    let mut inside = world.spawn(&bash, 20, "sudo");
    // The record of the exec tells the namespace, and a pass reads the path later.
    inside.mnt_ns = 2;
    world.exec(&mut inside, "claude");
    world.pass(&[&bash, &inside]);
    assert_reported(&mut world, &[]);
    assert_eq!(unmet(&world, 20), Some(Unmet::MntNs));
}

#[test]
fn a_session_ends_when_what_it_executes_is_in_a_namespace() {
    // As a shell that was a session and execs a wrapper, or enters the namespace itself.
    for (conditions, wrapper) in
        [(Conditions::default(), "sudo"), (only_host(), "sudo"), (only_host(), "nsenter")]
    {
        let mut world = World::new(vec![with(conditions)]);
        let bash = at_home(&mut world);
        let mut shell = world.spawn(&bash, 20, "fish");
        assert_reported(&mut world, &["started /srv/a 20 live roots=1"]);
        world.exec(&mut shell, wrapper);
        world.take_reports();
        shell.mnt_ns = 2;
        world.exec(&mut shell, "claude");
        assert_reported(&mut world, &["ended /srv/a 20 ended roots=0 execed-away"]);
    }
}

#[test]
fn what_is_ignored_on_the_host_is_admitted_in_a_sandbox() {
    let mut world = World::ignoring(ignoring(only_host()), vec![rule()]);
    let bash = at_home(&mut world);
    world.spawn(&bash, 20, "claude");
    let mut inside = world.fork(&bash, 21);
    inside.mnt_ns = 2;
    world.chdir(&mut inside, "/srv/b");
    world.exec(&mut inside, "claude");
    world.wait(2 * observer_core::limits::SETTLE_NS);
    assert!(world.session("/srv/a").is_none() && world.session("/srv/b").is_some());
}

/// The server 50 of tmux, and a shell in its pane.
fn tmux(world: &mut World, parent: &Proc) -> (Proc, Proc) {
    let mut server = world.spawn(parent, 50, "tmux");
    world.setsid(&mut server, None);
    let mut shell = world.fork(&server, 51);
    world.setsid(&mut shell, Some("pts4"));
    world.exec_in(&mut shell, "bash", IN_TMUX);
    (server, shell)
}

fn agent(world: &mut World, shell: &Proc, tgid: u32) -> Proc {
    let mut agent = world.fork(shell, tgid);
    world.exec_in(&mut agent, "claude", IN_TMUX);
    agent
}

#[test]
fn a_rule_with_a_socket_admits_what_runs_in_a_pane_of_that_multiplexer() {
    for (glob, expected) in [("/tmp/a,b/default", None), ("/tmp/other", Some(Unmet::MuxSocket))] {
        let mut world = World::new(vec![with(only_socket(glob))]);
        let bash = at_home(&mut world);
        let (_, shell) = tmux(&mut world, &bash);
        let inside = agent(&mut world, &shell, 52);
        assert_eq!(unmet(&world, 52), expected, "{glob}");
        assert_eq!(world.session("/srv/a").is_some(), expected.is_none(), "{glob}");
        world.exit(&inside, 0);
        // A copy of the environment makes no pane.
        agent(&mut world, &bash, 53);
        assert_eq!(unmet(&world, 53), Some(Unmet::MuxSocket));
    }
}

#[test]
fn a_session_goes_on_when_its_pane_becomes_stale() {
    let mut world = World::new(vec![with(only_socket("/tmp/a,b/default"))]);
    let bash = at_home(&mut world);
    let (server, shell) = tmux(&mut world, &bash);
    let agent = agent(&mut world, &shell, 52);
    world.exit(&server, 0);
    assert_eq!(unmet(&world, 52), Some(Unmet::MuxSocket));
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(agent.key));
}

#[test]
fn a_pane_that_is_known_later_admits_then() {
    let mut world = World::new(vec![with(only_socket("/tmp/a,b/default"))]);
    let bash = at_home(&mut world);
    let (server, shell) = tmux(&mut world, &bash);
    let claude = agent(&mut world, &shell, 52);
    let mut after = World::new(vec![with(only_socket("/tmp/a,b/default"))]);
    (after.sids, after.now) = (world.sids.clone(), world.now);
    after.pass(&[&bash, &server, &shell, &claude]);
    assert!(after.session("/srv/a").is_none());
    read_memory(&mut after, &claude, b"claude\0", IN_TMUX);
    assert_eq!(after.session("/srv/a").map(|session| session.primary), Some(claude.key));
}

#[test]
fn a_session_that_is_in_another_multiplexer_by_now_ends_when_that_is_known() {
    let rules = || vec![with(only_socket("/tmp/a,b/default"))];
    let elsewhere: &[u8] = b"TMUX=/tmp/other,50,0\0TMUX_PANE=%5\0";
    let cleared: &[u8] = b"A=b\0";
    let mut world = World::new(rules());
    let bash = at_home(&mut world);
    let (server, shell) = tmux(&mut world, &bash);
    let claude = agent(&mut world, &shell, 52);
    let recorded = world.recorded();
    for (environment, of_shell, state) in [
        (IN_TMUX, IN_TMUX, State::Live),
        (elsewhere, elsewhere, State::Ended),
        // Its wrapper cleared the environment.
        (cleared, IN_TMUX, State::Live),
        (cleared, cleared, State::Ended),
    ] {
        for reads_shell_first in [true, false] {
            let env = ["TMUX", "TMUX_PANE"].map(|name| name.as_bytes().to_vec()).into();
            let (rules, awaits_known) = (rules(), true);
            let settings = Settings { rules, env, host_mnt_ns: 1, awaits_known, ..Settings::default() };
            let mut after = World::with(settings);
            (after.sids, after.now, after.dirs) = (world.sids.clone(), world.now, world.dirs.clone());
            after.pass(&[&bash, &server, &shell, &claude]);
            after.resume_recorded(&recorded, 0);
            let shown = |world: &World| world.session("/srv/a").map(|it| (it.state, it.unconfirmed));
            assert_eq!(shown(&after), Some((State::Live, true)));
            if reads_shell_first {
                read_memory(&mut after, &shell, b"bash\0", of_shell);
            }
            read_memory(&mut after, &claude, b"claude\0", environment);
            let names = environment != cleared;
            // Where the shell decides, nothing is known before.
            let expected = if reads_shell_first || names { state } else { State::Live };
            assert_eq!(shown(&after).map(|(state, _)| state), Some(expected), "{reads_shell_first} {names}");
        }
    }
}

#[test]
fn what_a_multiplexer_holds_is_ignored_also_where_that_is_known_later() {
    let mut world = World::ignoring(ignoring(only_socket("/tmp/a,b/default")), vec![rule()]);
    let bash = at_home(&mut world);
    let (server, shell) = tmux(&mut world, &bash);
    let claude = agent(&mut world, &shell, 52);
    assert!(world.session("/srv/a").is_none_or(|session| session.primary != claude.key));
    let mut after = World::ignoring(ignoring(only_socket("/tmp/a,b/default")), vec![rule()]);
    (after.sids, after.now) = (world.sids.clone(), world.now);
    after.pass(&[&bash, &server, &shell, &claude]);
    read_memory(&mut after, &claude, b"claude\0", IN_TMUX);
    assert!(after.session("/srv/a").is_none_or(|session| session.primary != claude.key));
}

#[test]
fn names_are_made_of_the_home_the_program_and_the_user() {
    let users = Arc::new(UserNames::from([(7, b"ann".as_slice().into())]));
    let cases = [
        ("{basename}", "/srv/*", "/srv/a", "a"),
        ("{parent}/{basename}", "/srv/*", "/srv/a", "srv/a"),
        ("{parent}", "/srv", "/srv", "/"),
        ("{home}", "/srv/*", "/srv/a", "/srv/a"),
        ("{user}@{program}", "/srv/*", "/srv/a", "ann@claude"),
        ("{user", "/srv/*", "/srv/a", "{user"),
    ];
    for (text, cwd, home, expected) in cases {
        let name = NameTemplate { users: Some(Arc::clone(&users)), ..text.into() };
        let home_rule = observer_core::rule::HomeRule::Prefix(vec![Box::new(Glob(cwd))]);
        let mut world = World::new(vec![Rule { home: home_rule, name, ..rule() }]);
        let mut bash = at_home(&mut world);
        world.chdir(&mut bash, home);
        world.spawn(&bash, 20, "claude");
        let name = world.session(home).map(|session| String::from_utf8_lossy(&session.name).into_owned());
        assert_eq!(name.as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn a_user_without_a_name_is_a_number_until_the_rules_are_read_again() {
    let named = |users: &[(u32, &[u8])]| {
        let users = users.iter().map(|&(uid, name)| (uid, name.into())).collect();
        vec![Rule { name: NameTemplate { users: Some(Arc::new(users)), ..("{user}").into() }, ..rule() }]
    };
    let mut world = World::new(named(&[(8, b"bob")]));
    let bash = at_home(&mut world);
    let claude = world.spawn(&bash, 20, "claude");
    let name = |world: &World| {
        world.session("/srv/a").map(|session| String::from_utf8_lossy(&session.name).into_owned())
    };
    assert_eq!(name(&world).as_deref(), Some("7"));
    world.set_rules(named(&[(7, b"ann")]), Vec::new());
    assert_eq!(name(&world).as_deref(), Some("ann"));
    assert_eq!(world.session("/srv/a").map(|session| session.primary), Some(claude.key));
}

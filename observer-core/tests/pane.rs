//! In which pane of a multiplexer a process runs. Each test shows one fact.

mod support;

use observer_core::input::Block;
use observer_core::process::Pane;
use observer_core::{Input, ProcessKey, Rule};
use support::{Proc, World, only_comm, rule, shell};

/// The environment that the server 50 of tmux gives to its pane `%5`.
const IN_TMUX: &[u8] = b"TMUX=/tmp/a,b/default,50,0\0TMUX_PANE=%5\0";
/// The environment of window 3 of the server 60 of screen, which was started in that pane.
const IN_SCREEN: &[u8] = b"TMUX=/tmp/a,b/default,50,0\0TMUX_PANE=%5\0STY=60.pts-4.host\0WINDOW=3\0";

/// A rule for agents alone.
fn agents() -> Rule {
    Rule { conditions: only_comm(&["claude"]), ..rule() }
}

fn world() -> (World, Proc) {
    let mut world = World::new(vec![agents()]);
    let mut bash = shell(&mut world);
    world.chdir(&mut bash, "/srv/a");
    world.take_reports();
    (world, bash)
}

/// A daemon: it has no terminal.
fn daemon(world: &mut World, parent: &Proc, tgid: u32, name: &'static str) -> Proc {
    let mut child = world.spawn(parent, tgid, name);
    world.setsid(&mut child, None);
    child
}

/// A program on a terminal that its parent opened.
fn on_tty(
    world: &mut World,
    parent: &Proc,
    tgid: u32,
    (tty, name, env): (&'static str, &'static str, &[u8]),
) -> Proc {
    let mut child = world.fork(parent, tgid);
    world.setsid(&mut child, Some(tty));
    world.exec_in(&mut child, name, env);
    child
}

/// A program on the terminal of its parent.
fn below(world: &mut World, parent: &Proc, tgid: u32, (name, env): (&'static str, &[u8])) -> Proc {
    let mut child = world.fork(parent, tgid);
    world.exec_in(&mut child, name, env);
    child
}

/// The server 50 of tmux, and a shell in its pane `%5`.
fn tmux(world: &mut World, parent: &Proc) -> (Proc, Proc) {
    let server = daemon(world, parent, 50, "tmux");
    let shell = on_tty(world, &server, 51, ("pts4", "bash", IN_TMUX));
    (server, shell)
}

/// What [`names`] gives for [`IN_TMUX`].
const FIVE: [&str; 2] = ["TMUX=/tmp/a,b/default,50,0", "TMUX_PANE=%5"];

fn pane(world: &World, proc: &Proc) -> Pane {
    let process = world.core.process_by_key(proc.key).expect("it lives");
    let pane = world.core.pane(process);
    assert_eq!(process.pane, pane, "what was reported is what an answer shows");
    pane
}

/// The variables that name the pane of a process.
fn names(world: &World, proc: &Proc) -> Vec<String> {
    match pane(world, proc) {
        Pane::None => vec!["none".into()],
        Pane::Stale => vec!["stale".into()],
        Pane::Tmux(env) | Pane::Screen(env) | Pane::SomeWindow(env) => {
            env.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
        }
    }
}

#[test]
fn a_program_in_a_pane_of_tmux_is_in_that_pane_however_deep_it_is() {
    let (mut world, bash) = world();
    let (_, mut above) = tmux(&mut world, &bash);
    for tgid in 100..200 {
        above = below(&mut world, &above, tgid, ("node", IN_TMUX));
    }
    assert_eq!(names(&world, &above), FIVE);
    world.assert_reports_give_the_map();
}

#[test]
fn a_pane_of_another_server_is_stale() {
    let (mut world, bash) = world();
    daemon(&mut world, &bash, 40, "tmux");
    let (_, shell) = tmux(&mut world, &bash);
    let agent = below(&mut world, &shell, 52, ("claude", b"TMUX=/tmp/default,40,0\0TMUX_PANE=%5\0"));
    assert_eq!(pane(&world, &agent), Pane::Stale);
    let agent = below(&mut world, &shell, 53, ("claude", b"TMUX=/tmp/default,x,0\0TMUX_PANE=%5\0"));
    assert_eq!(pane(&world, &agent), Pane::Stale);
}

#[test]
fn a_server_in_another_pid_namespace_is_not_believed() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let agent = below(&mut world, &shell, 52, ("claude", b"TMUX=/tmp/default,7,0\0TMUX_PANE=%5\0"));
    assert_eq!(pane(&world, &agent), Pane::Stale);
}

#[test]
fn a_program_that_was_never_in_a_pane_has_none_and_is_not_stale() {
    let (mut world, bash) = world();
    let agent = below(&mut world, &bash, 20, ("claude", b""));
    assert_eq!(pane(&world, &agent), Pane::None);
    let (_, shell) = tmux(&mut world, &bash);
    let sshd = daemon(&mut world, &shell, 60, "sshd");
    let shell = on_tty(&mut world, &sshd, 61, ("pts9", "bash", b""));
    assert_eq!(pane(&world, &shell), Pane::None);
}

#[test]
fn dtach_and_editors_and_terminal_emulators_in_a_pane_have_none() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let dtach = daemon(&mut world, &shell, 60, "dtach");
    let agent = on_tty(&mut world, &dtach, 61, ("pts9", "claude", IN_TMUX));
    assert_eq!(pane(&world, &agent), Pane::Stale);
    let vim = below(&mut world, &shell, 70, ("vim", IN_TMUX));
    let agent = on_tty(&mut world, &vim, 71, ("pts10", "claude", IN_TMUX));
    assert_eq!(pane(&world, &agent), Pane::Stale);
    let agent = on_tty(&mut world, &vim, 72, ("pts11", "claude", b""));
    assert_eq!(pane(&world, &agent), Pane::None);
}

/// Multiplexers and remote shells that name no panes, whatever they are called.
const WITHOUT_PANES: [&str; 9] =
    ["dtach", "abduco", "zellij", "mosh-server", "sshd", "sshd-session", "dropbear", "dvtm", "emacs"];

#[test]
fn what_names_no_panes_gives_none_and_hides_those_further_out() {
    for name in WITHOUT_PANES {
        let (mut world, bash) = world();
        let server = daemon(&mut world, &bash, 60, name);
        let agent = on_tty(&mut world, &server, 61, ("pts9", "claude", b""));
        assert_eq!(names(&world, &agent), ["none"], "{name}");

        let (_, shell) = tmux(&mut world, &bash);
        let server = daemon(&mut world, &shell, 70, name);
        let agent = on_tty(&mut world, &server, 71, ("pts8", "claude", IN_TMUX));
        assert_eq!(names(&world, &agent), ["stale"], "{name}");
        // What a pane of tmux within it shows is that pane's.
        let inner = daemon(&mut world, &agent, 80, "tmux");
        let env = b"TMUX=/tmp/b,80,0\0TMUX_PANE=%0\0";
        let within = on_tty(&mut world, &inner, 81, ("pts7", "claude", env));
        assert_eq!(names(&world, &within), ["TMUX=/tmp/b,80,0", "TMUX_PANE=%0"], "{name}");
    }
}

#[test]
fn dtach_that_outlives_its_server_has_no_pane_of_the_next_one() {
    let (mut world, bash) = world();
    let (server, shell) = tmux(&mut world, &bash);
    let dtach = daemon(&mut world, &shell, 60, "dtach");
    let agent = on_tty(&mut world, &dtach, 61, ("pts9", "claude", IN_TMUX));
    world.exit(&server, 9);
    world.exit(&shell, 9);
    daemon(&mut world, &bash, 55, "tmux");
    assert_eq!(pane(&world, &agent), Pane::Stale);
}

#[test]
fn the_innermost_multiplexer_has_the_pane() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let screen = daemon(&mut world, &shell, 60, "screen");
    let window = on_tty(&mut world, &screen, 61, ("pts9", "bash", IN_SCREEN));
    let agent = below(&mut world, &window, 62, ("claude", IN_SCREEN));
    assert!(matches!(pane(&world, &agent), Pane::Screen(_)));
    let server = daemon(&mut world, &window, 70, "tmux");
    let inner = b"STY=60.pts-4.host\0WINDOW=3\0TMUX=/tmp/inner,70,0\0TMUX_PANE=%0\0";
    let agent = on_tty(&mut world, &server, 71, ("pts12", "claude", inner));
    assert!(matches!(pane(&world, &agent), Pane::Tmux(_)));
    let other = on_tty(&mut world, &server, 72, ("pts13", "claude", IN_SCREEN));
    assert_eq!(pane(&world, &other), Pane::Stale);
}

#[test]
fn the_number_of_a_window_is_known_while_its_screen_has_no_other() {
    let (mut world, bash) = world();
    let screen = daemon(&mut world, &bash, 60, "screen");
    let env = |window: u32| format!("STY=60.pts-4.host\0WINDOW={window}\0").into_bytes();
    let first = on_tty(&mut world, &screen, 61, ("pts9", "bash", &env(0)));
    let shown =
        |world: &World, proc: &Proc| world.core.pane(world.core.process_by_key(proc.key).expect("it lives"));
    assert!(matches!(shown(&world, &first), Pane::Screen(_)));
    // What is started without a terminal of its own is no window.
    daemon(&mut world, &screen, 64, "filter");
    assert!(matches!(shown(&world, &first), Pane::Screen(_)));
    // The windows may have been given any numbers since.
    let second = on_tty(&mut world, &screen, 62, ("pts10", "bash", &env(1)));
    for proc in [&first, &second] {
        let pane = shown(&world, proc);
        assert!(matches!(pane, Pane::SomeWindow(_)), "{pane:?}");
        assert_eq!(pane.mux_socket(), Some(&b"60.pts-4.host"[..]), "the screen is known");
    }
    world.exit(&first, 0);
    assert!(matches!(shown(&world, &second), Pane::Screen(_)));
}

#[test]
fn sudo_with_a_terminal_of_its_own_passes_its_pane_on() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let sudo = below(&mut world, &shell, 60, ("sudo", IN_TMUX));
    let mut monitor = world.fork(&sudo, 61);
    world.setsid(&mut monitor, Some("pts9"));
    let agent = below(&mut world, &monitor, 62, ("claude", b"HOME=/root\0"));
    assert_eq!(names(&world, &agent), FIVE);
    let script = below(&mut world, &agent, 63, ("script", b""));
    let inner = on_tty(&mut world, &script, 64, ("pts10", "claude", b""));
    assert_eq!(names(&world, &inner), FIVE);
}

#[test]
fn a_cleared_environment_on_the_same_terminal_takes_no_pane_away() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let su = below(&mut world, &shell, 60, ("su", IN_TMUX));
    let agent = below(&mut world, &su, 61, ("claude", b"HOME=/root\0"));
    assert_eq!(names(&world, &agent), FIVE);
    let agent = below(&mut world, &su, 62, ("claude", b"TMUX_PANE=%77\0"));
    assert_eq!(names(&world, &agent), FIVE, "half of the names is no name");
}

#[test]
fn login_hands_over_the_terminal_of_the_pane() {
    let (mut world, bash) = world();
    let server = daemon(&mut world, &bash, 50, "tmux");
    let login = daemon(&mut world, &server, 51, "login");
    let shell = on_tty(&mut world, &login, 52, ("pts4", "bash", IN_TMUX));
    assert_eq!(names(&world, &shell), FIVE);
}

#[test]
fn servers_are_known_by_their_executable_their_program_or_their_comm() {
    for (name, comm) in [("screen-4.9.0", ""), ("tmux", "tmux: server"), ("tmux-next", "tmux: server")] {
        let (mut world, bash) = world();
        let mut server = daemon(&mut world, &bash, 50, name);
        if !comm.is_empty() {
            let at = world.tick_clock();
            world.feed(Input::Comm { at, key: server.key, comm: support::comm(comm) });
            server.comm = comm;
        }
        let env = if name.starts_with("screen") { b"STY=50.x\0WINDOW=0\0".as_slice() } else { IN_TMUX };
        let shell = on_tty(&mut world, &server, 51, ("pts4", "bash", env));
        assert!(matches!(pane(&world, &shell), Pane::Tmux(_) | Pane::Screen(_)), "{name}");
    }
    for (name, comm) in [("tmux", "tmux: client"), ("tmux-sessionizer", "tmux-sessionize")] {
        let (mut world, bash) = world();
        let client = daemon(&mut world, &bash, 50, name);
        let at = world.tick_clock();
        world.feed(Input::Comm { at, key: client.key, comm: support::comm(comm) });
        let shell = on_tty(&mut world, &client, 51, ("pts4", "bash", IN_TMUX));
        assert_eq!(pane(&world, &shell), Pane::Stale, "{name}");
    }
}

#[test]
fn a_program_without_a_terminal_is_in_no_pane() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let mut agent = below(&mut world, &shell, 60, ("claude", IN_TMUX));
    assert_eq!(names(&world, &agent), FIVE);
    world.setsid(&mut agent, None);
    assert_eq!(pane(&world, &agent), Pane::Stale);
    world.assert_reports_give_the_map();
}

#[test]
fn the_death_of_the_server_is_reported_by_the_sessions_of_its_panes_and_by_no_others() {
    let (mut world, bash) = world();
    let (server, shell) = tmux(&mut world, &bash);
    below(&mut world, &shell, 60, ("claude", IN_TMUX));
    let mut elsewhere = bash.clone();
    world.chdir(&mut elsewhere, "/srv/b");
    below(&mut world, &elsewhere, 70, ("claude", b""));
    world.take_reports();
    world.exit(&server, 9);
    assert_eq!(world.take_reports(), ["changed /srv/a 60 live roots=1"]);
    let (_, primary) =
        world.core.sessions().find(|(session, _)| session.primary.tgid.0 == 60).expect("its session");
    assert_eq!(primary.pane, Pane::Stale);
    world.assert_reports_give_the_map();
}

#[test]
fn a_server_that_executes_another_program_opens_no_panes() {
    let (mut world, bash) = world();
    let (mut server, shell) = tmux(&mut world, &bash);
    let agent = below(&mut world, &shell, 60, ("claude", IN_TMUX));
    world.take_reports();
    world.exec(&mut server, "other");
    assert!(world.take_reports().contains(&"changed /srv/a 60 live roots=1".into()));
    assert_eq!(pane(&world, &agent), Pane::Stale);
}

/// The pane of the agent 62 in a tmux, as a daemon finds it that starts later: from one pass and from memory.
#[test]
fn a_daemon_that_starts_later_finds_the_same_panes() {
    let (mut before, bash) = world();
    let (server, shell) = tmux(&mut before, &bash);
    let launcher = below(&mut before, &shell, 60, ("launcher", IN_TMUX));
    let mut agent = below(&mut before, &launcher, 62, ("claude", IN_TMUX));
    before.exit(&launcher, 0);
    assert_eq!(names(&before, &agent), FIVE);

    // Its launcher ended, so its parent is init and its birth is not known. Its terminal is.
    agent.parent = ProcessKey::new(1, 1);
    let (mut after, _) = world();
    after.sids = before.sids.clone();
    after.now = before.now;
    after.pass(&[&agent, &shell, &server, &bash]);
    for (proc, env) in [(&agent, IN_TMUX), (&shell, IN_TMUX), (&server, b"".as_slice())] {
        let at = after.tick_clock();
        let argv = Block { bytes: b"x\0", truncated: false };
        let env = Block { bytes: env, truncated: false };
        after.feed(Input::Memory { at, key: proc.key, exec_id: proc.exec_id, argv, env });
    }
    assert_eq!(names(&after, &agent), FIVE);
    let (_, primary) =
        after.core.sessions().find(|(session, _)| session.primary == agent.key).expect("its session");
    assert!(matches!(primary.pane, Pane::Tmux(_)));
    after.assert_reports_give_the_map();
}

#[test]
fn a_terminal_whose_opener_is_not_known_has_no_pane() {
    let (mut world, bash) = world();
    let (server, mut shell) = tmux(&mut world, &bash);
    shell.parent = ProcessKey::new(1, 1);
    let mut later = World::new(vec![agents()]);
    later.sids = world.sids.clone();
    later.now = world.now;
    later.pass(&[&server, &shell]);
    let at = later.tick_clock();
    let (argv, env) = (Block { bytes: b"x\0", truncated: false }, Block { bytes: IN_TMUX, truncated: false });
    later.feed(Input::Memory { at, key: shell.key, exec_id: shell.exec_id, argv, env });
    assert_eq!(pane(&later, &shell), Pane::Stale);
}

#[test]
fn terminals_within_terminals_are_looked_through_up_to_a_bound() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let mut above = below(&mut world, &shell, 60, ("script", IN_TMUX));
    for (tgid, tty) in (100..140).zip(["pts10", "pts11", "pts12", "pts13"].iter().cycle()) {
        above = on_tty(&mut world, &above, tgid, (tty, "script", IN_TMUX));
        let expected = if tgid < 115 { FIVE.as_slice() } else { &["stale"] };
        assert_eq!(names(&world, &above), expected, "{tgid}");
    }
}

#[test]
fn a_terminal_is_the_hosts_where_its_session_leader_is() {
    let (mut world, bash) = world();
    let (_, shell) = tmux(&mut world, &bash);
    let agent = below(&mut world, &shell, 60, ("claude", IN_TMUX));
    let is_host = |world: &World, proc: &Proc| {
        world.core.has_host_terminal(world.core.process_by_key(proc.key).expect("it lives"))
    };
    assert!(is_host(&world, &agent));
    let at = world.tick_clock();
    let cwd = world.dir("/srv/a");
    let raw = support::components("/srv/a");
    let path = observer_core::input::RawPath { components: &raw, flags: 0 };
    world.feed(Input::Cwd { at, key: shell.key, cwd, mnt_ns: 2, path, fs_shared: false });
    assert!(!is_host(&world, &agent));
}

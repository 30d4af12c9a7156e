//! What a death has of the signals that led to it. Each test shows one fact.

mod support;

use observer_core::death::{
    Death, DeathKind, MemoryScope, ReceivedSignal, SendingProcess, SentSignal, SignalContext, SignalOrigin,
};
use observer_core::input::{RawMemoryScope, RawPath};
use observer_core::limits::{
    KERNEL_KILL_NS, KERNEL_KILLS_MAX, OOM_MARK_NS, OPEN_DEATHS_MAX, POLITE_BURST_NS, POLITE_SIGNAL_NS,
    SETTLE_NS, SIGNALS_KEPT_MAX,
};
use observer_core::process::Comm;
use observer_core::{BootTime, Input, ProcessKey, Tgid};
use support::{Proc, World, at_home, rule, shell};

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGQUIT: u8 = 3;
const SIGUSR1: u8 = 10;
const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// Sends a signal to `to` from the process with this pid, which does not handle it.
fn send(world: &mut World, to: &Proc, signal: u8, from: u32) -> SentSignal {
    send_in(world, to, signal, from, SignalContext::default())
}

fn send_in(world: &mut World, to: &Proc, signal: u8, from: u32, context: SignalContext) -> SentSignal {
    let process =
        SendingProcess { key: ProcessKey::new(from, 1), comm: Comm(*b"systemd\0\0\0\0\0\0\0\0\0"), uid: 0 };
    let sent =
        SentSignal { signal, at: world.tick_clock(), origin: SignalOrigin::Kill, process: Some(process) };
    world.feed(Input::Signal { key: to.key, sent, context });
    sent
}

/// The process within which the kernel kills in these tests.
const CALLER: Tgid = Tgid(70);

/// The kernel sends SIGKILL to a thread with this memory, within [`CALLER`].
fn kernel_kills(world: &mut World, to: &Proc, thread: u32, memory: u32) -> SentSignal {
    let sent =
        SentSignal { signal: SIGKILL, at: world.tick_clock(), origin: SignalOrigin::Kernel, process: None };
    let context = SignalContext { caller: CALLER, thread, memory, ..SignalContext::default() };
    world.feed(Input::Signal { key: to.key, sent, context });
    sent
}

/// The kernel kills a process that has used up its CPU time.
fn limit_kills(world: &mut World, to: &Proc) -> SentSignal {
    let (at, origin) = (world.tick_clock(), SignalOrigin::KernelForLimit);
    let sent = SentSignal { signal: SIGKILL, at, origin, process: None };
    let context = SignalContext { caller: to.key.tgid, thread: to.key.tgid.0, memory: 5, is_handled: false };
    world.feed(Input::Signal { key: to.key, sent, context });
    sent
}

/// The kernel marks a thread, within the process `caller`.
fn mark(world: &mut World, caller: Tgid, thread: u32) {
    mark_in(world, caller, thread, RawMemoryScope::Unknown);
}

/// The same, when this had no memory left.
fn mark_in(world: &mut World, caller: Tgid, thread: u32, scope: RawMemoryScope<'_>) {
    let at = world.tick_clock();
    world.feed(Input::OomVictim { at, caller, thread, scope });
}

/// Every record up to now was applied.
fn drained(world: &mut World) {
    world.core.close_deaths(BootTime(world.now), &mut world.reports);
}

/// The process ends with this wait status; returns its death.
fn end(world: &mut World, proc: &Proc, status: u32) -> Death {
    world.exit(proc, status);
    world.reports.deaths.last().cloned().expect("a death")
}

/// The fatal signal of a death, and the polite one.
fn signals(death: &Death) -> (Option<SentSignal>, Option<SentSignal>) {
    let sent = |received: &Option<ReceivedSignal>| received.as_ref().map(|received| received.sent);
    (sent(&death.fatal_signal), sent(&death.polite_signal))
}

fn victim(world: &mut World) -> Proc {
    let bash = shell(world);
    world.fork(&bash, 40)
}

#[test]
fn the_sender_of_the_fatal_signal_and_the_polite_signal_before_it_are_in_the_death() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let polite = send(&mut world, &agent, SIGTERM, 1);
    let fatal = send(&mut world, &agent, SIGKILL, 2);
    let death = end(&mut world, &agent, SIGKILL.into());
    assert_eq!(signals(&death), (Some(fatal), Some(polite)));
}

#[test]
fn the_first_kill_and_the_last_of_other_signals_count() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    send(&mut world, &agent, SIGTERM, 1);
    let again = send(&mut world, &agent, SIGTERM, 2);
    let first = send(&mut world, &agent, SIGKILL, 3);
    send(&mut world, &agent, SIGKILL, 4);
    let death = end(&mut world, &agent, SIGKILL.into());
    assert_eq!(signals(&death), (Some(first), Some(again)));
}

#[test]
fn a_handler_that_sends_its_signal_again_does_not_hide_who_sent_it_first() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let first = send(&mut world, &agent, SIGTERM, 1);
    let own = send(&mut world, &agent, SIGTERM, 40);
    let death = end(&mut world, &agent, SIGTERM.into());
    assert_eq!(signals(&death), (Some(own), Some(first)));
}

/// The record of the one that ended it was left out: its user had sent too many.
#[test]
fn a_signal_that_the_process_handled_is_not_the_one_that_ended_it() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let handled = SignalContext { is_handled: true, ..SignalContext::default() };
    let first = send_in(&mut world, &agent, SIGTERM, 1, handled);
    let death = end(&mut world, &agent, SIGTERM.into());
    assert_eq!(signals(&death), (None, Some(first)), "it asked for the end");
}

#[test]
fn a_signal_that_ends_a_process_counts_whatever_it_handled_besides() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let handled = SignalContext { is_handled: true, ..SignalContext::default() };
    send_in(&mut world, &agent, SIGTERM, 1, handled);
    let fatal = send(&mut world, &agent, SIGTERM, 2);
    send_in(&mut world, &agent, SIGTERM, 3, handled);
    let death = end(&mut world, &agent, SIGTERM.into());
    assert_eq!(signals(&death).0, Some(fatal));
}

#[test]
fn another_signal_than_the_one_that_ended_it_is_not_its_cause() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let term = send(&mut world, &agent, SIGTERM, 1);
    send(&mut world, &agent, SIGUSR1, 2);
    let death = end(&mut world, &agent, SIGKILL.into());
    assert_eq!(signals(&death), (None, Some(term)), "its record was lost");
}

#[test]
fn an_exit_has_no_fatal_signal_and_a_fatal_one_is_not_its_own_polite_one() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let hup = send(&mut world, &agent, SIGHUP, 1);
    let death = end(&mut world, &agent, 3 << 8);
    assert_eq!(signals(&death), (None, Some(hup)));
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let term = send(&mut world, &agent, SIGTERM, 1);
    let death = end(&mut world, &agent, SIGTERM.into());
    assert_eq!(signals(&death), (Some(term), None));
}

#[test]
fn what_comes_after_the_kill_does_not_displace_it() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let fatal = send(&mut world, &agent, SIGKILL, 1);
    for signal in [SIGHUP, SIGTERM, SIGUSR1, 2, 3] {
        send(&mut world, &agent, signal, 2);
    }
    let death = end(&mut world, &agent, SIGKILL.into());
    assert_eq!(signals(&death), (Some(fatal), None));
}

#[test]
fn a_polite_signal_of_long_ago_has_nothing_to_do_with_the_end() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    send(&mut world, &agent, SIGHUP, 1);
    world.wait(POLITE_SIGNAL_NS);
    assert_eq!(end(&mut world, &agent, 0).polite_signal, None);
}

/// A signal, how long after the one before it, ns, and the pid of its sender.
type Sent = (u8, u64, u32);

/// The number, among these signals, of the polite one in the death of a process that `fatal` ended.
fn asked_to_end(sent: &[Sent], fatal: Option<Sent>) -> Option<usize> {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let send = |world: &mut World, (signal, after, from): Sent| {
        world.wait(after);
        send(world, &agent, signal, from)
    };
    let sent: Vec<SentSignal> = sent.iter().map(|&it| send(&mut world, it)).collect();
    let status = fatal.map_or(0, |it| send(&mut world, it).signal.into());
    let (_, polite) = signals(&end(&mut world, &agent, status));
    polite.map(|polite| sent.iter().position(|&it| it == polite).expect("it was sent"))
}

#[test]
fn of_what_one_sender_asks_sigterm_counts_and_otherwise_the_last_signal() {
    // As service managers wait before they kill.
    const LATER: u64 = 90_000_000_000;
    const APART: u64 = POLITE_BURST_NS + 1;
    let kill = |from| Some((SIGKILL, LATER, from));
    let cases: &[(&str, &[Sent], Option<Sent>, usize)] = &[
        ("the stop of a scope of logind", &[(SIGTERM, 0, 1), (SIGHUP, 0, 1)], kill(1), 0),
        ("the same, and another one kills", &[(SIGTERM, 0, 1), (SIGHUP, 0, 1)], kill(2), 0),
        ("the same, and it exits", &[(SIGTERM, 0, 1), (SIGHUP, 0, 1)], None, 0),
        ("in the other order", &[(SIGHUP, 0, 1), (SIGTERM, 0, 1)], kill(1), 1),
        ("KillSignal=SIGINT", &[(SIGINT, 0, 1), (SIGHUP, 0, 1)], kill(1), 0),
        ("KillSignal=SIGQUIT", &[(SIGQUIT, 0, 1), (SIGHUP, 0, 1)], kill(2), 0),
        ("a reload before the stop", &[(SIGHUP, 0, 2), (SIGTERM, LATER, 1)], kill(1), 1),
        ("a reload by somebody during the stop", &[(SIGTERM, 0, 1), (SIGHUP, APART, 2)], kill(1), 0),
        ("a reload long after SIGTERM", &[(SIGTERM, 0, 1), (SIGHUP, APART, 1)], kill(2), 1),
        ("one by each of two", &[(SIGTERM, 0, 1), (SIGHUP, 0, 2)], kill(3), 1),
        ("the last of two stops", &[(SIGTERM, 0, 1), (SIGTERM, LATER, 2)], kill(3), 1),
        ("the key of a terminal", &[(SIGTERM, 0, 1), (SIGINT, LATER, 2)], None, 1),
    ];
    for (name, sent, fatal, expected) in cases {
        assert_eq!(asked_to_end(sent, *fatal), Some(*expected), "{name}");
    }
}

#[test]
fn what_the_kernel_sends_by_itself_is_of_no_sender() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let mut by_kernel = |signal| {
        let at = world.tick_clock();
        let sent = SentSignal { signal, at, origin: SignalOrigin::Kernel, process: None };
        world.feed(Input::Signal { key: agent.key, sent, context: SignalContext::default() });
        sent
    };
    // A key of the terminal, which then hangs up.
    by_kernel(SIGINT);
    let hang_up = by_kernel(SIGHUP);
    assert_eq!(signals(&end(&mut world, &agent, 0)), (None, Some(hang_up)));
}

#[test]
fn a_process_that_receives_many_signals_keeps_a_few() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    for signal in 34..64 {
        send(&mut world, &agent, signal, 1);
    }
    let last = send(&mut world, &agent, 64, 2);
    assert_eq!(world.core.counters().signals_forgotten, 31 - SIGNALS_KEPT_MAX as u64);
    // The same once more displaces none.
    send(&mut world, &agent, 63, 1);
    let last = send(&mut world, &agent, last.signal, 2);
    assert_eq!(world.core.counters().signals_forgotten, 31 - SIGNALS_KEPT_MAX as u64);
    let death = end(&mut world, &agent, 64);
    assert_eq!(signals(&death), (Some(last), None));
}

/// The session of the sender of the fatal signal, where `from` kills `to`.
fn session_of_killer(world: &mut World, to: &Proc, from: &Proc) -> Option<String> {
    let process = SendingProcess { key: from.key, comm: Comm([0; 16]), uid: 7 };
    let at = world.tick_clock();
    let sent = SentSignal { signal: SIGKILL, at, origin: SignalOrigin::Kill, process: Some(process) };
    world.feed(Input::Signal { key: to.key, sent, context: SignalContext::default() });
    let fatal = end(world, to, SIGKILL.into()).fatal_signal.expect("a fatal signal");
    fatal.sender_session.map(|name| String::from_utf8_lossy(&name).into_owned())
}

#[test]
fn a_sender_has_the_session_that_it_is_or_was_born_in() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let agent = world.spawn(&bash, 20, "agent");
    let victim = |world: &mut World, tgid| world.spawn(&bash, tgid, "bash");
    let target = victim(&mut world, 50);
    assert_eq!(session_of_killer(&mut world, &target, &agent).as_deref(), Some("a"), "the primary");
    // What no rule admits, in another directory, below another process of the session.
    let mut tool = world.spawn(&agent, 21, "bash");
    world.chdir(&mut tool, "/root");
    let target = victim(&mut world, 51);
    let below = world.spawn(&tool, 22, "bash");
    assert_eq!(session_of_killer(&mut world, &target, &below).as_deref(), Some("a"), "born in it");
    // A helper in the home of another session is of the session that started it.
    let mut helper = world.spawn(&agent, 23, "agent2");
    world.chdir(&mut helper, "/srv/b");
    world.wait(SETTLE_NS);
    let target = victim(&mut world, 52);
    assert_eq!(session_of_killer(&mut world, &target, &helper).as_deref(), Some("a"), "a helper elsewhere");
    let target = victim(&mut world, 53);
    assert_eq!(session_of_killer(&mut world, &target, &bash), None, "the shell above is of no session");
    // A session that has ended is none.
    world.exit(&agent, 0);
    let target = victim(&mut world, 54);
    assert_eq!(session_of_killer(&mut world, &target, &below), None);
}

#[test]
fn a_sender_below_a_terminal_of_its_own_is_of_no_session() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let agent = world.spawn(&bash, 20, "agent");
    let target = world.spawn(&bash, 50, "bash");
    let mut pane = world.fork(&agent, 21);
    world.set_tty(&mut pane, Some("pts9"));
    world.exec(&mut pane, "bash");
    assert_eq!(session_of_killer(&mut world, &target, &pane), None);
}

#[test]
fn other_roots_and_wrappers_are_of_the_session_of_their_home() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let wrapper = world.spawn(&bash, 20, "env");
    world.spawn(&wrapper, 21, "agent");
    let other = world.spawn(&bash, 30, "other");
    let tool = world.spawn(&other, 31, "bash");
    for (killer, tgid) in [(&wrapper, 50), (&other, 51), (&tool, 52)] {
        let target = world.spawn(&bash, tgid, "bash");
        assert_eq!(session_of_killer(&mut world, &target, killer).as_deref(), Some("a"), "{killer:?}");
    }
}

#[test]
fn the_session_of_a_sender_is_the_one_when_the_signal_was_sent() {
    let mut world = World::new(vec![rule()]);
    let bash = at_home(&mut world);
    let agent = world.spawn(&bash, 20, "agent");
    let target = world.spawn(&bash, 50, "bash");
    let process = SendingProcess { key: agent.key, comm: Comm([0; 16]), uid: 7 };
    let at = world.tick_clock();
    let sent = SentSignal { signal: SIGTERM, at, origin: SignalOrigin::Kill, process: Some(process) };
    world.feed(Input::Signal { key: target.key, sent, context: SignalContext::default() });
    world.exit(&agent, 0);
    let death = end(&mut world, &target, 0);
    let polite = death.polite_signal.expect("a polite signal");
    assert_eq!(polite.sender_session.as_deref(), Some(b"a".as_slice()));
}

#[test]
fn a_process_that_was_marked_before_it_ended_was_killed_for_lack_of_memory() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let agent = victim(&mut world);
    let polite = send(&mut world, &agent, SIGTERM, 1);
    let kill = kernel_kills(&mut world, &agent, 41, 5);
    mark(&mut world, CALLER, 41);
    let death = end(&mut world, &agent, SIGKILL.into());
    assert_eq!((death.kind, death.raw_status), (DeathKind::OomKilled, Some(9)));
    let expected = SentSignal { origin: SignalOrigin::LackOfMemory, ..kill };
    assert_eq!(signals(&death), (Some(expected), Some(polite)));
}

#[test]
fn a_process_that_used_up_its_cpu_time_was_not_killed_for_lack_of_memory_unless_a_mark_says_so() {
    for is_marked in [false, true] {
        let mut world = World::awaiting_marks(vec![rule()]);
        let agent = victim(&mut world);
        let kill = limit_kills(&mut world, &agent);
        world.exit(&agent, SIGKILL.into());
        assert_eq!(world.reports.deaths.len(), 0, "the mark may come later");
        if is_marked {
            mark(&mut world, agent.key.tgid, agent.key.tgid.0);
        }
        world.wait(OOM_MARK_NS);
        drained(&mut world);
        let [death] = world.reports.deaths.as_slice() else { panic!("{:?}", world.reports.deaths) };
        let killed = DeathKind::Signaled { signal: SIGKILL, core_dumped: false };
        let lack = SentSignal { origin: SignalOrigin::LackOfMemory, ..kill };
        let expected = if is_marked { (DeathKind::OomKilled, lack) } else { (killed, kill) };
        assert_eq!((death.kind, signals(death).0), (expected.0, Some(expected.1)));
    }
}

#[test]
fn a_death_waits_for_a_mark_that_comes_after_it_and_is_reported_once() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let agent = victim(&mut world);
    kernel_kills(&mut world, &agent, 40, 5);
    world.exit(&agent, SIGKILL.into());
    let died = world.now;
    // Also where the record of another thread shows the same end.
    world.exit(&agent, SIGKILL.into());
    world.wait(OOM_MARK_NS / 2);
    drained(&mut world);
    assert!(world.reports.deaths.is_empty(), "it may yet be marked");
    assert!(world.core.has_open_death(agent.key));
    mark(&mut world, CALLER, 40);
    let [death] = world.reports.deaths.as_slice() else { panic!("{:?}", world.reports.deaths) };
    assert_eq!((death.kind, death.at.0), (DeathKind::OomKilled, died), "it died when it died");
    assert!(!world.core.has_open_death(agent.key));
    world.exit(&agent, SIGKILL.into());
    assert_eq!(world.reports.deaths.len(), 1, "once");
}

#[test]
fn a_death_without_a_mark_is_reported_when_all_records_up_to_its_time_were_read() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let agent = victim(&mut world);
    let kill = kernel_kills(&mut world, &agent, 40, 5);
    world.exit(&agent, SIGKILL.into());
    let died = world.now;
    assert_eq!(world.core.deaths_complete_at(), Some(BootTime(died + OOM_MARK_NS)));
    let before = died + OOM_MARK_NS - 1;
    world.core.close_deaths(BootTime(before), &mut world.reports);
    assert!(world.reports.deaths.is_empty());
    world.core.close_deaths(BootTime(before + 1), &mut world.reports);
    let [death] = world.reports.deaths.as_slice() else { panic!("{:?}", world.reports.deaths) };
    let kind = DeathKind::Signaled { signal: SIGKILL, core_dumped: false };
    assert_eq!((death.kind, death.at.0, signals(death)), (kind, died, (Some(kill), None)));
    assert_eq!(world.core.first_open_death(), None);
    // A mark that comes even later changes nothing.
    mark(&mut world, CALLER, 40);
    assert_eq!(world.reports.deaths.len(), 1);
}

#[test]
fn no_death_waits_where_marks_are_not_reported_or_somebody_sent_the_signal() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    kernel_kills(&mut world, &agent, 40, 5);
    end(&mut world, &agent, SIGKILL.into());
    let mut world = World::awaiting_marks(vec![rule()]);
    let agent = victim(&mut world);
    send(&mut world, &agent, SIGKILL, 2);
    end(&mut world, &agent, SIGKILL.into());
}

#[test]
fn a_mark_of_a_process_that_the_kernel_did_not_kill_then_and_there_says_nothing() {
    // The kernel marks who is dying anyway: the signal was sent by a process, by the kernel within another process, to another
    // thread, or long ago.
    for (caller, thread, wait, by_kernel) in [
        (CALLER, 40, 0, false),
        (Tgid(71), 40, 0, true),
        (CALLER, 41, 0, true),
        (CALLER, 40, KERNEL_KILL_NS, true),
    ] {
        let mut world = World::new(vec![rule()]);
        let agent = victim(&mut world);
        if by_kernel {
            kernel_kills(&mut world, &agent, 40, 5);
        } else {
            let sent = send(&mut world, &agent, SIGKILL, 2);
            let context = SignalContext { caller: CALLER, thread: 40, memory: 5, is_handled: false };
            world.feed(Input::Signal { key: agent.key, sent, context });
        }
        world.wait(wait);
        mark(&mut world, caller, thread);
        let death = end(&mut world, &agent, SIGKILL.into());
        assert_ne!(death.kind, DeathKind::OomKilled, "{caller:?} {thread} {wait} {by_kernel}");
    }
}

#[test]
fn whoever_has_the_memory_of_a_victim_was_killed_for_lack_of_memory_as_well() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let agent = victim(&mut world);
    let sharer = world.fork(&agent, 60);
    let other = world.fork(&agent, 61);
    let without = world.fork(&agent, 62);
    kernel_kills(&mut world, &agent, 40, 5);
    mark(&mut world, CALLER, 40);
    kernel_kills(&mut world, &sharer, 60, 5);
    kernel_kills(&mut world, &other, 61, 6);
    kernel_kills(&mut world, &without, 62, 0);
    assert_eq!(end(&mut world, &sharer, SIGKILL.into()).kind, DeathKind::OomKilled);
    for proc in [&other, &without] {
        world.exit(proc, SIGKILL.into());
        assert!(world.core.has_open_death(proc.key), "the kernel had another reason, or marks it yet");
    }
    // One of them is a victim of its own.
    mark(&mut world, CALLER, 61);
    assert_eq!(world.reports.deaths.last().map(|death| death.kind), Some(DeathKind::OomKilled));
    assert!(world.core.has_open_death(without.key));
}

#[test]
fn a_death_for_lack_of_memory_tells_what_had_none_left() {
    let raw = RawPath { components: b"b\0org\0", flags: 0 };
    let torn = RawPath { components: b"b\0", flags: observer_common::record::path_flag::TRUNCATED };
    let path = MemoryScope::Cgroup(Some(b"/org/b".as_slice().into()));
    for (scope, expected) in [
        (RawMemoryScope::Unknown, MemoryScope::Unknown),
        (RawMemoryScope::Host, MemoryScope::Host),
        (RawMemoryScope::Cgroup(raw), path),
        (RawMemoryScope::Cgroup(torn), MemoryScope::Cgroup(None)),
    ] {
        let mut world = World::awaiting_marks(vec![rule()]);
        let agent = victim(&mut world);
        let sharer = world.fork(&agent, 60);
        let other = world.fork(&agent, 61);
        kernel_kills(&mut world, &agent, 40, 5);
        // Whether the mark comes before the end or after it.
        world.exit(&agent, SIGKILL.into());
        mark_in(&mut world, CALLER, 40, scope);
        assert_eq!(world.reports.deaths.last().map(|death| &death.memory_scope), Some(&expected));
        kernel_kills(&mut world, &sharer, 60, 5);
        assert_eq!(end(&mut world, &sharer, SIGKILL.into()).memory_scope, expected, "it had the same memory");
        // The kernel kills again for lack of memory of something else.
        kernel_kills(&mut world, &other, 61, 6);
        mark(&mut world, CALLER, 61);
        let death = end(&mut world, &other, SIGKILL.into());
        assert_eq!((death.kind, death.memory_scope), (DeathKind::OomKilled, MemoryScope::Unknown));
    }
}

#[test]
fn a_death_for_another_reason_lacked_nothing() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let agent = victim(&mut world);
    let other = world.fork(&agent, 60);
    kernel_kills(&mut world, &agent, 40, 5);
    mark_in(&mut world, CALLER, 40, RawMemoryScope::Host);
    // Somebody was first.
    send(&mut world, &other, SIGKILL, 2);
    kernel_kills(&mut world, &other, 60, 5);
    let death = end(&mut world, &other, SIGKILL.into());
    let kind = DeathKind::Signaled { signal: SIGKILL, core_dumped: false };
    assert_eq!((death.kind, death.memory_scope), (kind, MemoryScope::Unknown));
}

#[test]
fn a_victim_that_exited_by_itself_was_not_killed() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let agent = victim(&mut world);
    kernel_kills(&mut world, &agent, 40, 5);
    mark(&mut world, CALLER, 40);
    let death = end(&mut world, &agent, 3 << 8);
    assert_eq!((death.kind, death.fatal_signal), (DeathKind::Exited { code: 3 }, None));
}

#[test]
fn a_process_whose_death_waits_ends_once_and_exactly_whatever_else_shows_its_end() {
    // Its pid is reused.
    let mut world = World::awaiting_marks(vec![rule()]);
    let bash = shell(&mut world);
    let agent = world.fork(&bash, 40);
    kernel_kills(&mut world, &agent, 40, 5);
    world.exit(&agent, SIGKILL.into());
    let died = world.now;
    let again = world.fork(&bash, 40);
    let [death] = world.reports.deaths.as_slice() else { panic!("{:?}", world.reports.deaths) };
    assert_eq!((death.raw_status, death.at.0), (Some(9), died));
    // Two passes do not show it, and no gap waits for it.
    kernel_kills(&mut world, &again, 40, 6);
    world.exit(&again, SIGKILL.into());
    for _ in 0..3 {
        world.pass(&[&bash]);
        world.wait(OOM_MARK_NS / 10);
    }
    assert_eq!(world.reports.deaths.len(), 1);
    world.wait(OOM_MARK_NS);
    drained(&mut world);
    let [_, death] = world.reports.deaths.as_slice() else { panic!("{:?}", world.reports.deaths) };
    assert_eq!(death.raw_status, Some(9));
    assert_eq!(world.core.counters().drift_total, 0);
}

#[test]
fn the_deaths_that_wait_are_bounded_and_so_are_the_kills_that_are_kept() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let bash = shell(&mut world);
    let count = u32::try_from(OPEN_DEATHS_MAX.max(KERNEL_KILLS_MAX)).expect("a small number") + 1;
    for tgid in 1_000..1_000 + count {
        let agent = world.fork(&bash, tgid);
        kernel_kills(&mut world, &agent, tgid, tgid);
        world.exit(&agent, SIGKILL.into());
    }
    assert_eq!(world.reports.deaths.len(), 1, "the first waits no longer");
    mark(&mut world, CALLER, 1_000);
    assert_eq!(world.reports.deaths.len(), 1, "its kill was forgotten");
    mark(&mut world, CALLER, 1_001);
    assert_eq!(world.reports.deaths.last().map(|death| death.kind), Some(DeathKind::OomKilled));
    let counted = |world: &World| {
        let counters = world.core.counters();
        (counters.deaths_hurried, counters.kernel_kills_forgotten)
    };
    assert_eq!(counted(&world), (1, 1));
    // What is too old for a mark is no loss.
    world.wait(KERNEL_KILL_NS + 1);
    drained(&mut world);
    for tgid in [10_000, 10_001, 10_002] {
        let agent = world.fork(&bash, tgid);
        kernel_kills(&mut world, &agent, tgid, tgid);
    }
    assert_eq!(counted(&world), (1, 1));
    assert_eq!(world.reports.deaths.len() as u32, count, "none waits any more");
}

#[test]
fn what_follows_from_a_death_that_waited_is_no_earlier_than_what_was_reported_meanwhile() {
    let mut world = World::awaiting_marks(vec![rule()]);
    let bash = at_home(&mut world);
    let agent = world.spawn(&bash, 40, "claude");
    kernel_kills(&mut world, &agent, 40, 5);
    world.exit(&agent, SIGKILL.into());
    let died = BootTime(world.now);
    // The same program is started again at once.
    let again = world.spawn(&bash, 60, "claude");
    let started = world.reports.changed_at.values().copied().max();
    assert!(started > Some(died), "there are two roots: {started:?}");
    world.wait(2 * OOM_MARK_NS);
    drained(&mut world);
    let session = world.session("/srv/a").expect("a session");
    assert_eq!(session.primary, again.key);
    assert_eq!(world.reports.changed_at.values().copied().max(), started);
    let at: Vec<BootTime> = world.reports.deaths.iter().map(|death| death.at).collect();
    assert_eq!(at, [died], "it died when it died");
}

//! What a death has of the signals that led to it. Each test shows one fact.

mod support;

use observer_core::death::{Death, SendingProcess, SentSignal, SignalOrigin};
use observer_core::limits::POLITE_SIGNAL_NS;
use observer_core::process::Comm;
use observer_core::{Input, ProcessKey};
use support::{Proc, World, rule, shell};

const SIGHUP: u8 = 1;
const SIGUSR1: u8 = 10;
const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// Sends a signal to `to` from the process with this pid.
fn send(world: &mut World, to: &Proc, signal: u8, from: u32) -> SentSignal {
    let process =
        SendingProcess { key: ProcessKey::new(from, 1), comm: Comm(*b"systemd\0\0\0\0\0\0\0\0\0"), uid: 0 };
    let sent =
        SentSignal { signal, at: world.tick_clock(), origin: SignalOrigin::Kill, process: Some(process) };
    world.feed(Input::Signal { key: to.key, sent });
    sent
}

/// The process ends with this wait status; returns its death.
fn end(world: &mut World, proc: &Proc, status: u32) -> Death {
    world.exit(proc, status);
    world.reports.deaths.last().copied().expect("a death")
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
    assert_eq!((death.fatal_signal, death.polite_signal), (Some(fatal), Some(polite)));
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
    assert_eq!((death.fatal_signal, death.polite_signal), (Some(first), Some(again)));
}

#[test]
fn a_handler_that_sends_its_signal_again_does_not_hide_who_sent_it_first() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let first = send(&mut world, &agent, SIGTERM, 1);
    let own = send(&mut world, &agent, SIGTERM, 40);
    let death = end(&mut world, &agent, SIGTERM.into());
    assert_eq!((death.fatal_signal, death.polite_signal), (Some(own), Some(first)));
}

#[test]
fn another_signal_than_the_one_that_ended_it_is_not_its_cause() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let term = send(&mut world, &agent, SIGTERM, 1);
    send(&mut world, &agent, SIGUSR1, 2);
    let death = end(&mut world, &agent, SIGKILL.into());
    assert_eq!((death.fatal_signal, death.polite_signal), (None, Some(term)), "its record was lost");
}

#[test]
fn an_exit_has_no_fatal_signal_and_a_fatal_one_is_not_its_own_polite_one() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let hup = send(&mut world, &agent, SIGHUP, 1);
    let death = end(&mut world, &agent, 3 << 8);
    assert_eq!((death.fatal_signal, death.polite_signal), (None, Some(hup)));
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    let term = send(&mut world, &agent, SIGTERM, 1);
    let death = end(&mut world, &agent, SIGTERM.into());
    assert_eq!((death.fatal_signal, death.polite_signal), (Some(term), None));
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
    assert_eq!((death.fatal_signal, death.polite_signal), (Some(fatal), None));
}

#[test]
fn a_polite_signal_of_long_ago_has_nothing_to_do_with_the_end() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    send(&mut world, &agent, SIGHUP, 1);
    world.wait(POLITE_SIGNAL_NS);
    assert_eq!(end(&mut world, &agent, 0).polite_signal, None);
}

#[test]
fn a_process_that_receives_many_signals_keeps_a_few() {
    let mut world = World::new(vec![rule()]);
    let agent = victim(&mut world);
    for signal in 34..64 {
        send(&mut world, &agent, signal, 1);
    }
    let last = send(&mut world, &agent, 64, 2);
    let death = end(&mut world, &agent, 64);
    assert_eq!((death.fatal_signal, death.polite_signal), (Some(last), None));
}

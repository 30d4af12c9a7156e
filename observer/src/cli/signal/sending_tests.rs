//! `--tree` against real processes, with answers from a script.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use super::super::leftovers::{self, Patience};
use super::*;
use crate::api::answer::Head;
use crate::api::key::LifeKey;
use crate::api::leftovers::{FormerSessionJson, LeftoverJson, LeftoversAnswer};
use crate::boot::boot_id;
use crate::cli::former::FormerWanted;
use crate::socket::frame::{Hello, PROTOCOL, line};
use crate::text::bytes::{Big, Text};

/// A process that does nothing, and that is killed in the end.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    /// As an answer shows it, as started by `ancestor`; `start` is its place in the order of births.
    fn row(&self, ancestor: Option<&Self>, start: u64) -> ProcessJson<'static> {
        row(self.0.id(), ancestor.map_or(1, |it| it.0.id()), start)
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn signal(&mut self) -> Option<i32> {
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have ended, as a test wants it.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn row(pid: u32, ppid: u32, start: u64) -> ProcessJson<'static> {
    let start_boottime_ns = Big(start);
    let key = LifeKey::of("7f3e90ab", observer_core::ProcessKey::new(pid, 1 << 30)).to_string();
    ProcessJson { pid, ppid, start_boottime_ns, key, ..ProcessJson::default() }
}

fn sessions(primaries: &[&ProcessJson<'static>]) -> Vec<u8> {
    let of = |primary: &&ProcessJson<'static>| SessionJson {
        state: SessionState::Live,
        primary: (*primary).clone(),
        ..SessionJson::default()
    };
    let sessions = primaries.iter().map(of).collect();
    let head = Head { certain: true, ..Head::default() };
    line(&ListAnswer { head, sessions, ..ListAnswer::default() })
}

fn processes(certain: bool, rows: &[&ProcessJson<'static>]) -> Vec<u8> {
    let head = Head { certain, ..Head::default() };
    line(&ProcessesAnswer { head, processes: rows.iter().map(|&it| it.clone()).collect() })
}

/// A socket on which each connection gets the next answer. There is no socket after the last one.
fn script(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let hello = Hello {
        observer: "0".into(),
        protocol: PROTOCOL,
        boot_id: boot_id().unwrap(),
        pid: std::process::id(),
    };
    let socket = path.clone();
    std::thread::spawn(move || {
        let count = answers.len();
        for (at, answer) in (1..).zip(answers) {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&line(&hello)).unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            if at == count {
                std::fs::remove_file(&socket).unwrap();
            }
            stream.write_all(&answer).unwrap();
        }
    });
    (dir, path)
}

/// Sends SIGTERM to `primary` and its tree. The first of `answers` verifies it.
fn send_term(primary: &ProcessJson<'static>, answers: Vec<Vec<u8>>) -> Signalled {
    let (_dir, socket) = script(answers);
    let opened = Vec::from_iter(open(primary).unwrap());
    let (verified, after) = OpenedPidfd::verify::<ListAnswer<'static>>(opened, &socket).unwrap();
    let process = verified.into_iter().next().unwrap();
    let session = after.sessions.first().unwrap().clone();
    let verified = VerifiedPrimary { process, session, primaries: primaries(&after) };
    verified.send(SignalNumber::parse("TERM").unwrap(), true, &socket)
}

fn outcomes(signalled: &Signalled) -> Vec<(u32, Outcome)> {
    signalled.targets.iter().map(|it| (it.pid, it.outcome)).collect()
}

#[test]
fn this_command_is_no_target_and_an_answer_in_doubt_has_none() {
    let own = std::process::id();
    let (root, shell) = (own + 1, own + 2);
    let processes = vec![row(root, 1, 10), row(shell, root, 11), row(own, shell, 12)];
    let mut answer = ProcessesAnswer { processes, ..ProcessesAnswer::default() };
    let mut tree = ProcessTree::new(&row(root, 1, 10).key);
    assert!(planned(&answer, &mut tree, &HashSet::new()).is_err(), "it is not certain");
    answer.head.certain = true;
    let planned = planned(&answer, &mut tree, &HashSet::new()).unwrap();
    assert_eq!(planned.iter().map(|(process, _)| process.pid).collect::<Vec<_>>(), [shell]);
}

#[test]
fn a_session_that_begins_after_the_first_look_is_left_out_with_what_runs_it() {
    let [mut root, mut server, mut inner, mut helper, mut other] = [(); 5].map(|()| Sleeper::start());
    let primary = root.row(None, 10);
    let multiplexer = server.row(Some(&root), 11);
    let session = inner.row(Some(&server), 12);
    let below = helper.row(Some(&inner), 13);
    let plain = other.row(Some(&root), 14);
    let all = [&primary, &multiplexer, &session, &below, &plain];
    // A process becomes a session when it is as old as the rule's `min_age`: it may have started something by then.
    let answers = vec![
        sessions(&[&primary]),
        processes(true, &all),
        processes(true, &all),
        sessions(&[&primary, &session]),
    ];
    let signalled = send_term(&primary, answers);
    assert!(signalled.failure.is_none(), "{:?}", signalled.failure);
    // What runs there was planned at first.
    assert!(!signalled.complete);
    let left_out = |it: &ProcessJson<'_>| (it.pid, Outcome::OtherSession);
    let expected = [
        left_out(&below),
        left_out(&session),
        (plain.pid, Outcome::Sent),
        left_out(&multiplexer),
        (primary.pid, Outcome::Sent),
    ];
    assert_eq!(outcomes(&signalled), expected);
    assert!(server.runs() && inner.runs() && helper.runs(), "{expected:?}");
    assert_eq!([root.signal(), other.signal()], [Some(libc::SIGTERM); 2]);
}

#[test]
fn what_runs_a_session_that_is_born_meanwhile_is_left_out() {
    // Also where the primary of the session that is meant has ended by then.
    for has_root in [true, false] {
        let [root, mut server, inner] = [(); 3].map(|()| Sleeper::start());
        let primary = root.row(None, 10);
        let multiplexer = server.row(Some(&root), 11);
        let session = inner.row(Some(&server), 12);
        let later: Vec<_> =
            [&primary, &multiplexer, &session].into_iter().skip(usize::from(!has_root)).collect();
        let looked_again = [processes(true, &later), sessions(&[&primary, &session])];
        let first = [sessions(&[&primary]), processes(true, &[&primary, &multiplexer])];
        let answers = [first, looked_again.clone(), looked_again].concat();
        let signalled = send_term(&primary, answers);
        assert!(signalled.failure.is_none(), "{:?}", signalled.failure);
        assert_eq!(outcomes(&signalled).first(), Some(&(multiplexer.pid, Outcome::OtherSession)));
        assert!(server.runs(), "{has_root}");
    }
}

#[test]
fn what_was_sent_is_reported_where_a_later_question_fails() {
    let no_daemon = (vec![], "no daemon listens on");
    let in_doubt = (vec![processes(false, &[])], "no daemon listens on");
    let lost = (vec![processes(false, &[]), sessions(&[])], "events were lost");
    for (last, reason) in [no_daemon, in_doubt, lost] {
        let [mut root, mut first, mut second] = [(); 3].map(|()| Sleeper::start());
        let primary = root.row(None, 10);
        let sent = first.row(Some(&root), 11);
        let late = second.row(Some(&root), 12);
        let mut answers = vec![
            sessions(&[&primary]),
            processes(true, &[&primary, &sent]),
            processes(true, &[&primary, &sent, &late]),
            sessions(&[&primary]),
        ];
        answers.extend(last);
        let signalled = send_term(&primary, answers);
        let failure = format!("{:#}", signalled.failure.as_ref().unwrap());
        assert!(failure.starts_with("1 descendants were signalled, and the primary was not"), "{failure}");
        assert!(failure.contains(reason), "{failure}");
        assert_eq!(outcomes(&signalled), [(sent.pid, Outcome::Sent), (late.pid, Outcome::Unverified)]);
        assert_eq!(first.signal(), Some(libc::SIGTERM));
        assert!(root.runs() && second.runs() && !signalled.complete);
    }
}

#[test]
fn descendants_are_signalled_though_the_primary_ends_before_their_round() {
    let [mut root, mut old] = [(); 2].map(|()| Sleeper::start());
    let primary = root.row(None, 10);
    let first = old.row(Some(&root), 11);
    // No kernel gives such pids: the first batch is of processes that have ended.
    let ended = (0..).take(TREE_OPEN_MAX).map(|at| row((1 << 22) + 1 + at, primary.pid, 12));
    let ended: Vec<_> = ended.collect();
    let all: Vec<_> = [&primary, &first].into_iter().chain(&ended).collect();
    // From the second look on, the primary has ended, and its child belongs to whoever started the primary.
    let orphan = old.row(None, 11);
    let later = [processes(true, &[&orphan]), sessions(&[])];
    let begins = vec![sessions(&[&primary]), processes(true, &all)];
    let signalled = send_term(&primary, [begins, later.to_vec(), later.to_vec()].concat());
    assert!(signalled.failure.is_none() && signalled.complete, "{:?}", signalled.failure);
    let of_old: Vec<_> = outcomes(&signalled).into_iter().filter(|(pid, _)| *pid == orphan.pid).collect();
    assert_eq!(of_old, [(orphan.pid, Outcome::Sent)]);
    assert_eq!(old.signal(), Some(libc::SIGTERM));
    assert_eq!(root.signal(), Some(libc::SIGTERM));
}

/// What a session called `a` left, each with whether it runs a session that lives; `others`: what one called `b` left.
fn left(certain: bool, of_a: &[(&ProcessJson<'static>, bool)], of_b: &[&ProcessJson<'static>]) -> Vec<u8> {
    let leftover = |name: &'static [u8], process: &ProcessJson<'static>, runs_session| LeftoverJson {
        session: FormerSessionJson {
            name: Text::from(name),
            home: Text::from(name),
            key: if name == b"a" { "7f3e90ab-1-40000000" } else { "7f3e90ab-2-40000000" }.into(),
            ..FormerSessionJson::default()
        },
        runs_session,
        process: process.clone(),
        ..LeftoverJson::default()
    };
    let of_a = of_a.iter().map(|&(process, runs_session)| leftover(b"a", process, runs_session));
    let leftovers = of_a.chain(of_b.iter().map(|process| leftover(b"b", process, false))).collect();
    line(&LeftoversAnswer {
        head: Head { certain, ..Head::default() },
        leftovers,
        ..LeftoversAnswer::default()
    })
}

/// Sends SIGTERM to what the session called `a` left.
fn send_term_to_leftovers(answers: Vec<Vec<u8>>) -> Signalled {
    let (_dir, socket) = script(answers);
    let wanted = FormerWanted::new(OsStr::new("a"), None, None).unwrap();
    let Ok((meant, answer)) = leftovers::find(&wanted, &socket).unwrap() else { panic!("there are some") };
    leftovers::signal(&meant, answer, SignalNumber::parse("TERM").unwrap(), Patience::None, &socket).0
}

#[test]
fn only_what_is_still_a_leftover_and_runs_no_session_is_signalled() {
    let [mut plain, mut begins, mut runs, mut other] = [(); 4].map(|()| Sleeper::start());
    let [one, two, three, four] =
        [(&plain, 10), (&begins, 11), (&runs, 12), (&other, 13)].map(|(it, at)| it.row(None, at));
    let answers = vec![
        left(true, &[(&one, false), (&two, false), (&three, false)], &[&four]),
        // One is a session by now, and another runs one.
        left(true, &[(&one, false), (&three, true)], &[&four]),
    ];
    let signalled = send_term_to_leftovers(answers);
    assert!(signalled.complete && signalled.failure.is_none(), "{:?}", signalled.failure);
    let expected = [(three.pid, Outcome::OtherSession), (two.pid, Outcome::Ended), (one.pid, Outcome::Sent)];
    assert_eq!(outcomes(&signalled), expected, "the youngest first");
    assert_eq!(plain.signal(), Some(libc::SIGTERM));
    assert!(begins.runs() && runs.runs() && other.runs());
}

#[test]
fn no_leftover_is_signalled_where_the_later_answer_is_in_doubt() {
    let mut plain = Sleeper::start();
    let row = plain.row(None, 10);
    let signalled =
        send_term_to_leftovers(vec![left(true, &[(&row, false)], &[]), left(false, &[(&row, false)], &[])]);
    assert_eq!(outcomes(&signalled), [(row.pid, Outcome::Unverified)]);
    let failure = signalled.failure.expect("it says why").to_string();
    assert!(!signalled.complete && failure.contains("0 leftovers were signalled"), "{failure}");
    assert!(plain.runs());
}

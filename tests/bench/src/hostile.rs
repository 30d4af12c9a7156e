//! What a user without privileges can make the daemon spend: for each thing that a process can do in a loop, the daemon's
//! CPU time beside the user's, what it writes to the journal, and how long another user's events take meanwhile.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::account;
use crate::child::Conversation;
use crate::figure::{Figure, Sample};
use crate::latency;
use crate::list;
use crate::observer::Observer;
use crate::setting::Bench;
use crate::work::{ATTACKER, Attack};

const NAME: &str = "hostile";
/// What `attack.c` can do.
const KINDS: [&str; 17] = [
    "fork",
    SESSIONS,
    "roots",
    "argv",
    "chdir",
    "directories",
    "descendants",
    "ancestry",
    "rename",
    "mkdir",
    "prctl",
    "setsid",
    "setpgid",
    "setuid",
    "mount",
    "signal",
    "threads",
];
/// Programs that start and end, each of which is a session.
const SESSIONS: &str = "exec";
/// The walk through thousands of directories, beside which `observer list` is measured.
const WALK: &str = "directories";
/// Lists for each session of another user.
const LISTS: usize = 5;
/// What `observer list` may take, ms.
const LIST_MAX_MS: f64 = 5.0;
/// The directories that `attack.c` expects.
const HOMES: usize = 64;
/// CPU time of the daemon for each unit of the user's.
const RATIO_MAX: f64 = 0.5;
/// Entries a second about one user's sessions, their starts and ends aside.
const ENTRIES_MAX: f64 = 20.0;
/// What another user's events may take, ms.
const OTHERS_MAX_MS: f64 = 50.0;
/// An attack and what it takes to begin and to end.
const LIMIT: Duration = Duration::from_secs(120);

/// What one attack caused.
struct Damage {
    rounds: u64,
    /// CPU time of the attacker's processes and of the daemon, s.
    attacker_s: f64,
    daemon_s: f64,
    /// Entries about the attacker's sessions, their starts and ends aside, a second.
    entries_a_second: f64,
    starts_and_ends: u64,
    lost: u64,
    /// The slowest of another user's events, ms.
    slowest_ms: f64,
    /// How long `observer list` took, ms, beside [`WALK`].
    lists_ms: Vec<f64>,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let (mut entries, mut slowest, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    let (mut beside_walk, mut lost) = (Vec::new(), Vec::new());
    for kind in KINDS {
        for terminal in [false, true] {
            let damage = one(bench, kind, terminal).with_context(|| format!("the attack by {kind}"))?;
            let name = attack(kind, terminal);
            if kind == WALK {
                beside_walk.push((damage.slowest_ms, name.clone()));
            }
            figures.push(figure(&name, &damage));
            entries.push((damage.entries_a_second, name.clone()));
            lost.push((damage.lost as f64, name.clone()));
            slowest.push((damage.slowest_ms, name));
            lists.extend(damage.lists_ms);
        }
    }
    figures.push(worst("entries of one user a second, starts and ends aside", "", &entries, ENTRIES_MAX)?);
    figures.push(worst("entries lost", "", &lost, 0.0)?);
    let of_others = "kernel → watch, another user's session meanwhile";
    figures.push(worst(of_others, "ms", &slowest, OTHERS_MAX_MS)?);
    let of_others = "kernel → watch, another user's session beside a walk through directories";
    figures.push(worst(of_others, "ms", &beside_walk, OTHERS_MAX_MS)?);
    let median = Sample::median(&lists).context("no list was made")?;
    figures.push(
        Figure::new(NAME, "`observer list` beside a walk through directories, p50", "ms", median)
            .must_be_at_most(LIST_MAX_MS),
    );
    Ok(figures)
}

fn attack(kind: &str, terminal: bool) -> String {
    let place = if terminal { " on a terminal" } else { "" };
    format!("{kind}{place}")
}

/// The worst of the values that attacks caused, and which of them caused it.
fn worst(what: &str, unit: &str, values: &[(f64, String)], limit: f64) -> Result<Figure> {
    let (worst, by) =
        values.iter().max_by(|(one, _), (other, _)| one.total_cmp(other)).context("no attack was made")?;
    let all: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
    let sample = Sample { value: *worst, ..Sample::worst(&all).context("no attack was made")? };
    Ok(Figure::new(NAME, format!("{what}, worst ({by})"), unit, sample).must_be_at_most(limit))
}

fn figure(attack: &str, damage: &Damage) -> Figure {
    let Damage { rounds, attacker_s, daemon_s, entries_a_second, starts_and_ends, lost, slowest_ms, .. } =
        damage;
    let ratio = Sample::once(daemon_s / attacker_s);
    let what = format!("daemon CPU : attacker CPU, {attack}");
    Figure::new(NAME, what, "", ratio).must_be_at_most(RATIO_MAX).note(format!(
        "{rounds} rounds in {attacker_s:.2} s of CPU; entries: {entries_a_second:.1} a second, \
         {starts_and_ends} starts and ends, {lost} lost; another user's slowest event {slowest_ms:.1} ms"
    ))
}

fn one(bench: &Bench, kind: &str, terminal: bool) -> Result<Damage> {
    let homes = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
    fs::set_permissions(homes.path(), Permissions::from_mode(0o755))?;
    let (theirs, ours) = (homes.path().join("theirs"), homes.path().join("ours"));
    fs::create_dir(&theirs)?;
    fs::create_dir(&ours)?;
    give(&theirs)?;
    for n in 0..HOMES {
        let home = theirs.join(format!("h{n}"));
        fs::create_dir(&home)?;
        give(&home)?;
    }
    let [their, our] = [&theirs, &ours].map(|homes| format!("\"{}/*\"", homes.display()));
    let rule = format!("[[session]]\nmin_age = \"0s\"\ncwd = [{their}, {our}]\ntty = \"any\"\n");
    let observer = Observer::start(Some(&rule));
    let mut watch = latency::watch(&observer, &[&format!("{}/*", ours.display())])?;
    let pid = observer.pid();
    account::settle(pid)?;

    let seconds = bench.scaled(3.0, 0.5);
    let before = account::cpu_ns(pid)?;
    let began = Instant::now();
    let mut attack = bench.work.attack(&Attack { kind, seconds, homes: &theirs, terminal })?;
    let mut slowest_ms: f64 = 0.0;
    let (mut sessions, mut lists_ms) = (0, Vec::new());
    while attack.child_mut().ended()?.is_none() {
        let home = ours.join(format!("session-{sessions}"));
        fs::create_dir(&home)?;
        let delays = latency::one_session(bench, &mut watch, &home, Duration::ZERO)?;
        slowest_ms = delays.iter().fold(slowest_ms, |slowest, delay| slowest.max(delay.from_kernel));
        sessions += 1;
        for _ in 0..if kind == WALK { LISTS } else { 0 } {
            let (took_ms, rows) = list::timed(&observer)?;
            ensure!(rows <= 1, "one process has {rows} sessions");
            lists_ms.push(took_ms);
        }
    }
    let took = began.elapsed();
    let (rounds, attacker_ns) = result(attack)?;
    account::settle(pid)?;
    let daemon_ns = account::cpu_ns(pid)? - before;
    drop(watch);
    let status = observer.status()?;
    let lost = status.number(&["journal", "dropped"])?;
    let (changes, starts_and_ends) = entries(&observer, &theirs)?;
    if kind == SESSIONS {
        // Most starts of a session that starts again and again are counted, and have no entry of their own.
        let started = starts_and_ends / 2 + status.number(&["starts_counted"])?;
        ensure!(started >= rounds / 2, "{rounds} programs were {started} sessions");
    }
    observer.stop()?;
    ensure!(sessions > 0, "it was over before another user's session began");
    Ok(Damage {
        rounds,
        attacker_s: attacker_ns as f64 / 1e9,
        daemon_s: daemon_ns as f64 / 1e9,
        entries_a_second: changes as f64 / took.as_secs_f64(),
        starts_and_ends,
        lost,
        slowest_ms,
        lists_ms,
    })
}

fn give(path: &Path) -> Result<()> {
    std::os::unix::fs::chown(path, Some(ATTACKER), Some(ATTACKER))
        .with_context(|| format!("chown {}", path.display()))
}

/// Rounds and CPU time, ns, that the attack reports.
fn result(mut attack: Conversation) -> Result<(u64, u64)> {
    let line = attack.line(LIMIT)?;
    attack.finish(LIMIT)?;
    let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [rounds, cpu_ns] if cpu_ns > 0 => Ok((rounds, cpu_ns)),
        _ => bail!("bench-attack printed {line:?} instead of rounds and CPU time"),
    }
}

/// Entries about sessions in `homes`: changes, and starts and ends.
fn entries(observer: &Observer, homes: &Path) -> Result<(u64, u64)> {
    let output = observer.command(&["history", "--json"]).output().context("run observer history")?;
    ensure!(output.status.success(), "history failed: {}", String::from_utf8_lossy(&output.stderr));
    let (mut changes, mut starts_and_ends) = (0, 0);
    for line in String::from_utf8(output.stdout)?.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("history printed {line:?}"))?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        if !text("home").is_some_and(|home| Path::new(home).starts_with(homes)) {
            continue;
        }
        match text("kind") {
            Some("session_started" | "session_ended") => starts_and_ends += 1,
            _ => changes += 1,
        }
    }
    Ok((changes, starts_and_ends))
}

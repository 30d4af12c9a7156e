//! From the kernel to a line of `observer watch --json`: sessions that move and sessions that are killed, one event
//! at a time, on a quiet machine and beside a storm of spawns.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use observer_harness::protocol::boottime_ns;

use crate::child::Conversation;
use crate::figure::{Budget, Figure, Sample};
use crate::observer::Observer;
use crate::setting::{Bench, homes_rule};
use crate::work::{Place, Spawn};

const NAME: &str = "latency";
/// Between two events: longer than anything lingers (20 ms), so that each finds the daemon asleep.
const APART: Duration = Duration::from_millis(40);
/// Added in turn to [`APART`], so that events do not keep step with a timer.
const JITTER: Duration = Duration::from_micros(700);
const LIMIT: Duration = Duration::from_secs(20);
/// Loops of the storm; each spawns until its input ends.
const SPAWNERS: usize = 2;
/// Spawns of a loop: it is stopped long before.
const ENDLESS: u64 = 100_000_000;

/// What a session's process did or suffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Move,
    Death,
}

/// One event, ms.
#[derive(Clone, Copy)]
pub(crate) struct Delay {
    event: Event,
    /// From the time in the frame, which the kernel program took, to the line.
    pub(crate) from_kernel: f64,
    /// From just before the system call to the line.
    from_call: f64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let events = bench.scaled(400, 60);
    let quiet = events_of(bench, events)?;
    let storm: Vec<_> = (0..SPAWNERS)
        .map(|_| bench.work.start_spawning(Spawn::Tiny, Place::Anywhere, ENDLESS))
        .collect::<Result<_>>()?;
    let loaded = events_of(bench, events);
    for mut spawner in storm {
        if let Some(status) = spawner.child_mut().ended()? {
            bail!("a loop of the storm ended by itself ({status}): there was no load");
        }
        spawner.child_mut().stop(libc::SIGKILL, LIMIT)?;
    }
    let mut figures = figures("", &quiet, [Budget::AtMost(0.4), Budget::AtMost(1.0)])?;
    let beside = format!(", beside {SPAWNERS} loops that spawn");
    figures.extend(self::figures(&beside, &loaded?, [Budget::AtMost(1.0), Budget::None])?);
    Ok(figures)
}

/// The median and the 99th percentile, with their budgets.
fn figures(beside: &str, delays: &[Delay], budgets: [Budget; 2]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for ((name, percent), budget) in [("p50", 50.0), ("p99", 99.0)].into_iter().zip(budgets) {
        let sample = |of: fn(&Delay) -> f64, wanted: &[Event]| {
            let wanted = delays.iter().filter(|delay| wanted.contains(&delay.event));
            Sample::percentile(&wanted.map(of).collect::<Vec<_>>(), percent).context("no event was made")
        };
        let of_both = |of| sample(of, &[Event::Move, Event::Death]);
        let from_kernel: fn(&Delay) -> f64 = |delay| delay.from_kernel;
        let [moves, deaths] = [Event::Move, Event::Death].map(|event| sample(from_kernel, &[event]));
        figures.push(
            Figure::new(
                NAME,
                format!("kernel → watch, a session, {name}{beside}"),
                "ms",
                of_both(from_kernel)?,
            )
            .budget(budget)
            .note(format!("moves {:.2} ms, deaths {:.2} ms", moves?.value, deaths?.value)),
        );
        let what = format!("from before the system call to watch, a session, {name}{beside}");
        figures.push(Figure::new(NAME, what, "ms", of_both(|delay| delay.from_call)?));
    }
    Ok(figures)
}

fn events_of(bench: &Bench, events: u64) -> Result<Vec<Delay>> {
    let homes = tempfile::Builder::new().prefix("observer-bench-").tempdir()?;
    let observer = Observer::start(Some(&homes_rule(homes.path())));
    let mut watch = watch(&observer, &[])?;
    let mut delays = Vec::new();
    for n in 0..events / 2 {
        let home = homes.path().join(format!("session-{n}"));
        fs::create_dir(&home)?;
        delays.extend(one_session(bench, &mut watch, &home, JITTER * u32::try_from(n % 32)?)?);
    }
    drop(watch);
    observer.stop()?;
    Ok(delays)
}

/// Starts `observer watch --json` with these arguments, and reads the snapshot.
pub(crate) fn watch(observer: &Observer, arguments: &[&str]) -> Result<Conversation> {
    let mut command = observer.command(&["watch", "--json"]);
    let mut watch = Conversation::start(command.args(arguments))?;
    frame(&mut watch, "snapshot_end", |frame| {
        frame.get("kind").and_then(Value::as_str) == Some("snapshot_end")
    })?;
    Ok(watch)
}

/// A session that begins, leaves its home and is killed: two delays.
pub(crate) fn one_session(
    bench: &Bench,
    watch: &mut Conversation,
    home: &Path,
    jitter: Duration,
) -> Result<[Delay; 2]> {
    let mut session = bench.work.session(home)?;
    let pid = session.child().pid();
    let started = of_session(watch, pid, "session_started", "live");
    started.with_context(|| format!("a process on a terminal in {}", home.display()))?;

    std::thread::sleep(APART + jitter);
    session.send(&PathBuf::from("/"))?;
    let line = session.line(LIMIT)?;
    let called = line.split(' ').next().and_then(|before| before.parse().ok());
    let called = called.with_context(|| format!("bench-load printed {line:?} instead of two times"))?;
    let left = of_session(watch, pid, "session_changed", "left")?;

    std::thread::sleep(APART + jitter);
    let killed = boottime_ns();
    session.child().signal(libc::SIGKILL)?;
    // First what is measured; that the process is gone is seen no sooner than the next look.
    let ended = of_session(watch, pid, "session_ended", "ended")?;
    session.child_mut().wait(LIMIT)?;
    Ok([left.delay(Event::Move, called), ended.delay(Event::Death, killed)])
}

/// When a frame's cause happened and when its line was there, ns of boot time.
#[derive(Clone, Copy)]
struct Times {
    happened: u64,
    arrived: u64,
}

impl Times {
    fn delay(self, event: Event, called: u64) -> Delay {
        let ms = |from: u64| self.arrived.saturating_sub(from) as f64 / 1e6;
        Delay { event, from_kernel: ms(self.happened), from_call: ms(called) }
    }
}

/// The frame of a session's process. Another's frame is told by its text, because to decode each takes long enough to be a part of
/// what is measured.
fn of_session(watch: &mut Conversation, pid: u32, kind: &str, state: &str) -> Result<Times> {
    let wanted = |frame: &Value| {
        let text = |name: &str| frame.get(name).and_then(Value::as_str);
        frame.get("pid").and_then(Value::as_u64) == Some(u64::from(pid))
            && text("kind") == Some(kind)
            && text("state") == Some(state)
    };
    frame(watch, &format!("\"pid\":{pid},"), wanted).with_context(|| format!("no {kind} of pid {pid}"))
}

fn frame(watch: &mut Conversation, text: &str, wanted: impl Fn(&Value) -> bool) -> Result<Times> {
    let end = Instant::now() + LIMIT;
    while let Some((line, arrived)) = watch.next(end.saturating_duration_since(Instant::now()))? {
        if !line.contains(text) {
            continue;
        }
        let frame: Value = serde_json::from_str(&line).with_context(|| format!("watch printed {line:?}"))?;
        if wanted(&frame) {
            let happened =
                frame.get("boottime_ns").and_then(Value::as_str).and_then(|text| text.parse().ok());
            let happened = happened.with_context(|| format!("a frame without boottime_ns: {line}"))?;
            return Ok(Times { happened, arrived });
        }
    }
    bail!("`observer watch` did not show it within {LIMIT:?}")
}

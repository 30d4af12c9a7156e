//! From the kernel to a row that is committed: sessions that move and sessions that are killed, one event at a time.

use std::path::Path;
use std::time::Duration;

use observer_harness::scene::Scene;

use crate::figure::{Figure, Reference};
use crate::mirror::server::{Asker, DURABLE};
use crate::mirror::{figure, sample};
use crate::setting::Bench;

const NAME: &str = "commit";
/// Between two events: each finds everything idle.
const APART: Duration = Duration::from_millis(40);
/// Added in turn, so that events do not keep step with a timer.
const JITTER: Duration = Duration::from_micros(700);

pub(crate) fn measure(bench: &Bench) -> Vec<Figure> {
    let events = bench.scaled(400, 60);
    let settings: Vec<_> = DURABLE.into_iter().chain(["track_commit_timestamp=on"]).collect();
    let scene = Scene::new(&settings);
    scene.delivered();
    for n in 0..events / 2 {
        let wait = || std::thread::sleep(APART + JITTER * (n % 32));
        let home = scene.home(&format!("session-{n}"));
        let mut agent = scene.agent(&home, None);
        wait();
        agent.chdir(Path::new("/"));
        wait();
        agent.killed(libc::SIGKILL);
    }
    scene.delivered();
    let asker = Asker::new(&scene.server);
    let delays = |kind: &str| -> Vec<f64> {
        let rows = asker.ask(&format!(
            "SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin) - at) * 1000)::float8
             FROM observer.event WHERE kind = '{kind}'"
        ));
        rows.iter().map(|row| row.get(0)).collect()
    };
    let (moves, deaths) = (delays("session_changed"), delays("session_ended"));
    let wanted = events as usize / 2;
    assert_eq!((moves.len(), deaths.len()), (wanted, wanted), "each event is one row");
    asker.ask("CREATE TABLE public.probe (number integer)");
    let (alone, _) = asker.timed("INSERT INTO public.probe VALUES (1)", wanted);
    let both: Vec<f64> = moves.iter().chain(&deaths).copied().collect();
    let of_events = |name: &str, percentile, budget| {
        let what = format!("kernel → row committed in Postgres, a session, {name}");
        figure(NAME, what, "ms", &both, percentile)
            .at_most(budget)
            .against([Reference::measured(
                "INSERT of one row, alone",
                sample(&alone, percentile).value,
                "ms",
            )])
            .note("half of them moves, half deaths")
    };
    vec![of_events("p50", 50.0, 2.5), of_events("p99", 99.0, 10.0)]
}

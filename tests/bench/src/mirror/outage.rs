//! Ten minutes without a database, under a hundred changes of sessions a second.

use std::fs;
use std::time::{Duration, Instant};

use observer_harness::Puppet;
use observer_harness::scene::Scene;

use crate::figure::Figure;
use crate::mirror::once;
use crate::mirror::server::{self, DURABLE};
use crate::setting::Bench;

const NAME: &str = "outage";
const SESSIONS: usize = 8;
/// Changes a second.
const RATE: u32 = 100;
/// What a storm took is given back within this.
const CALM: Duration = Duration::from_secs(11);
const MEBIBYTE: f64 = 1048576.0;

pub(crate) fn measure(bench: &Bench) -> Vec<Figure> {
    let lasts = Duration::from_secs(bench.scaled(600, 20));
    let mut scene = Scene::new(&DURABLE);
    let homes: Vec<_> = (0..SESSIONS).map(|n| scene.home(&format!("session-{n}"))).collect();
    let agents: Vec<Puppet> = homes.iter().map(|home| scene.agent(home, None)).collect();
    let short = scene.home("short");
    scene.delivered();
    let before = resident(&scene);
    scene.server.stop();
    let began = Instant::now();
    let (mut n, mut most) = (0_u32, 0.0_f64);
    while began.elapsed() < lasts {
        // A start and an end.
        scene.fixture.short_lives(&short, &[], 1);
        n += 2;
        if n.is_multiple_of(RATE) {
            most = most.max(resident(&scene));
        }
        std::thread::sleep((Duration::from_secs(1) / RATE * n).saturating_sub(began.elapsed()));
    }
    let seconds = began.elapsed().as_secs_f64();
    scene.server.start_again();
    let back = Instant::now();
    scene.delivered();
    let caught_up = back.elapsed().as_secs_f64();
    most = most.max(resident(&scene));
    std::thread::sleep(CALM);
    let after = resident(&scene);
    let changes = "SELECT count(*) FROM observer.events WHERE home LIKE '%/short-%'";
    let arrived = server::number(&scene.server, changes);
    assert_eq!(arrived, f64::from(n), "each change is one row");
    for agent in agents {
        agent.killed(libc::SIGKILL);
    }
    let what = format!("resident memory at most, {seconds:.0} s without a database, {n} changes");
    vec![
        once(NAME, what, "MiB", most / MEBIBYTE).at_most(16.0).note(format!(
            "before {:.1} MiB, afterwards {:.1} MiB",
            before / MEBIBYTE,
            after / MEBIBYTE
        )),
        once(NAME, "from the server's start until it had all of them", "s", caught_up).note(format!(
            "{:.0} rows a second, the wait for the next attempt included",
            arrived / caught_up
        )),
    ]
}

/// Resident bytes of the daemon, mappings of BPF maps left out.
fn resident(scene: &Scene) -> f64 {
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", scene.daemon.pid())).expect("read its mappings");
    let (mut sum, mut counts) = (0, true);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Rss:") if counts => {
                sum += words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
            }
            Some(first) if !first.ends_with(':') => counts = !line.contains("bpf"),
            _ => {}
        }
    }
    sum as f64 * 1024.0
}

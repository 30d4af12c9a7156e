//! `observer timeline` draws what the daemon's journal has of sessions.

use std::time::Duration;

use observer_harness::observe::CommandResult;
use observer_harness::{Pty, eventually};

use crate::Scene;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_session_that_lives_and_one_that_was_killed_are_drawn_from_the_journal() {
    let mut scene = Scene::new("");
    let (pty, other_pty) = (Pty::open(), Pty::open());
    let (alpha, beta) = (scene.home("alpha"), scene.home("beta"));
    let _alpha = scene.agent(&alpha, &pty);
    scene.agent(&beta, &other_pty).killed(libc::SIGKILL);
    scene.wait_for_frame("session_started", &alpha);
    scene.wait_for_frame("session_ended", &beta);
    let row = |drawn: &CommandResult, name: &str| {
        drawn.text().lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default().to_owned()
    };
    // The journal is written moments later. What was before its oldest entry is shaded, up to the part that has that entry.
    let drawn = eventually("both are drawn", LIMIT, || {
        let drawn = scene.daemon.observer(&["timeline", "--since", "2m"]);
        let is_drawn = row(&drawn, "alpha").contains('━') && row(&drawn, "beta").contains('×');
        if is_drawn { Ok(drawn) } else { Err(format!("{drawn:?}")) }
    });
    assert_eq!(drawn.code, Some(0));
    assert!(drawn.text().contains("× signal"), "{drawn:?}");
    assert!(drawn.text().chars().all(|c| c == '\n' || !c.is_control()), "no styles in a file: {drawn:?}");
    let picture = scene.fixture.dir().join("lives.svg");
    let written = scene.daemon.observer(&["timeline", "--svg", picture.to_str().expect("text"), "b*"]);
    assert_eq!((written.code, written.text()), (Some(0), ""), "{written:?}");
    let picture = std::fs::read_to_string(picture).expect("the picture");
    assert!(
        picture.starts_with("<svg ") && picture.contains("SIGKILL") && !picture.contains("alpha"),
        "{picture}"
    );
    let none = scene.daemon.observer(&["timeline", "gamma"]);
    assert_eq!((none.code, none.text()), (Some(1), ""), "{none:?}");
    let state_dir = scene.daemon.state_dir();
    let named = ["timeline", "--since", "1m", "--state-dir", state_dir.to_str().expect("text")];
    let meanwhile = scene.daemon.observer(&named);
    let (code, drawn) = (meanwhile.code, row(&meanwhile, "alpha"));
    assert!(code == Some(0) && drawn.ends_with('━'), "the daemon writes this journal: {drawn}");
    // Without a daemon nobody knows what happens since the newest entry.
    scene.daemon.kill();
    let after = scene.daemon.observer(&named);
    assert!(after.code == Some(0) && row(&after, "alpha").ends_with('┅'), "{}", row(&after, "alpha"));
}

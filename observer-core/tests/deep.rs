//! Homes whose candidates are far below each other: what the elections find for all of them at once is what a walk up from each
//! of them finds, which the invariants check.

mod support;

use observer_core::invariants;
use observer_core::limits::{LINEAGE_STEPS_MAX, SETTLE_NS};
use proptest::prelude::*;
use support::{Proc, World, at_home, rule};

const TTYS: [&str; 3] = ["pts1", "pts2", "pts3"];
const DIRS: [&str; 3] = ["/srv/a", "/srv/a", "/srv/b"];
/// `env` is a wrapper, and no rule admits `bash`.
const NAMES: [&str; 5] = ["claude", "codex", "env", "bash", "claude"];

/// A program below shells.
#[derive(Clone, Debug)]
struct Branch {
    /// Below which of the programs that are there.
    below: usize,
    /// How many shells are between, and the terminal of them.
    shells: usize,
    shell_tty: Option<usize>,
    tty: Option<usize>,
    name: usize,
    dir: usize,
    /// Whether it ends afterwards.
    ends: bool,
}

fn branch() -> impl Strategy<Value = Branch> {
    let tty = || prop::option::weighted(0.3, 0..TTYS.len());
    let shells = prop_oneof![4 => 0..3_usize, 2 => 20..100_usize, 1 => 200..LINEAGE_STEPS_MAX + 20];
    (0..24_usize, shells, tty(), tty(), 0..NAMES.len(), 0..DIRS.len(), prop::bool::weighted(0.2)).prop_map(
        |(below, shells, shell_tty, tty, name, dir, ends)| Branch {
            // The last ones, so that chains are long.
            below: if below < 12 { usize::MAX } else { below },
            shells,
            shell_tty,
            tty,
            name,
            dir,
            ends,
        },
    )
}

fn add(world: &mut World, above: &Proc, tgid: &mut u32, branch: &Branch) -> Proc {
    let mut fork = |world: &mut World, above: &Proc, tty: Option<usize>| {
        *tgid += 1;
        let mut child = world.fork(above, *tgid);
        if let Some(&tty) = tty.and_then(|tty| TTYS.get(tty)) {
            world.set_tty(&mut child, Some(tty));
        }
        child
    };
    let mut at = above.clone();
    for shell in 0..branch.shells {
        at = fork(world, &at, branch.shell_tty.filter(|_| shell == 0));
        if shell == 0 {
            world.exec(&mut at, "bash");
        }
    }
    let mut program = fork(world, &at, branch.tty);
    let dir = DIRS.get(branch.dir).copied().unwrap_or("/");
    if program.cwd != dir {
        world.chdir(&mut program, dir);
    }
    world.exec(&mut program, NAMES.get(branch.name).copied().unwrap_or("claude"));
    program
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_election_finds_the_roots_that_a_walk_from_each_candidate_finds(
        branches in prop::collection::vec(branch(), 1..20),
    ) {
        let mut world = World::new(vec![rule()]);
        let mut programs = vec![at_home(&mut world)];
        world.is_large = true;
        let mut tgid = 1_000;
        for branch in &branches {
            let above = programs.get(branch.below).or(programs.last()).cloned().expect("a shell");
            let program = add(&mut world, &above, &mut tgid, branch);
            world.wait(2 * SETTLE_NS);
            prop_assert_eq!(invariants::check(&world.core), Ok(()));
            if branch.ends {
                world.exit(&program, 0);
                world.wait(2 * SETTLE_NS);
                prop_assert_eq!(invariants::check(&world.core), Ok(()));
            } else {
                programs.push(program);
            }
        }
    }
}

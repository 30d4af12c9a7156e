//! Measures what the core costs for each fork, exec and exit on a host with 1,000 processes and a session.
//! Run it with `--release`.

use std::time::Instant;

use observer_core::Settings;
use observer_core::cost::ProcessUsage;
use observer_core::input::{Block, ProcessFacts, RawPath, TaskRow};
use observer_core::process::{Comm, DirId, Tty};
use observer_core::rule::{Conditions, HomeRule, Pattern, TtyRule};
use observer_core::{BootTime, Change, Core, Input, ProcessKey, Request, Rule, Sink};

#[derive(Debug)]
struct Suffix(&'static [u8]);

impl Pattern for Suffix {
    fn is_match(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(self.0)
    }
}

struct Count(u64);

impl Sink for Count {
    fn change(&mut self, _at: BootTime, _change: Change<'_>) {
        self.0 += 1;
    }
    fn request(&mut self, _request: Request<'_>) {}
}

fn main() {
    for (what, tty) in [("no terminal", None), ("on a terminal", Some(Tty { dev: 1, name: [b'p'; 16] }))] {
        let rule = Rule {
            home: HomeRule::Cwd,
            conditions: Conditions { tty: TtyRule::Matches(Box::new(Suffix(b"p"))), ..Conditions::default() },
            not_comm: vec![Box::new(Suffix(b"sh"))],
            not_program: Vec::new(),
            wrappers: vec![Box::new(Suffix(b"sudo"))],
            owner: false,
            instances: Default::default(),
            min_age_ns: 1_000_000_000,
            name: "{basename}".into(),
        };
        let mut core = Core::new(Settings { rules: vec![rule], host_mnt_ns: 1, ..Settings::default() });
        let mut sink = Count(0);
        let parent = ProcessKey::new(10, 10);
        let cwd = DirId { ino: 7, dev: 8, mnt_id: 9, ..DirId::default() };
        let facts = ProcessFacts {
            cwd,
            mnt_ns: 1,
            tty,
            comm: Comm(*b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            ..ProcessFacts::default()
        };
        let path = RawPath { components: b"work\0home\0", flags: 0 };
        core.handle(Input::PassBegin { at: BootTime(20), drops_total: 0 }, &mut sink);
        for tgid in 10..1010_u32 {
            let key = ProcessKey::new(tgid, tgid.into());
            let row = TaskRow {
                at: BootTime(21),
                key,
                facts,
                cwd_path: path,
                exe: path,
                cgroup: path,
                tty_pgrp: 0,
                stopped: false,
                executing: false,
                dead: None,
                usage: ProcessUsage::default(),
                rss_pages: 0,
            };
            core.handle(Input::PassRow(row), &mut sink);
        }
        core.handle(Input::PassEnd { at: BootTime(22), complete: true }, &mut sink);
        let rounds = 300_000_u64;
        let begin = Instant::now();
        for round in 0..rounds {
            let at = BootTime(10_000 + round * 500_000);
            let key = ProcessKey::new(2_000 + (round % 30_000) as u32, at.0);
            let born = ProcessFacts { parent, ..facts };
            core.handle(Input::Fork { at, key, facts: born, creator: parent }, &mut sink);
            let ran = ProcessFacts { exec_id: 1, comm: Comm(*b"true\0\0\0\0\0\0\0\0\0\0\0\0"), ..born };
            let argv = Block { bytes: b"/bin/true\0--help\0", truncated: false };
            let exe = RawPath { components: b"true\0bin\0usr\0", flags: 0 };
            let env = Block::default();
            let at = at.after(10);
            core.handle(
                Input::Exec { at, key, facts: ran, exe, filename: b"/bin/true", argv, env },
                &mut sink,
            );
            let at = at.after(10);
            core.handle(
                Input::Exit { at, key, raw_status: 0, led_sid: None, usage: ProcessUsage::default() },
                &mut sink,
            );
        }
        let ns = begin.elapsed().as_nanos() as u64 / rounds;
        println!("{what}: {ns} ns per fork+exec+exit, {} changes", sink.0);
    }
}

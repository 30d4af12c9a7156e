//! How long the event loop was behind: records waited in the ring while it had others to handle, answered, or read processes.

use observer_core::BootTime;

/// The time behind since the daemon's start.
#[derive(Debug, Default)]
pub struct TimeBehind {
    total_ns: u64,
    /// Since when the ring was not read to its end.
    since: Option<BootTime>,
    work: OtherWork,
}

/// Answers and passes, during which nobody reads the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OtherWork {
    #[default]
    Nothing,
    /// It is under way since the ring was last read.
    Since(BootTime),
    /// It was over when the loop began to sleep, and the ring was not read since.
    Over { since: BootTime, until: BootTime },
}

impl TimeBehind {
    /// An answer or a pass begins.
    pub fn works(&mut self, now: BootTime) {
        if self.work == OtherWork::Nothing {
            self.work = OtherWork::Since(now);
        }
    }

    /// Takes note of a reading of the ring. `first` is the time of the first record in it.
    pub fn drained(&mut self, first: Option<BootTime>, now: impl Fn() -> BootTime) {
        let (since, until) = match self.work {
            OtherWork::Nothing => return,
            OtherWork::Since(since) => (since, now()),
            OtherWork::Over { since, until } => (since, until),
        };
        if let (Some(first), None) = (first, self.since) {
            self.total_ns += until.since(first.max(since));
        }
        self.work = match self.work {
            OtherWork::Since(_) => OtherWork::Since(now()),
            _ => OtherWork::Nothing,
        };
    }

    /// Takes note of the reading of the ring with which a turn begins: what was under way before is over. `is_caught_up`: the
    /// ring was read to its end.
    pub fn turned(&mut self, is_caught_up: bool, now: impl FnOnce() -> BootTime) {
        self.work = OtherWork::Nothing;
        match (is_caught_up, self.since) {
            (false, None) => self.since = Some(now()),
            (true, Some(since)) => {
                self.total_ns += now().since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    /// The loop begins to sleep: what comes from here on waits for no work.
    pub fn sleeps(&mut self, now: impl FnOnce() -> BootTime) {
        if let OtherWork::Since(since) = self.work {
            self.work = OtherWork::Over { since, until: now() };
        }
    }

    /// The time until `now`, ns.
    pub fn total_ns(&self, now: BootTime) -> u64 {
        self.total_ns + self.since.map_or(0, |since| now.since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_a_turn_that_left_records_and_one_that_left_none_counts() {
        let mut behind = TimeBehind::default();
        for (at, is_caught_up, total) in [
            (0, true, 0),
            (5, false, 0),
            (6, false, 1),
            (8, true, 3),
            (20, true, 3),
            (21, false, 3),
            (22, true, 4),
        ] {
            behind.turned(is_caught_up, || BootTime(at));
            assert_eq!(behind.total_ns(BootTime(at)), total, "at {at}");
        }
        behind.turned(false, || BootTime(30));
        assert_eq!(behind.total_ns(BootTime(33)), 7, "it is behind still");
        // Work in that time is part of it.
        behind.works(BootTime(33));
        behind.drained(Some(BootTime(34)), || BootTime(40));
        behind.turned(true, || BootTime(40));
        assert_eq!(behind.total_ns(BootTime(50)), 14);
    }

    #[test]
    fn the_time_for_which_a_record_waits_while_the_loop_answers_or_reads_processes_counts() {
        let mut behind = TimeBehind::default();
        let drained = |behind: &mut TimeBehind, first: Option<u64>, at| {
            behind.drained(first.map(BootTime), || BootTime(at));
        };
        drained(&mut behind, Some(1), 50);
        assert_eq!(behind.total_ns(BootTime(50)), 0, "the loop slept");
        behind.works(BootTime(100));
        drained(&mut behind, Some(130), 200);
        assert_eq!(behind.total_ns(BootTime(200)), 70, "since the record came");
        drained(&mut behind, Some(190), 230);
        assert_eq!(behind.total_ns(BootTime(230)), 100, "since the reading before");
        drained(&mut behind, None, 300);
        behind.turned(true, || unreachable!());
        assert_eq!(behind.total_ns(BootTime(300)), 100, "nothing waited");
        drained(&mut behind, Some(310), 400);
        assert_eq!(behind.total_ns(BootTime(400)), 100, "the work was over");
        behind.works(BootTime(400));
        behind.sleeps(|| BootTime(420));
        drained(&mut behind, Some(410), 500);
        assert_eq!(behind.total_ns(BootTime(500)), 110, "until the loop slept");
        behind.works(BootTime(500));
        behind.sleeps(|| BootTime(520));
        drained(&mut behind, Some(530), 600);
        assert_eq!(behind.total_ns(BootTime(600)), 110, "it came while the loop slept");
    }
}

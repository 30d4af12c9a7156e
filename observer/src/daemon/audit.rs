//! The comparison of the map with the kernel. Rows are compared and not applied, so that a difference is not healed before it
//! is compared again.

use std::time::{Duration, Instant};

use observer_common::hooks::Fact;
use observer_core::Input;
use observer_core::audit::{Audit, AuditReport, AuditedField};

use super::event_loop::EventLoop;
use crate::api::answer::AuditAnswer;

/// Comparisons in which a difference must have the same value. A change that happens during the first comparison is in the map
/// by the second.
const COMPARISONS: u32 = 3;
/// How long after a comparison the next one begins. A process may be stopped on this CPU, in the middle of a change that its hook
/// reports at the end.
const APART: Duration = Duration::from_millis(10);
/// Between two looks at the ring meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl EventLoop {
    /// Answer to `audit`.
    pub(super) fn audit(&mut self) -> AuditAnswer<'static> {
        let mut passes = 1;
        let (mut report, mut sure) = self.compare();
        while passes < COMPARISONS && !report.is_clean() {
            self.let_others_run();
            let (again, ok) = self.compare();
            report = again.confirmed(&report);
            sure &= ok;
            passes += 1;
        }
        if !report.is_clean() && (self.sink.pass.is_some() || !self.kernel.blind_spots().is_empty()) {
            sure &= self.excuse(&mut report);
            passes += 2;
        }
        if self.sink.is_blind {
            // What happens while nothing is seen is lost, which the answer says, and is no drift.
            report.drift.clear();
            sure = false;
        }
        AuditAnswer::new(self.answer_time(sure).head("audit"), &report, passes)
    }

    /// Leaves the CPU to those who may be in the middle of a change, and drains what they report.
    fn let_others_run(&mut self) {
        let end = Instant::now() + APART;
        while Instant::now() < end {
            std::thread::sleep(LOOK_EVERY);
            self.drain();
        }
    }

    /// Compares once, after everything that happened before was applied. Also returns whether the pass was complete.
    fn compare(&mut self) -> (AuditReport, bool) {
        let before = self.drain_to(self.kernel.producer_position());
        let snapshot = self.snapshot();
        let after = self.drain_to(self.kernel.producer_position());
        self.perform();
        if !snapshot.is_complete() {
            return (AuditReport::default(), false);
        }
        let mut audit = Audit::new(snapshot.began());
        let Self { core, canary, .. } = self;
        snapshot.rows(|input| {
            if let Input::PassRow(row) = input
                && !canary.takes(&input)
            {
                audit.row(core, &row);
            }
        });
        (audit.finish(core), before && after)
    }

    /// Removes from `report` fields that the daemon knows to be stale: those that it was about to read again, and those that no
    /// hook reports on this kernel. They are read by a pass, and only fields that differ afterwards remain.
    fn excuse(&mut self, report: &mut AuditReport) -> bool {
        let pending = self.sink.pass.is_some();
        let blind: Vec<Fact> = self.kernel.blind_spots().iter().map(|spot| spot.fact).collect();
        let excusable = |field: AuditedField| {
            (pending && field != AuditedField::ExecId) || blind.iter().any(|&fact| concerns(fact, field))
        };
        let ok = self.pass();
        let (after, whole) = self.compare();
        let still = after.confirmed(report);
        report.drift.retain(|drift| !excusable(drift.field) || still.drift.contains(drift));
        ok && whole
    }
}

/// Whether a blind spot of `fact` can leave `field` stale.
fn concerns(fact: Fact, field: AuditedField) -> bool {
    use AuditedField::{Cgroup, CgroupId, Comm, Cwd, CwdDeleted, CwdId, MntNs, Pgid, Sid, Tty, Uid};
    match fact {
        Fact::Cwd | Fact::Paths => matches!(field, Cwd | CwdId | CwdDeleted | MntNs),
        Fact::Uids => field == Uid,
        // A new POSIX session is a new process group without a terminal.
        Fact::Sid => matches!(field, Sid | Pgid | Tty),
        Fact::Pgid => field == Pgid,
        Fact::Terminal => field == Tty,
        Fact::Comm => field == Comm,
        Fact::Cgroup => matches!(field, Cgroup | CgroupId),
        // Events and certificates, which no later reading corrects.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blind_spot_excuses_its_own_fields_only() {
        use AuditedField::{
            Cgroup, CgroupId, Comm, Cwd, CwdDeleted, CwdId, MntNs, Pgid, Ppid, Sid, Tty, Uid,
        };
        let all = [Cgroup, CgroupId, Comm, Cwd, CwdDeleted, CwdId, MntNs, Pgid, Ppid, Sid, Tty, Uid];
        for (fact, fields) in [
            (Fact::Paths, &[Cwd, CwdDeleted, CwdId, MntNs][..]),
            (Fact::Uids, &[Uid]),
            (Fact::Terminal, &[Tty]),
            (Fact::Pgid, &[Pgid]),
            (Fact::Cgroup, &[Cgroup, CgroupId]),
            (Fact::Death, &[]),
        ] {
            let excused: Vec<_> = all.into_iter().filter(|&field| concerns(fact, field)).collect();
            assert_eq!(excused, fields, "{fact:?}");
        }
    }
}

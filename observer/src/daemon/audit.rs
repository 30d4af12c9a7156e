//! The comparison of the map with the kernel. Rows are compared and not applied, so that a difference is not healed before it
//! is compared again.

use observer_core::Input;
use observer_core::audit::{Audit, AuditReport};

use super::event_loop::EventLoop;
use crate::api::answer::AuditAnswer;

/// Comparisons in which a difference must have the same value. A change that happens during the first comparison is in the map
/// by the second.
const COMPARISONS: u32 = 3;

impl EventLoop {
    /// Answer to `audit`.
    pub(super) fn audit(&mut self) -> AuditAnswer<'static> {
        let mut passes = 1;
        let (mut report, mut sure) = self.compare();
        while passes < COMPARISONS && !report.is_clean() {
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
        let blind: Vec<&str> = self.kernel.blind_spots().iter().map(|spot| spot.fact).collect();
        let excusable =
            |field: &str| (pending && field != "exec_id") || blind.iter().any(|fact| concerns(fact, field));
        let ok = self.pass();
        let (after, whole) = self.compare();
        let still = after.confirmed(report);
        report.drift.retain(|drift| !excusable(drift.field) || still.drift.contains(drift));
        ok && whole
    }
}

/// Whether a blind spot of `fact` can leave `field` stale.
fn concerns(fact: &str, field: &str) -> bool {
    match fact {
        "cwd" | "paths" => matches!(field, "cwd" | "cwd_id" | "cwd_deleted" | "mnt_ns"),
        "uids" => field == "uid",
        // A new POSIX session is a new process group without a terminal.
        "sid" => matches!(field, "sid" | "pgid" | "tty"),
        "terminal" => field == "tty",
        fact => fact == field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blind_spot_excuses_its_own_fields_only() {
        for (fact, fields) in [
            ("paths", &["cwd", "cwd_id", "cwd_deleted", "mnt_ns"][..]),
            ("uids", &["uid"]),
            ("terminal", &["tty"]),
            ("pgid", &["pgid"]),
        ] {
            for field in
                ["cwd", "cwd_id", "cwd_deleted", "mnt_ns", "uid", "sid", "pgid", "tty", "ppid", "comm"]
            {
                assert_eq!(concerns(fact, field), fields.contains(&field), "{fact} {field}");
            }
        }
    }
}

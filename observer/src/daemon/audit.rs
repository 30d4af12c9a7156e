//! The live map against the kernel. Rows are compared and not merged, so that a difference is not healed before it
//! is looked at again.

use observer_core::Input;
use observer_core::audit::{Audit, AuditReport};

use super::Daemon;
use crate::api::answer::AuditAnswer;

/// Comparisons that a difference must stand in at the same value: what is under way when the first row is read is
/// in the map by the second.
const COMPARISONS: u32 = 3;

impl Daemon {
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
        if !report.is_clean() && (self.edge.pass.is_some() || !self.kernel.blind_spots().is_empty()) {
            sure &= self.excuse(&mut report);
            passes += 2;
        }
        AuditAnswer::new(self.moment(sure).head("audit"), &report, passes)
    }

    /// One comparison, everything that happened before it heard before. Whether the pass was whole.
    fn compare(&mut self) -> (AuditReport, bool) {
        let before = self.drain_to(self.kernel.producer_position());
        let snapshot = self.snapshot();
        let after = self.drain_to(self.kernel.producer_position());
        self.perform();
        if !snapshot.is_complete() {
            return (AuditReport::default(), false);
        }
        let mut audit = Audit::new(snapshot.began());
        let core = &self.core;
        snapshot.rows(|input| {
            if let Input::PassRow(row) = input {
                audit.row(core, &row);
            }
        });
        (audit.finish(core), before && after)
    }

    /// Takes out of `report` what the daemon knows to be stale: fields that it was about to read again, and those
    /// that no hook tells on this kernel. They are read, and only what then still differs stays.
    fn excuse(&mut self, report: &mut AuditReport) -> bool {
        let pending = self.edge.pass.is_some();
        let blind: Vec<&str> = self.kernel.blind_spots().iter().map(|spot| spot.fact).collect();
        let excusable =
            |field: &str| (pending && field != "exec_id") || blind.iter().any(|fact| tells(fact, field));
        let ok = self.pass();
        let (after, whole) = self.compare();
        let still = after.confirmed(report);
        report.drift.retain(|drift| !excusable(drift.field) || still.drift.contains(drift));
        ok && whole
    }
}

/// Whether a blind spot of `fact` leaves `field` stale.
fn tells(fact: &str, field: &str) -> bool {
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
    fn blind_spots_excuse_their_own_fields_only() {
        for (fact, fields) in [
            ("paths", &["cwd", "cwd_id", "cwd_deleted", "mnt_ns"][..]),
            ("uids", &["uid"]),
            ("terminal", &["tty"]),
            ("pgid", &["pgid"]),
        ] {
            for field in
                ["cwd", "cwd_id", "cwd_deleted", "mnt_ns", "uid", "sid", "pgid", "tty", "ppid", "comm"]
            {
                assert_eq!(tells(fact, field), fields.contains(&field), "{fact} {field}");
            }
        }
    }
}

//! What is not known of births in sessions before this daemon began, so that an empty list of leftovers is not taken for
//! certain.

use observer_core::BootTime;
use serde::{Deserialize, Serialize};

use crate::text::bytes::Big;

/// What the daemons of this boot lost of births, as one leaves it to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LostBirths {
    /// The boot that it is about.
    pub boot_id: String,
    /// Of what was born before this it may be unknown that it was born in a session, boot time in ns. Null: nothing is lost.
    pub unknown_until_boottime_ns: Option<Big>,
    /// Daemons that ended without leaving what they knew of births.
    pub unrecorded: u64,
    /// Processes of which it was left out where they were born, for lack of room.
    pub left_out: u64,
}

/// What this daemon knows of that.
#[derive(Debug, Default)]
pub struct BirthHistory {
    lost: LostBirths,
    /// What the daemon before left was read.
    is_read: bool,
}

impl BirthHistory {
    /// The history of a daemon that began at `at` and has not read its journal yet.
    pub fn unread(at: BootTime) -> Self {
        let unknown_until_boottime_ns = Some(Big(at.0));
        Self { lost: LostBirths { unknown_until_boottime_ns, ..LostBirths::default() }, is_read: false }
    }

    /// Takes note of `lost`, which the journal has about the daemons before this one. Only the first reading counts: what the
    /// journal has later, this daemon has written. This daemon itself has forgotten `forgotten` births until now (`at`).
    pub fn read(&mut self, lost: &LostBirths, at: BootTime, forgotten: u64) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        self.lost = lost.clone();
        self.leave_out(at, forgotten);
    }

    /// Takes note that it is not known in which sessions so many `processes` were born, all of them before `at`.
    fn leave_out(&mut self, at: BootTime, processes: u64) {
        if processes > 0 {
            self.lost.left_out = self.lost.left_out.saturating_add(processes);
            self.lost.unknown_until_boottime_ns = Some(Big(at.0));
        }
    }

    /// What this daemon leaves in the journal for the next one when it ends at `at`, and can leave nothing of `left_out` more
    /// processes.
    pub fn lost_for_next(&self, at: BootTime, boot_id: &str, left_out: u64) -> LostBirths {
        let mut next = Self { lost: self.lost.clone(), is_read: true };
        next.leave_out(at, left_out);
        LostBirths { boot_id: boot_id.to_owned(), ..next.lost }
    }

    /// The time before which a process may have been born in a session without that being known; `None`: there is none.
    pub fn unknown_until(&self) -> Option<BootTime> {
        self.lost.unknown_until_boottime_ns.map(|until| BootTime(until.0))
    }

    /// Daemons of this boot that ended without leaving what they knew of births.
    pub fn unrecorded(&self) -> u64 {
        self.lost.unrecorded
    }

    /// Processes of which a daemon left out where they were born.
    pub fn left_out(&self) -> u64 {
        self.lost.left_out
    }
}

impl LostBirths {
    /// The same, after the daemon before has ended without leaving what it knew: this is read at `at`.
    pub fn after_unrecorded_end(self, at: BootTime, boot_id: &str) -> Self {
        let unknown_until_boottime_ns = Some(Big(at.0));
        Self {
            boot_id: boot_id.to_owned(),
            unknown_until_boottime_ns,
            unrecorded: self.unrecorded.saturating_add(1),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_stays_lost_for_every_later_daemon_of_the_boot() {
        let next = |history: &BirthHistory, left_out| history.lost_for_next(BootTime(90), "boot", left_out);
        let mut first = BirthHistory::unread(BootTime(5));
        assert_eq!(first.unknown_until(), Some(BootTime(5)), "until it is read");
        first.read(&LostBirths::default(), BootTime(10), 0);
        assert_eq!((first.unknown_until(), first.unrecorded(), first.left_out()), (None, 0, 0));
        // A new file of the same daemon has nothing of it, and makes nothing unknown.
        let nothing = LostBirths::default().after_unrecorded_end(BootTime(11), "boot");
        first.read(&nothing, BootTime(11), 0);
        assert_eq!(first.unknown_until(), None);

        let mut second = BirthHistory::default();
        second.read(&next(&first, 7), BootTime(100), 0);
        assert_eq!((second.unknown_until(), second.left_out()), (Some(BootTime(90)), 7));
        let mut third = BirthHistory::default();
        let killed = next(&second, 0).after_unrecorded_end(BootTime(200), "boot");
        third.read(&killed, BootTime(200), 2);
        assert_eq!(
            (third.unknown_until(), third.unrecorded(), third.left_out()),
            (Some(BootTime(200)), 1, 9)
        );
        let mut fourth = BirthHistory::default();
        fourth.read(&next(&third, 0), BootTime(300), 0);
        assert_eq!((fourth.unknown_until(), fourth.unrecorded()), (Some(BootTime(200)), 1));
    }
}

//! What each fault does to a schedule when it begins, and how it is mended.

use uuid::Uuid;

use super::super::daemon::Daemon;
use super::super::database::{Data, HOMES};
use super::super::fault::Fault;
use super::{Event, FAULTS_MS, Schedule};
use crate::mirror::delivery::DeliveryAnswer;

impl Schedule {
    pub(super) fn begin_fault(&mut self, fault: Fault) {
        match fault {
            Fault::CutAtBatch { point, is_noticed } => self.cut = Some((point, is_noticed)),
            Fault::Cut { is_noticed } => {
                if let Some(pid) = self.daemons[0].connection {
                    self.cut_connection(0, pid, is_noticed);
                }
            }
            Fault::ServerDown => {
                self.is_server_down = true;
                self.end_all_backends();
            }
            Fault::Slow { statement_ms } => self.statement_ms = statement_ms,
            Fault::DiskFull => self.database.disorder.is_disk_full = true,
            Fault::PartitionMissing => self.database.disorder.lacks_partition = true,
            Fault::EntriesRefused => self.database.disorder.refused_entries = Some(self.random.between(1, 3)),
            Fault::RowsRefused => self.database.disorder.refused_home = Some(0),
            Fault::HintsRefused => self.database.disorder.refuses_hints = true,
            Fault::LoginRefused => {
                self.is_login_refused = true;
                self.end_all_backends();
            }
            Fault::JournalUnreadable => self.daemons[0].journal.is_unreadable = true,
            Fault::JournalStuck => self.daemons[0].journal.is_stuck = true,
            Fault::LoopHung => self.daemons[0].is_hung = true,
            Fault::DaemonRestarted { leaves_ghost } => self.restart_daemon(leaves_ghost),
            Fault::JournalRestored => self.restore_journal(),
            Fault::JournalLost => {
                let stream_id = self.new_stream();
                self.changes += 1;
                self.daemons[0].begin_stream(stream_id, self.changes);
                self.committed(0);
            }
            Fault::JournalExpired => {
                let journal = &mut self.daemons[0].journal;
                journal.expired = journal.expired.max(self.random.below(journal.committed + 1));
            }
            Fault::ChangeDropped => {
                self.changes += 1;
                self.daemons[0].map[1] = Some(self.changes);
                self.daemons[0].dropped += 1;
            }
            Fault::DatabaseRestored => self.database.copy = Some(self.database.data.clone()),
            Fault::HostForgotten => self.database.replace_data(Data::default()),
            Fault::SecondDaemon { same_instance } => {
                if self.daemons.len() == 1 {
                    let instance_id =
                        if same_instance { self.daemons[0].instance_id } else { Uuid::from_u128(8) };
                    let second = self.add_daemon(instance_id);
                    for _ in 0..4 {
                        let wait_ms = self.random.below(FAULTS_MS);
                        self.after(wait_ms, Event::Change(second));
                    }
                }
            }
        }
    }

    pub(super) fn end_fault(&mut self, fault: Fault) {
        match fault {
            Fault::CutAtBatch { .. } => self.cut = None,
            Fault::ServerDown => self.is_server_down = false,
            Fault::Slow { .. } => self.statement_ms = 0,
            Fault::DiskFull => self.database.disorder.is_disk_full = false,
            Fault::PartitionMissing => self.database.disorder.lacks_partition = false,
            Fault::EntriesRefused => self.database.disorder.refused_entries = None,
            Fault::RowsRefused => self.database.disorder.refused_home = None,
            Fault::HintsRefused => self.database.disorder.refuses_hints = false,
            Fault::LoginRefused => self.is_login_refused = false,
            Fault::JournalUnreadable => self.daemons[0].journal.is_unreadable = false,
            Fault::JournalStuck => {
                self.daemons[0].journal.is_stuck = false;
                self.daemons[0].commit();
                self.committed(0);
            }
            Fault::LoopHung => {
                self.daemons[0].is_hung = false;
                if let Some(id) = self.daemons[0].map_waits.take() {
                    let map = self.daemons[0].live_map();
                    self.after(1, Event::Answer(0, id, Ok(DeliveryAnswer::LiveMap(map))));
                }
            }
            Fault::DatabaseRestored => {
                self.end_all_backends();
                if let Some(copy) = self.database.copy.take() {
                    self.database.replace_data(copy);
                }
            }
            // A delivery that has nothing to write does not find out.
            Fault::HostForgotten => self.change(0),
            Fault::Cut { .. }
            | Fault::DaemonRestarted { .. }
            | Fault::JournalRestored
            | Fault::JournalLost
            | Fault::JournalExpired
            | Fault::ChangeDropped
            | Fault::SecondDaemon { .. } => {}
        }
    }

    fn end_all_backends(&mut self) {
        for pid in 1..=i32::try_from(self.database.backends.len()).unwrap() {
            if self.database.backend(pid).is_alive {
                self.database.end_backend(pid);
                let daemon = self.database.backend(pid).daemon;
                self.after(1, Event::Lost(daemon, pid));
            }
        }
    }

    /// The first daemon is killed, and started again on its journal.
    fn restart_daemon(&mut self, leaves_ghost: bool) {
        if let Some(pid) = self.daemons[0].connection {
            match leaves_ghost {
                true => self.database.backend(pid).is_cut_off = true,
                false => self.database.end_backend(pid),
            }
        }
        let daemon = &mut self.daemons[0];
        let is_hung = daemon.is_hung;
        *daemon = Daemon::new(daemon.journal.clone(), daemon.map, daemon.instance_id, self.base, self.now_ms);
        daemon.is_hung = is_hung;
        self.processes += 1;
        daemon.process = self.processes;
        self.wakes[0] = None;
        self.act(0, None);
    }

    /// The journal is an older copy, to which other changes may have been added.
    fn restore_journal(&mut self) {
        let kept = self.random.below(self.daemons[0].journal.last_seq() + 1);
        let added = self.random.below(6);
        let journal = &mut self.daemons[0].journal;
        journal.changes.truncate(usize::try_from(kept).unwrap());
        journal.committed = kept;
        journal.expired = journal.expired.min(kept);
        for _ in 0..added {
            self.changes += 1;
            let home = usize::try_from(self.random.below(HOMES as u64)).unwrap();
            self.daemons[0].change(self.changes, home);
        }
        self.restart_daemon(false);
    }
}

//! Keeps the panes of processes: each is determined when a field changes on which it depends, and those of
//! sessions also when another process changes or ends that decides about them.

use crate::core::Core;
use crate::model::change::Sink;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::process::{Pane, Process};
use crate::processes::fields::Diff;
use crate::processes::pane::{pane, terminal_leader};

impl Core {
    /// Returns the pane in which a process runs. Where the process is no primary, [`Process::pane`] may be
    /// that of its start, its last exec, or the last change of its terminal.
    pub fn pane(&self, process: &Process) -> Pane {
        self.table.get(process.key).map_or_else(|| process.pane.clone(), |entry| pane(&self.table, entry))
    }

    /// Returns whether the terminal of a live process was taken by a session leader in the host's own mount
    /// namespace. Otherwise it may be of another devpts instance, with the number of a terminal of the host.
    pub fn has_host_terminal(&self, process: &Process) -> bool {
        let leader = self.table.get(process.key).and_then(|entry| terminal_leader(&self.table, entry));
        leader.is_some_and(|leader| leader.process.cwd.mnt_ns == self.settings.host_mnt_ns)
    }

    /// Determines the pane of a process again. Returns whether it is another one.
    pub(super) fn locate(&mut self, key: ProcessKey) -> Diff {
        if self.sessions.panes.follows(key) {
            self.sessions.panes.follow(&self.table, key);
        }
        let Some(entry) = self.table.get(key) else { return Diff::default() };
        let found = pane(&self.table, entry);
        let differs = entry.process.pane != found;
        if differs && let Some(entry) = self.table.get_mut(key) {
            entry.process.pane = found;
        }
        Diff::PANE.when(differs)
    }

    /// `key` changed or ended: determines the panes of sessions about which it decides.
    pub(super) fn locate_decided(&mut self, at: BootTime, key: ProcessKey, sink: &mut dyn Sink) {
        for followed in self.sessions.panes.decided_by(key) {
            let diff = self.locate(followed);
            self.report_fields(at, followed, diff, sink);
        }
    }

    /// Determines the panes of all sessions, after a pass.
    pub(super) fn locate_followed(&mut self, at: BootTime, sink: &mut dyn Sink) {
        for followed in self.sessions.panes.followed() {
            let diff = self.locate(followed);
            self.report_fields(at, followed, diff, sink);
        }
    }
}

//! Ends: of threads, of processes, by signals; what becomes of children and terminals.

use observer_common::origin::{OOM_SCOPE_HOST, SIGNAL_BY_CALLER, SIGNAL_BY_KERNEL};
use observer_common::record::{
    EXIT_SESSION_LEADER, KIND_EXIT, KIND_OOM, KIND_RELEASE, KIND_SIGNAL, SIGNAL_HANDLED, hint,
};
use observer_core::ProcessKey;

use super::process::Stage;
use super::ring::Priority;
use super::{Killer, Linux, TrueDeath};
use crate::bytes::Bytes;

const SIGHUP: u32 = 1;
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

impl Linux {
    pub(super) fn end_thread(&mut self, [by, thread, ..]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let Some(group) = self.groups.get_mut(&tgid) else { return };
        if group.threads.len() <= 1 {
            return self.end(tgid, 0, Killer::None);
        }
        let Some((tid, _)) = group.pick(thread) else { return };
        group.threads.remove(&tid);
        self.release_fs();
    }

    pub(super) fn exit(&mut self, [by, status, ..]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.end(tgid, (status & 3) << 8, Killer::None);
    }

    /// Every thread ends, and the last one sends the record.
    fn end(&mut self, tgid: u32, status: u32, killer: Killer) {
        self.ring.runs(tgid);
        let at = self.tick();
        let Some(group) = self.groups.get(&tgid) else { return };
        let flags = if group.sid == tgid { EXIT_SESSION_LEADER } else { 0 };
        let tty_dev = group.tty.map_or(0, |tty| super::facts::tty(tty).dev);
        let (key, sid) = (group.key, group.sid);
        let last = group.threads.keys().next_back().copied().unwrap_or(tgid);
        let record = Bytes::header(KIND_EXIT, at, key, last).u32(status).u32(flags).u32(tty_dev).u32(sid);
        self.deaths.insert(key, TrueDeath { at, until: u64::MAX, status, killer });
        self.send(KIND_EXIT, Priority::Vital, at, tgid, record.u64(0).u64(0).u64(0).done());
        if let Some(group) = self.groups.get_mut(&tgid) {
            group.stage = Stage::Exiting(status);
            group.threads.retain(|&tid, _| tid == tgid);
        }
        self.release_fs();
    }

    /// The second part of the end: children get another parent, and a POSIX session loses its leader and its terminal.
    pub(crate) fn become_zombie(&mut self, by: u32) {
        let exiting: Vec<u32> = self
            .groups
            .values()
            .filter(|group| matches!(group.stage, Stage::Exiting(_)))
            .map(|group| group.key.tgid.0)
            .collect();
        let Some(&tgid) = exiting.get(by as usize % exiting.len().max(1)) else { return };
        self.ring.runs(tgid);
        let Some(group) = self.groups.get_mut(&tgid) else { return };
        let Stage::Exiting(status) = group.stage else { return };
        group.stage = Stage::Zombie(status);
        group.threads.clear();
        let key = group.key;
        let (sid, tty, parent) = (group.sid, group.tty, group.parent);
        if sid == tgid && tty.is_some() {
            // The foreground process group gets SIGHUP before (`disassociate_ctty`, drivers/tty/tty_jobctrl.c).
            let at = self.tick();
            self.ring.raise(hint::IDS, at);
            self.lose_terminal(sid);
        }
        self.now += 1;
        if let Some(death) = self.deaths.get_mut(&key) {
            death.until = self.now;
        }
        let reaper = self.reaper(parent);
        for child in self.groups.values_mut().filter(|child| child.parent == tgid) {
            child.parent = reaper;
        }
        self.release_fs();
    }

    /// The nearest ancestor that takes orphans.
    fn reaper(&self, mut above: u32) -> u32 {
        while let Some(group) = self.groups.get(&above) {
            if group.is_subreaper && group.stage == Stage::Runs {
                return above;
            }
            above = group.parent;
        }
        1
    }

    pub(super) fn lose_terminal(&mut self, sid: u32) {
        self.groups.values_mut().filter(|group| group.sid == sid).for_each(|group| group.tty = None);
    }

    pub(super) fn reap(&mut self, by: u32) {
        let zombies: Vec<u32> = self
            .groups
            .values()
            .filter(|group| matches!(group.stage, Stage::Zombie(_)))
            .map(|group| group.key.tgid.0)
            .collect();
        let Some(&tgid) = zombies.get(by as usize % zombies.len().max(1)) else { return };
        self.ring.runs(tgid);
        if let Some(group) = self.groups.remove(&tgid) {
            let at = self.tick();
            let record = Bytes::header(KIND_RELEASE, at, group.key, tgid).u64(0).done();
            self.send(KIND_RELEASE, Priority::Refinement, at, tgid, record);
        }
    }

    /// Sends the record of a signal, which the target handles or not. What it ends does so only afterwards.
    fn report_signal(&mut self, sender: u32, target: u32, (signal, is_handled): (u32, bool), origin: u32) {
        let at = self.tick();
        let (Some(from), Some(to)) = (self.groups.get(&sender), self.groups.get(&target)) else { return };
        let tid = to.threads.keys().next().copied().unwrap_or(target);
        let record = Bytes::header(KIND_SIGNAL, at, to.key, tid).u64(from.key.start_boottime.0);
        let record = record.u32(sender).u32(from.leader.uid).u32(signal).u32(0).u32(origin);
        let record = record.u32(memory_of(to.key)).name(super::facts::comm(from.leader.comm)).u32(0);
        let record = record.u32(if is_handled { SIGNAL_HANDLED } else { 0 });
        let priority = if signal == SIGKILL { Priority::Vital } else { Priority::Signal };
        self.ring.send(KIND_SIGNAL, priority, at, [sender, target], record.done());
    }

    pub(super) fn kill(&mut self, [by, of, ..]: [u32; 4]) {
        self.signal(by, of, SIGKILL, true);
    }

    pub(super) fn terminate(&mut self, [by, of, ends, _]: [u32; 4]) {
        self.signal(by, of, SIGTERM, ends & 1 == 0);
    }

    fn signal(&mut self, by: u32, of: u32, signal: u32, ends: bool) {
        let (Some(sender), Some(target)) = (self.pick(by), self.pick_mortal(of)) else { return };
        self.ring.runs(sender);
        self.ring.runs(target);
        let Some(uid) = self.groups.get(&sender).map(|sender| sender.leader.uid) else { return };
        let Some(key) = self.groups.get(&sender).map(|sender| sender.key) else { return };
        self.report_signal(sender, target, (signal, !ends), SIGNAL_BY_CALLER);
        if ends {
            self.end(target, signal, Killer::Process(key, uid));
        }
    }

    /// A process asks for memory, and the kernel kills another one. The mark of the victim comes before or after its end.
    pub(super) fn kill_for_memory(&mut self, [by, of, order, _]: [u32; 4]) {
        let (Some(caller), Some(victim)) = (self.pick(by), self.pick_mortal(of)) else { return };
        if caller == victim {
            return;
        }
        self.ring.runs(caller);
        self.ring.runs(victim);
        let Some(group) = self.groups.get(&victim) else { return };
        let thread = group.threads.keys().next().copied().unwrap_or(victim);
        self.report_signal(caller, victim, (SIGKILL, false), SIGNAL_BY_KERNEL);
        if order & 1 == 0 {
            self.end(victim, SIGKILL, Killer::Memory);
        }
        let at = self.tick();
        if let Some(caller) = self.groups.get(&caller) {
            let record = Bytes::header(KIND_OOM, at, caller.key, caller.key.tgid.0).u32(thread);
            let record = record.u32(OOM_SCOPE_HOST).u32(0).u32(0).done();
            let waiting = [caller.key.tgid.0, 0];
            self.ring.send(KIND_OOM, Priority::Vital, at, waiting, record);
        }
        if order & 1 == 1 {
            self.end(victim, SIGKILL, Killer::Memory);
        }
    }

    /// The kernel hangs up a terminal: its POSIX session loses it, and its leader gets SIGHUP, which it handles.
    pub(super) fn hang_up(&mut self, tty: u32) {
        let leader = |group: &&super::Group| group.tty == Some(tty) && group.sid == group.key.tgid.0;
        let Some(sid) = self.running().find(leader).map(|group| group.sid) else { return };
        self.ring.runs(sid);
        let at = self.tick();
        self.ring.raise(hint::IDS, at);
        self.report_signal(sid, sid, (SIGHUP, true), SIGNAL_BY_KERNEL);
        self.lose_terminal(sid);
    }
}

/// A part of the address of the memory of a process.
fn memory_of(key: ProcessKey) -> u32 {
    (key.start_boottime.0 as u32) | 1
}

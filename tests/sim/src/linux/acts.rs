//! What processes do beside births and deaths.

use observer_common::record::{KIND_CGROUP, KIND_COMM, KIND_CREDS, KIND_IDS, hint};

use super::births::Fork;
use super::ring::{Fate, Priority};
use super::{CGROUPS, Linux, NAMES, TTYS, UIDS, cgroup_path, facts};
use crate::bytes::Bytes;
use crate::op::{Op, Verb};

impl Linux {
    /// Does what an operation says, if it is one of the kernel's.
    pub fn act(&mut self, op: Op) {
        let by = op.by;
        let [first, second, third, _] = by;
        match op.verb {
            Verb::Fork => self.fork(by, Fork::Plain),
            Verb::ForkSharesFs => self.fork(by, Fork::SharesFs),
            Verb::ForkForParent => self.fork(by, Fork::ForParent),
            Verb::StartHelper => self.start_helper(),
            Verb::StartThread => self.start_thread(by),
            Verb::EndThread => self.end_thread(by),
            Verb::Exec => self.exec(by),
            Verb::Exit => self.exit(by),
            Verb::BecomeZombie => self.become_zombie(first),
            Verb::Reap => self.reap(first),
            Verb::Kill => self.kill(by),
            Verb::Terminate => self.terminate(by),
            Verb::KillForMemory => self.kill_for_memory(by),
            Verb::Chdir => self.chdir(by),
            Verb::UnshareFs => self.unshare_fs(by),
            Verb::UnshareMounts => self.unshare_mounts(first),
            Verb::Setsid => self.setsid(first),
            Verb::Setpgid => self.setpgid(by),
            Verb::TakeTerminal => self.take_terminal(by),
            Verb::GiveTerminalUp => self.give_terminal_up(first),
            Verb::HangUp => self.hang_up(first % TTYS),
            Verb::SetName => self.set_name(by),
            Verb::Setuid => self.setuid(by),
            Verb::MoveToCgroup => self.move_to_cgroup(by),
            Verb::BecomeSubreaper => {
                let tgid = self.pick_mortal(first);
                if let Some(group) = tgid.and_then(|tgid| self.groups.get_mut(&tgid)) {
                    group.is_subreaper = true;
                }
            }
            Verb::Rename => {
                let (dir, parent) = (self.files.pick(first), self.files.pick(second));
                let moved = self.files.rename(dir, parent, third);
                self.paths_changed(moved);
            }
            Verb::Exchange => {
                let moved = self.files.exchange(self.files.pick(first), self.files.pick(second));
                self.paths_changed(moved);
            }
            Verb::Remove => {
                let removed = self.files.remove(self.files.pick(first));
                self.paths_changed(removed);
            }
            Verb::Make => self.files.make(self.files.pick(first), second),
            Verb::SkipNext => self.ring.fate = Fate::Skipped,
            Verb::RefuseNext => self.ring.fate = Fate::OverBudget,
            Verb::DelayNext => self.ring.fate = Fate::Delayed,
            Verb::SwapNext => self.ring.fate = Fate::Overtakes,
            Verb::RunDelayed => self.ring.reserve_all(),
            _ => {}
        }
    }

    fn paths_changed(&mut self, is_changed: bool) {
        if is_changed {
            let at = self.tick();
            self.ring.raise(hint::PATHS, at);
            self.release_fs();
        }
    }

    fn chdir(&mut self, [by, thread, to, _]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let to = self.files.pick(to);
        let Some(group) = self.groups.get(&tgid) else { return };
        let Some((tid, thread)) = group.pick(thread) else { return };
        let is_leaders = group.leader_fs() == Some(thread.fs);
        self.files.set_pwd(thread.fs, to);
        // A thread that unshared its fs moves alone, and so does one whose leader is gone.
        if is_leaders {
            self.report_cwd(tgid, tid, Priority::Throttled);
        }
        self.release_fs();
    }

    fn unshare_fs(&mut self, [by, thread, ..]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let Some(group) = self.groups.get(&tgid) else { return };
        let Some((tid, thread)) = group.pick(thread) else { return };
        let fs = self.files.copy(thread.fs);
        self.set_thread(tgid, tid, |thread| thread.fs = fs);
        self.release_fs();
    }

    /// `ksys_unshare` raises the hint for paths.
    fn unshare_mounts(&mut self, by: u32) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let Some(group) = self.groups.get(&tgid) else { return };
        // The model has a namespace for each process, not for each thread.
        if group.threads.len() != 1 || group.is_leader_gone() {
            return;
        }
        let fs = group.leader.fs;
        let fs = self.files.copy(fs);
        self.last_mnt_ns += 1;
        let mnt_ns = self.last_mnt_ns;
        self.set_thread(tgid, tgid, |thread| thread.fs = fs);
        if let Some(group) = self.groups.get_mut(&tgid) {
            group.mnt_ns = mnt_ns;
        }
        self.paths_changed(true);
    }

    /// Changes a thread, and what is read of it if it leads.
    fn set_thread(&mut self, tgid: u32, tid: u32, change: impl Fn(&mut super::Thread)) {
        let Some(group) = self.groups.get_mut(&tgid) else { return };
        if let Some(thread) = group.threads.get_mut(&tid) {
            change(thread);
            if tid == tgid {
                group.leader = *thread;
            }
        }
    }

    fn report_ids(&mut self, tgid: u32, waiting: [u32; 2]) {
        let at = self.tick();
        let Some(group) = self.groups.get(&tgid) else { return };
        let tty = group.tty.map(facts::tty);
        let record = Bytes::header(KIND_IDS, at, group.key, tgid).u32(group.sid).u32(group.pgid);
        let record = record.u32(tty.map_or(0, |tty| tty.dev)).u32(0).tty_name(tty).done();
        self.ring.send(KIND_IDS, Priority::Throttled, at, waiting, record);
    }

    fn setsid(&mut self, by: u32) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        // A process group of its number exists already.
        if self.groups.values().any(|group| group.pgid == tgid) {
            return;
        }
        let Some(group) = self.groups.get_mut(&tgid) else { return };
        (group.sid, group.pgid, group.tty) = (tgid, tgid, None);
        self.report_ids(tgid, [tgid, 0]);
    }

    fn setpgid(&mut self, [by, child, to, _]: [u32; 4]) {
        let Some(tgid) = self.pick(by) else { return };
        let children: Vec<u32> =
            self.running().filter(|group| group.parent == tgid).map(|group| group.key.tgid.0).collect();
        let target = children.get(child as usize % (children.len() + 1)).copied().unwrap_or(tgid);
        self.ring.runs(tgid);
        self.ring.runs(target);
        let sid = |tgid: u32| self.groups.get(&tgid).map(|group| group.sid);
        if target == 1 || sid(target) != sid(tgid) || sid(target) == Some(target) {
            return;
        }
        let groups: Vec<u32> = self
            .groups
            .values()
            .filter(|group| Some(group.sid) == sid(target))
            .map(|group| group.pgid)
            .chain([target])
            .collect();
        let pgid = groups.get(to as usize % groups.len()).copied().unwrap_or(target);
        if let Some(group) = self.groups.get_mut(&target) {
            group.pgid = pgid;
            self.report_ids(target, [tgid, target]);
        }
    }

    /// root takes the terminal from another POSIX session.
    fn take_terminal(&mut self, [by, tty, ..]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let tty = tty % TTYS;
        let Some(group) = self.groups.get(&tgid) else { return };
        if group.sid != tgid || group.tty.is_some() {
            return;
        }
        let former = self.groups.values().find(|group| group.tty == Some(tty)).map(|group| group.sid);
        if former.is_some() && group.leader.uid != 0 {
            return;
        }
        if let Some(former) = former {
            self.lose_terminal(former);
        }
        if let Some(group) = self.groups.get_mut(&tgid) {
            group.tty = Some(tty);
        }
        self.report_ids(tgid, [tgid, 0]);
        let at = self.tick();
        self.ring.raise(hint::IDS, at);
    }

    /// The leader gives it up for its POSIX session, another process for itself.
    fn give_terminal_up(&mut self, by: u32) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let Some(group) = self.groups.get_mut(&tgid).filter(|group| group.tty.is_some()) else { return };
        group.tty = None;
        let sid = group.sid;
        if sid == tgid {
            self.lose_terminal(sid);
        }
        self.report_ids(tgid, [tgid, 0]);
        let at = self.tick();
        self.ring.raise(hint::IDS, at);
    }

    /// The record has the new name and is made before it is set.
    fn set_name(&mut self, [by, thread, name, _]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let name = 1 + name as usize % (NAMES.len() - 1);
        let Some(group) = self.groups.get(&tgid) else { return };
        let Some((tid, _)) = group.pick(thread) else { return };
        let key = group.key;
        if tid == tgid {
            let at = self.tick();
            let record = Bytes::header(KIND_COMM, at, key, tid).name(facts::comm(name)).done();
            self.send(KIND_COMM, Priority::Throttled, at, tgid, record);
        }
        self.set_thread(tgid, tid, |thread| thread.comm = name);
    }

    fn setuid(&mut self, [by, thread, uid, _]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let uid = UIDS.get(uid as usize % UIDS.len()).copied().unwrap_or_default();
        let Some((tid, _)) = self.groups.get(&tgid).and_then(|group| group.pick(thread)) else { return };
        self.set_thread(tgid, tid, |thread| thread.uid = uid);
        let at = self.tick();
        let Some(group) = self.groups.get(&tgid).filter(|_| tid == tgid) else { return };
        let record = Bytes::header(KIND_CREDS, at, group.key, tid).u32(uid).u32(uid).u32(uid).u32(0).done();
        self.send(KIND_CREDS, Priority::Throttled, at, tgid, record);
    }

    fn move_to_cgroup(&mut self, [by, to, ..]: [u32; 4]) {
        let Some(tgid) = self.pick_mortal(by) else { return };
        self.ring.runs(tgid);
        let cgroup = to % CGROUPS;
        let Some(group) = self.groups.get_mut(&tgid).filter(|group| !group.is_leader_gone()) else { return };
        group.cgroup = cgroup;
        let key = group.key;
        let at = self.tick();
        let path = cgroup_path(cgroup);
        let record = Bytes::header(KIND_CGROUP, at, key, tgid).u64(100 + u64::from(cgroup));
        let record = record.len_of(path.as_bytes()).u32(0).raw(path.as_bytes()).done();
        self.send(KIND_CGROUP, Priority::Throttled, at, tgid, record);
    }
}

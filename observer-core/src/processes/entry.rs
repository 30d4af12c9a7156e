//! One live process in the map: its fields, and what it takes to keep them right.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::input::ProcessFacts;
use crate::limits::PROCESS_BYTES_MAX;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::left::FormerSession;
use crate::model::process::{Argv, Bytes, DirId, Env, Pane, Process, WorkingDirectory};
use crate::model::session::Home;
use crate::processes::ended::EndedDescendants;
use crate::processes::fields::Diff;
use crate::processes::recent::RecentBytes;
use crate::processes::signals::ReceivedSignals;

/// When each group of fields was last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub exec: BootTime,
    pub cwd: BootTime,
    pub comm: BootTime,
    pub uids: BootTime,
    pub ids: BootTime,
    pub parent: BootTime,
    pub cgroup: BootTime,
}

/// A rule admitted the process to a home.
#[derive(Clone, Debug)]
pub(crate) struct Candidacy {
    pub home: Arc<Home>,
    /// Index of the rule.
    pub rule: usize,
    /// Its comm is one of the rule's wrappers.
    pub is_wrapper: bool,
    /// Its directory when it was last known to be in the home.
    pub dir: DirId,
    /// When it came into that directory.
    pub since: BootTime,
    /// It stood above or beside the primary of a known session. Whether the rule admits it is not known while its arguments are not.
    pub is_assumed: bool,
}

/// What is known of a process that a rule admits if its user owns the home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Who owns the home is not known yet.
    Waiting,
    /// Another user owns the home, or it could not be read who does.
    Refused,
}

/// A process outlived the candidate that started it.
#[derive(Clone, Debug)]
pub(crate) struct LeftBehind {
    /// The home of that candidate.
    pub home: Arc<Home>,
    /// When that candidate died.
    pub at: BootTime,
}

/// What only an exec record holds of an image, and a child inherits.
#[derive(Debug)]
pub(crate) struct InheritedImage {
    filename: Option<Bytes>,
    argv: Option<Argv>,
    env: Option<Env>,
}

/// A process in the map.
#[derive(Debug)]
pub(crate) struct ProcessEntry {
    pub process: Process,
    pub stamps: Stamps,
    /// The latest moment at which it was known to live.
    pub last_seen: BootTime,
    /// Number of the last pass that showed it; 0 before the first.
    pub last_pass: u32,
    /// The last complete pass did not show it.
    pub absent: bool,
    /// `exec_id` of the image whose memory was requested.
    pub memory_requested: Option<u32>,
    /// `lineage` comes from a birth record: it is the creator, or the creator's nearest live ancestor.
    pub lineage_by_birth: bool,
    /// Passes in a row that gave a torn path.
    pub torn: u8,
    /// Its candidacy, if it is a candidate.
    pub candidacy: Option<Candidacy>,
    /// A rule would admit it if its user owned the home.
    pub claim: Option<Claim>,
    /// It holds a session, as the primary or the wrapper.
    pub holds_session: bool,
    /// It moved into another home, in which it settles.
    pub settles: bool,
    /// A candidate that was its nearest live ancestor died: it goes on without it.
    pub left_behind: Option<LeftBehind>,
    /// The session in which it was born, which is over. `None`: that of its nearest live ancestor by birth, if that has one.
    pub left_of: Option<Arc<FormerSession>>,
    /// Signals that may end it; `None` until there is one.
    pub signals: Option<Box<ReceivedSignals>>,
    /// Its descendants that ended.
    pub ended: EndedDescendants,
    /// The most pages of memory that it had when it was last read; 0 before that.
    pub max_rss_pages: u64,
    /// The pages of memory that it had when a pass last read it; 0 before that.
    pub rss_pages: u64,
}

const _: () = assert!(size_of::<ProcessEntry>() <= PROCESS_BYTES_MAX);
const _: () = assert!(size_of::<Process>() <= PROCESS_BYTES_MAX);

impl ProcessEntry {
    /// Returns whether a rule admits it as a wrapper.
    pub fn is_wrapper(&self) -> bool {
        self.candidacy.as_ref().is_some_and(|candidacy| candidacy.is_wrapper)
    }

    /// Returns whether it is a candidate of which it is not known whether the rule admits it.
    pub fn is_assumed(&self) -> bool {
        self.process.is_unread() && self.candidacy.as_ref().is_some_and(|candidacy| candidacy.is_assumed)
    }

    /// Returns an entry with the facts of a birth, an exec or a pass. Paths and arguments are not known yet.
    pub fn new(at: BootTime, key: ProcessKey, facts: &ProcessFacts, wall_offset_ns: i64) -> Self {
        let process = Process {
            key,
            wall_offset_ns,
            parent: facts.parent,
            lineage: None,
            comm: facts.comm,
            exe: None,
            exe_deleted: false,
            filename: None,
            argv: None,
            program: None,
            env: None,
            pane: Pane::None,
            exec_at: None,
            exec_id: facts.exec_id,
            cwd: WorkingDirectory {
                path: None,
                id: facts.cwd,
                mnt_ns: facts.mnt_ns,
                deleted: false,
                truncated: false,
                unreachable: false,
                leader_gone: facts.leader_gone,
                as_of: at,
            },
            tty: facts.tty,
            tty_pgrp: 0,
            stopped: false,
            uids: facts.uids,
            sid: facts.sid,
            pgid: facts.pgid,
            cgroup_id: facts.cgroup_id,
            cgroup: None,
            fs_shared: facts.fs_shared,
        };
        Self {
            process,
            stamps: Stamps { exec: at, cwd: at, comm: at, uids: at, ids: at, parent: at, cgroup: at },
            last_seen: at,
            last_pass: 0,
            absent: false,
            memory_requested: None,
            lineage_by_birth: false,
            torn: 0,
            candidacy: None,
            claim: None,
            holds_session: false,
            settles: false,
            left_behind: None,
            left_of: None,
            signals: None,
            ended: EndedDescendants::default(),
            max_rss_pages: 0,
            rss_pages: 0,
        }
    }

    /// Takes over from the creator what fork copies, as far as the identities prove that it is still the
    /// same. The path is left out if it was read before `paths_read_since`: the passes do not read that of a leader that is gone.
    /// Returns whether a pass has to read the rest.
    pub fn inherit(&mut self, creator: &ProcessEntry, paths_read_since: BootTime) -> bool {
        let (child, from) = (&mut self.process, &creator.process);
        let same_dir = child.cwd.id == from.cwd.id
            && from.cwd.as_of >= paths_read_since
            && child.cwd.mnt_ns == from.cwd.mnt_ns
            && child.cwd.id != DirId::default();
        if same_dir {
            let leader_gone = child.cwd.leader_gone;
            child.cwd = WorkingDirectory { leader_gone, ..from.cwd.clone() };
        }
        if child.cgroup_id == from.cgroup_id {
            child.cgroup = from.cgroup.clone();
        }
        let same_image = child.exec_id == from.exec_id;
        if same_image {
            child.exe = from.exe.clone();
            child.exe_deleted = from.exe_deleted;
            child.filename = from.filename.clone();
            child.argv = from.argv.clone();
            child.program = from.program.clone();
            child.env = from.env.clone();
        }
        let path_known = child.cwd.path.is_some() || (same_dir && child.cwd.truncated);
        let cgroup_known = child.cgroup.is_some() || child.cgroup_id == 0;
        !(path_known && cgroup_known && same_image)
    }

    /// Returns what an exec record held of image `exec_id`, if the process still runs that image.
    pub fn exec_image(&self, exec_id: u32) -> Option<InheritedImage> {
        let Process { filename, argv, env, .. } = &self.process;
        (self.process.exec_id == exec_id && filename.is_some()).then(|| InheritedImage {
            filename: filename.clone(),
            argv: argv.clone(),
            env: env.clone(),
        })
    }

    /// Takes over what the creator's exec record held, in place of what was read from memory.
    pub fn inherit_image(&mut self, image: InheritedImage, recent: &mut RecentBytes) -> Diff {
        let Process { filename, argv, env, .. } = &mut self.process;
        if filename.is_some() {
            return Diff::default();
        }
        (*filename, *argv, *env) = (image.filename, image.argv, image.env);
        self.name_program(recent);
        Diff::IMAGE | Diff::ARGUMENTS
    }
}

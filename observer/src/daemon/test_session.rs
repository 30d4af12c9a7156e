//! A session and its primary, for tests.

use std::sync::Arc;

use observer_core::process::{Comm, DirId, Pane, Uids, WorkingDirectory};
use observer_core::session::{Home, State};
use observer_core::{BootTime, Process, ProcessKey, Session};

/// The session of /srv/a, which has started once.
pub(super) fn session() -> Session {
    Session {
        home: Arc::new(Home { mnt_ns: None, path: Arc::from(&b"/srv/a"[..]), uid: 0, instance: 1 }),
        home_dir: DirId::default(),
        owner: None,
        foreign: Some(false),
        name: Arc::from(&b"a"[..]),
        primary: ProcessKey::new(7, 1),
        wrapper: None,
        others: Vec::new(),
        stands_in_for: None,
        roots: 1,
        state: State::Live,
        since: BootTime(1),
        unconfirmed: false,
        recorded_program: None,
        moved_to: None,
        cwd_deleted: false,
        rule: 0,
        death: None,
        end_reason: None,
        starts: vec![BootTime(1)].into(),
        labels: Vec::new(),
    }
}

/// Its primary.
pub(super) fn primary(key: ProcessKey) -> Process {
    Process {
        key,
        wall_offset_ns: 0,
        parent: ProcessKey::new(1, 1),
        lineage: None,
        comm: Comm::default(),
        exe: None,
        exe_deleted: false,
        filename: None,
        argv: None,
        program: None,
        env: None,
        pane: Pane::None,
        exec_at: None,
        exec_id: 1,
        cwd: WorkingDirectory { path: Some(Arc::from(&b"/srv/a"[..])), ..WorkingDirectory::default() },
        tty: None,
        tty_pgrp: 0,
        stopped: false,
        uids: Uids::default(),
        sid: 7,
        pgid: 7,
        cgroup_id: 0,
        cgroup: None,
        fs_shared: false,
    }
}

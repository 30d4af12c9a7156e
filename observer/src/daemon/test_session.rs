//! A session and its primary, and a sink that records them, for tests.

use std::path::Path;
use std::sync::Arc;

use observer_core::process::{Comm, DirId, Pane, Uids, WorkingDirectory};
use observer_core::session::{Home, State};
use observer_core::{BootTime, Process, ProcessKey, Session};

use super::sink::{DaemonSink, Recording};
use crate::journal::{Journal, JournalOptions, MAX_AGE_DEFAULT, MAX_BYTES_MIN};

/// A sink without clients that writes to a journal in `dir`.
pub(super) fn recording_sink(dir: &Path) -> DaemonSink {
    let journal = Journal::open(JournalOptions {
        path: dir.join("journal.sqlite"),
        max_bytes: MAX_BYTES_MIN,
        max_age: MAX_AGE_DEFAULT,
        boot_id: "boot".into(),
        delivers: false,
    });
    let mut sink = DaemonSink::new("boot".into());
    let journal = journal.unwrap();
    journal.resume();
    sink.journal = Some(journal);
    sink.recording = Recording::Active;
    sink
}

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

//! What a daemon that is started again is given of the sessions that there were: as the journal has them at its best. And what
//! must have become of them then.

use observer_core::input::{KnownLeft, KnownSession};
use observer_core::left::{FormerSession, KnownBirth};
use observer_core::process::DirId;
use observer_core::session::{Session, State};
use observer_core::{BootTime, Core, Input, ProcessKey, Sink};

use crate::linux::Linux;

/// Room for what is known of births: more than these histories have.
const BIRTHS_BYTES: usize = 1 << 20;

/// A session as it was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    session: Session,
    others: Vec<ProcessKey>,
    had_tty: bool,
    program: Option<Vec<u8>>,
    /// Where its primary stood, if the daemon knew that when it was killed.
    stand: Option<Stand>,
    exec_id: u32,
}

/// What decides whether a process stands for a session, apart from its ancestors.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stand {
    exec_id: u32,
    uid: u32,
    comm: usize,
    mnt_ns: u32,
    path: Vec<u8>,
    has_tty: bool,
}

/// Everything that was recorded.
#[derive(Clone, Debug)]
pub struct Memory {
    sessions: Vec<Recorded>,
    births: Vec<KnownBirth>,
    left: Vec<(FormerSession, Vec<ProcessKey>)>,
}

/// How the process stands in the kernel. `None`: it has ended, or its directory is deleted or not to be seen.
fn stand(linux: &Linux, key: ProcessKey) -> Option<Stand> {
    let group = linux.running().find(|group| group.key == key && !group.is_leader_gone())?;
    let (path, is_deleted) = linux.path_of(group);
    (!is_deleted).then(|| Stand {
        exec_id: group.exec_id,
        uid: group.leader.uid,
        comm: group.leader.comm,
        mnt_ns: group.mnt_ns,
        path,
        has_tty: group.tty.is_some(),
    })
}

/// The same as the map has it, if the map is right about it.
fn known_stand(linux: &Linux, core: &Core, key: ProcessKey) -> Option<Stand> {
    let (stand, process) = (stand(linux, key)?, core.process_by_key(key)?);
    let is_right = process.exec_id == stand.exec_id
        && process.uids.uid == stand.uid
        && process.cwd.mnt_ns == stand.mnt_ns
        && process.cwd.usable_path().is_some_and(|path| **path == *stand.path)
        && process.tty.is_some() == stand.has_tty;
    is_right.then_some(stand)
}

/// Returns what the core shows.
pub fn memory(core: &Core, linux: &Linux) -> Memory {
    let sessions = core.sessions().map(|(session, primary)| Recorded {
        session: session.clone(),
        others: session.others.iter().map(|other| other.key).collect(),
        had_tty: session.state == State::Detached || primary.tty.is_some(),
        program: session.recorded_program.as_ref().or(primary.program.as_ref()).map(|it| it.to_vec()),
        stand: known_stand(linux, core, session.primary),
        exec_id: primary.exec_id,
    });
    let origins = core.origins(BIRTHS_BYTES, |_| 0);
    let left = origins.left.iter().map(|(former, processes)| ((*former).clone(), processes.clone()));
    Memory { sessions: sessions.collect(), left: left.collect(), births: origins.births.clone() }
}

impl Memory {
    /// Gives it to a core after its first pass.
    pub fn resume(&self, core: &mut Core, sink: &mut impl Sink, at: BootTime) {
        let known =
            self.sessions.iter().map(|Recorded { session, others, had_tty, program, exec_id, .. }| {
                KnownSession {
                    home: &session.home,
                    name: &session.name,
                    home_dir: DirId { mnt_id: 0, object: 0, ..session.home_dir },
                    home_deleted: session.cwd_deleted,
                    primary: session.primary,
                    wall_offset_ns: 0,
                    state: session.state,
                    since: session.since,
                    had_tty: *had_tty,
                    wrapper: session.wrapper.map(|wrapper| wrapper.tgid),
                    others,
                    program: program.as_deref(),
                    exec_id: Some(*exec_id),
                    stands_in_for: session.stands_in_for.as_deref(),
                    starts: &session.starts,
                    labels: &session.labels,
                }
            });
        let known: Vec<KnownSession<'_>> = known.collect();
        let left = self.left.iter().map(|(former, processes)| KnownLeft {
            home: &former.home,
            name: &former.name,
            foreign: former.foreign,
            primary: former.primary,
            ended_at: former.ended_at,
            wall_offset_ns: former.wall_offset_ns,
            processes,
        });
        let left: Vec<KnownLeft<'_>> = left.collect();
        core.handle(Input::Resume { at, known: &known, left: &left, births: &self.births }, sink);
    }

    /// Compares what has become of the sessions whose primaries stand where they stood. Returns how many of them have the same
    /// primary, and how many have not.
    ///
    /// # Errors
    ///
    /// Returns a session of the same primary that is not in the same state since the same time.
    pub fn compare(&self, core: &Core, linux: &Linux) -> Result<(u64, u64), String> {
        let (mut kept, mut replaced) = (0, 0);
        for Recorded { session, stand: known, .. } in &self.sessions {
            let Some(known) = known.as_ref().filter(|_| session.state != State::Ended) else { continue };
            if stand(linux, session.primary).as_ref() != Some(known) {
                continue;
            }
            let now = core.session(&session.home).map(|(session, _)| session);
            let Some(now) = now.filter(|now| now.primary == session.primary && now.state != State::Ended)
            else {
                replaced += 1;
                continue;
            };
            if (now.state, now.since, &now.name) != (session.state, session.since, &session.name) {
                return Err(format!("{session:?} stands where it stood, and is {now:?} after a restart"));
            }
            kept += 1;
        }
        Ok((kept, replaced))
    }
}

//! What a daemon that is started again is given of the sessions that there were: as the journal has them at its best.

use observer_core::input::KnownSession;
use observer_core::process::DirId;
use observer_core::session::{Session, State};
use observer_core::{BootTime, Core, Input, ProcessKey, Sink};

/// A session as it was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    session: Session,
    others: Vec<ProcessKey>,
    had_tty: bool,
    program: Option<Vec<u8>>,
}

/// Returns the sessions that the core shows.
pub fn recorded(core: &Core) -> Vec<Recorded> {
    let sessions = core.sessions().map(|(session, primary)| Recorded {
        session: session.clone(),
        others: session.others.iter().map(|other| other.key).collect(),
        had_tty: session.state == State::Detached || primary.tty.is_some(),
        program: session.recorded_program.as_ref().or(primary.program.as_ref()).map(|it| it.to_vec()),
    });
    sessions.collect()
}

/// Gives them to a core after its first pass.
pub fn resume(core: &mut Core, sink: &mut impl Sink, at: BootTime, recorded: &[Recorded]) {
    let known = recorded.iter().map(|Recorded { session, others, had_tty, program }| KnownSession {
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
        stands_in_for: session.stands_in_for.as_deref(),
        starts: &session.starts,
        labels: &session.labels,
    });
    let known: Vec<KnownSession<'_>> = known.collect();
    core.handle(Input::Resume { at, known: &known, left: &[], births: &[] }, sink);
}

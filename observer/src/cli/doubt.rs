//! Says on standard error why it is not known whether there is a session, and what to do.

use observer_core::limits::SESSIONS_A_USER_MAX;

use super::user;
use crate::api::doubt::{DoubtReason, UndecidedJson, UndecidedUserJson};
use crate::text::bytes::to_line;

/// Says that nobody knows whether a home has a session.
pub(super) fn say_undecided(undecided: &UndecidedJson<'_>) {
    let UndecidedJson { pid, uid, reason, .. } = undecided;
    let home = to_line(undecided.home.as_bytes());
    match reason {
        DoubtReason::TooManyCandidates => anstream::eprintln!(
            "observer: can't know: pid {pid} may be a session of {home}, where more processes are than are looked at: see \
             `observer explain {pid}`, and narrow the rules"
        ),
        DoubtReason::ArgumentsUnread => anstream::eprintln!(
            "observer: can't know: pid {pid} of {} in {home} may be a session, but its arguments are not known: {UNTIL_READ}",
            user::shown(*uid)
        ),
        _ => anstream::eprintln!(
            "observer: can't know: pid {pid} in {home} is a session if its user owns that directory, whose owner is not known: \
             ask again in a second, and see what `stat {home}` says"
        ),
    }
}

/// What to do where arguments are not known.
const UNTIL_READ: &str = "ask again in a second; a daemon without CAP_SYS_PTRACE (see `observer status`) knows them only from \
                          that program's next exec on: start it again, or give the daemon that right";

/// Says that not all of what a user runs has sessions.
pub(super) fn say_too_many(uid: u32) {
    anstream::eprintln!(
        "observer: can't know: {} has {SESSIONS_A_USER_MAX} sessions, and what more that user runs has none: see what it is \
         by `observer list --long`, and narrow the rules, or name another user by --user",
        user::shown(uid)
    );
}

/// Says that a user may have a session of which not even the name is known.
pub(super) fn say_undecided_user(undecided: &UndecidedUserJson) {
    let UndecidedUserJson { uid, pid, reason, .. } = undecided;
    let user = user::shown(*uid);
    match reason {
        DoubtReason::PathTooLong => anstream::eprintln!(
            "observer: can't know: pid {pid} of {user} may be a session, but the path of its directory is too long to be \
             read: see `observer explain {pid}`, or name another user by --user"
        ),
        DoubtReason::ArgumentsUnread => anstream::eprintln!(
            "observer: can't know: pid {pid} of {user} may be a session, but its arguments are not known: {UNTIL_READ}, or \
             name another user by --user"
        ),
        _ => anstream::eprintln!(
            "observer: can't know: pid {pid} of {user} may be a session, and more processes are in its home than are looked \
             at: see `observer explain {pid}`, or name another user by --user"
        ),
    }
}

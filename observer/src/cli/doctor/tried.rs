//! With whose rights the doctor tries the journal's disk and the database: the daemon's, as far as it can have them.

use std::path::Path;

use nix::unistd::geteuid;

use crate::api::check::{Check, Verdict};
use crate::cli::{readable, user};
use crate::socket::client::Client;

/// The user with whose rights something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriedUser {
    /// Its user id.
    pub uid: u32,
    /// Whether the daemon on the socket runs as it.
    pub is_daemons: bool,
}

impl TriedUser {
    /// The user of the daemon on `socket`; without one, that of the service where there is such a user, else who calls this.
    pub fn find(socket: &Path) -> Self {
        match Client::connect(socket).ok().and_then(|client| client.daemon_uid()) {
            Some(uid) => Self { uid, is_daemons: true },
            None => {
                let uid = user::of_service().unwrap_or_else(|| geteuid().as_raw());
                Self { uid, is_daemons: false }
            }
        }
    }

    /// Does `work` as this user, or, where this process cannot be that user, as itself. It is given who that is.
    pub fn run<T: Send>(self, work: &(dyn Fn(Self) -> T + Sync)) -> T {
        match readable::as_user(self.uid, &|| work(self)) {
            Ok(done) => done,
            Err(_) => work(Self { uid: geteuid().as_raw(), is_daemons: false }),
        }
    }

    /// Says whose rights are tried.
    pub fn check(self) -> Check {
        let tried = self.run(&|tried| tried);
        let (named, wanted) = (user::named(tried.uid), user::named(self.uid));
        let runs = if self.is_daemons { "the daemon runs" } else { "the service runs" };
        if tried.uid != self.uid {
            let detail = format!(
                "the journal's disk and the database are tried with the rights of {named}, and {runs} as {wanted}: run the doctor \
                 as root"
            );
            return Check::new("user", Verdict::Limited, detail);
        }
        Check::new("user", Verdict::Fine, format!("the journal's disk and the database are tried as {named}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_cannot_try_as_another_user_it_tries_as_itself_and_says_so() {
        let own = geteuid().as_raw();
        let other = TriedUser { uid: 4_294_967_290, is_daemons: true };
        let check = other.check();
        if own == 0 {
            assert_eq!(other.run(&|tried| (tried, geteuid().as_raw())), (other, 4_294_967_290));
            assert_eq!((check.verdict, geteuid().as_raw()), (Verdict::Fine, 0));
            assert!(check.detail.ends_with("are tried as user 4294967290"), "{}", check.detail);
            // Root may do everything, so only the user's own try tells.
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal.sqlite");
            let checks =
                other.run(&|_| crate::journal::doctor::doctor(&path, 1, ("user 7", Verdict::Fails, "go on")));
            let last = checks.last().unwrap();
            assert!(last.verdict == Verdict::Fails && last.detail.contains("user 7"), "{checks:?}");
        } else {
            assert_eq!(other.run(&|tried| tried), TriedUser { uid: own, is_daemons: false });
            assert_eq!(check.verdict, Verdict::Limited);
            assert!(check.detail.contains("user 4294967290: run the doctor as root"), "{}", check.detail);
        }
        let itself = TriedUser { uid: own, is_daemons: false };
        assert_eq!((itself.run(&|tried| tried), itself.check().verdict), (itself, Verdict::Fine));
    }
}

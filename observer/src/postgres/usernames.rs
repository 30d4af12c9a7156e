//! Names of users. A look-up may ask a directory over the network and hang: it waits on a thread of its own, and not for
//! long.

use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::time::{Instant, timeout};

use super::rows::Usernames;

/// Users that are remembered.
const USERS_MAX: usize = 4096;
/// How long a look-up is waited for.
const LOOKUP_WAIT: Duration = Duration::from_secs(2);
/// After one that took longer none is made for this long.
const LOOKUP_PAUSE: Duration = Duration::from_secs(60);
/// A name is looked up again after this long: users are made, and renamed.
const FRESH: Duration = Duration::from_secs(3600);

/// Names looked up so far.
#[derive(Debug, Default)]
pub struct Directory {
    names: Usernames,
    since: Option<Instant>,
    paused_until: Option<Instant>,
}

impl Directory {
    /// Looks up those of `uids` that are not known.
    pub async fn learn(&mut self, uids: Vec<u32>) {
        let stale = self.since.is_some_and(|since| since.elapsed() > FRESH);
        if stale || self.names.len() > USERS_MAX {
            self.names.clear();
            self.since = None;
        }
        for uid in uids {
            let paused = self.paused_until.is_some_and(|until| Instant::now() < until);
            if paused || self.names.contains_key(&uid) {
                continue;
            }
            let look = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
            match timeout(LOOKUP_WAIT, look).await {
                Ok(Ok(Ok(user))) => {
                    self.since.get_or_insert_with(Instant::now);
                    self.names.insert(uid, user.map(|user| user.name));
                }
                Ok(_) => {}
                Err(_) => self.paused_until = Some(Instant::now() + LOOKUP_PAUSE),
            }
        }
    }

    /// What is known.
    pub fn names(&self) -> &Usernames {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn known_and_unknown_users_are_remembered() {
        let mut directory = Directory::default();
        directory.learn(vec![0, 4_000_000_001]).await;
        let expected = Usernames::from([(0, Some("root".into())), (4_000_000_001, None)]);
        assert_eq!(directory.names(), &expected);
    }
}

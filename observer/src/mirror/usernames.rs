//! Looks up the names of users. A look-up may query a directory over the network and hang, so it runs on a thread of its
//! own, and the mirror waits for it for a limited time.

use std::collections::HashMap;
use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::items::Usernames;

/// Users in the cache. When there are more, all of them are removed.
const USERS_MAX: usize = 4096;
/// How long one call waits for all of its look-ups together.
const LOOKUP_WAIT: Duration = Duration::from_secs(2);
/// After a look-up that took longer, no other one starts for this long.
const LOOKUP_PAUSE: Duration = Duration::from_secs(60);
/// Age at which a name is looked up again, because users are created and renamed.
const NAME_AGE_MAX: Duration = Duration::from_secs(3600);

/// The names that were looked up so far.
#[derive(Debug, Default)]
pub struct UsernameCache {
    names: Usernames,
    looked_at: HashMap<u32, Instant>,
    paused_until: Option<Instant>,
    /// The last look-up that was not answered in time. It occupies its thread until it returns.
    hanging: Option<JoinHandle<()>>,
}

impl UsernameCache {
    /// Looks up those of `uids` whose name is not known, or is too old. An old name stays until the look-up succeeds.
    pub async fn look_up(&mut self, uids: Vec<u32>) {
        if self.names.len() > USERS_MAX {
            self.names.clear();
            self.looked_at.clear();
        }
        let deadline = Instant::now() + LOOKUP_WAIT;
        for uid in uids {
            let is_recent = self.looked_at.get(&uid).is_some_and(|at| at.elapsed() < NAME_AGE_MAX);
            if is_recent || self.is_paused() {
                continue;
            }
            let (reply, answer) = oneshot::channel();
            let look_up = tokio::task::spawn_blocking(move || {
                // The receiver is gone if the wait has ended.
                let _ = reply.send(User::from_uid(Uid::from_raw(uid)));
            });
            match timeout_at(deadline, answer).await {
                Ok(Ok(Ok(user))) => {
                    self.looked_at.insert(uid, Instant::now());
                    self.names.insert(uid, user.map(|user| user.name));
                }
                Ok(_) => {}
                Err(_) => {
                    self.paused_until = Some(Instant::now() + LOOKUP_PAUSE);
                    self.hanging = Some(look_up);
                }
            }
        }
    }

    fn is_paused(&self) -> bool {
        let is_hanging = self.hanging.as_ref().is_some_and(|look_up| !look_up.is_finished());
        is_hanging || self.paused_until.is_some_and(|until| Instant::now() < until)
    }

    /// The names that are known.
    pub fn names(&self) -> &Usernames {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn known_and_unknown_users_are_remembered() {
        let mut cache = UsernameCache::default();
        cache.look_up(vec![0, 4_000_000_001]).await;
        let expected = Usernames::from([(0, Some("root".into())), (4_000_000_001, None)]);
        assert_eq!(cache.names(), &expected);
    }
}

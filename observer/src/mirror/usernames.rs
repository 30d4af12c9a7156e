//! Names of users. A look-up may ask a directory over the network and hang: it waits on a thread of its own, and not for
//! long.

use std::collections::HashMap;
use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::items::Usernames;

/// Users that are remembered.
const USERS_MAX: usize = 4096;
/// How long the look-ups of one call are waited for, together.
const LOOKUP_WAIT: Duration = Duration::from_secs(2);
/// After such as took longer none is made for this long.
const LOOKUP_PAUSE: Duration = Duration::from_secs(60);
/// A name is looked up again after this long: users are made, and renamed.
const FRESH: Duration = Duration::from_secs(3600);

/// Names looked up so far.
#[derive(Debug, Default)]
pub struct Directory {
    names: Usernames,
    looked_at: HashMap<u32, Instant>,
    paused_until: Option<Instant>,
    /// A look-up that hangs: it keeps its thread.
    hanging: Option<JoinHandle<()>>,
}

impl Directory {
    /// Looks up those of `uids` that are not known, or not for certain any more. A name stands until another is known.
    pub async fn learn(&mut self, uids: Vec<u32>) {
        if self.names.len() > USERS_MAX {
            self.names.clear();
            self.looked_at.clear();
        }
        let deadline = Instant::now() + LOOKUP_WAIT;
        for uid in uids {
            let fresh = self.looked_at.get(&uid).is_some_and(|at| at.elapsed() < FRESH);
            if fresh || self.paused() {
                continue;
            }
            let (tell, told) = oneshot::channel();
            let look = tokio::task::spawn_blocking(move || {
                // Whoever asked may have given up.
                let _ = tell.send(User::from_uid(Uid::from_raw(uid)));
            });
            match timeout_at(deadline, told).await {
                Ok(Ok(Ok(user))) => {
                    self.looked_at.insert(uid, Instant::now());
                    self.names.insert(uid, user.map(|user| user.name));
                }
                Ok(_) => {}
                Err(_) => {
                    self.paused_until = Some(Instant::now() + LOOKUP_PAUSE);
                    self.hanging = Some(look);
                }
            }
        }
    }

    fn paused(&self) -> bool {
        let hangs = self.hanging.as_ref().is_some_and(|look| !look.is_finished());
        hangs || self.paused_until.is_some_and(|until| Instant::now() < until)
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

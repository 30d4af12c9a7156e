//! Who watches, and what each of them wants to hear. A change is serialised once, and only if somebody wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use observer_core::session::Pattern as _;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::glob::Glob;

/// Frames that wait for one client; beyond, it is told `lagged` and gets a new snapshot. Some 10 MB of changes of
/// processes: what a storm makes while a client on the same core is not run.
const QUEUE_FRAMES_MAX: usize = 8192;

/// What a client wants to hear.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    all: bool,
    glob: Option<Arc<Glob>>,
    /// The glob holds a `/`: it speaks of directories, not of names.
    by_path: bool,
}

impl Interest {
    /// From the request's fields; the error says what is wrong with the glob.
    pub fn new(all: bool, glob: Option<&str>) -> Result<Self, String> {
        let by_path = glob.is_some_and(|glob| glob.contains('/'));
        let compile = |glob: &str| if by_path { Glob::path(glob) } else { Glob::name(glob) };
        Ok(Self { all, glob: glob.map(compile).transpose()?.map(Arc::new), by_path })
    }

    /// Whether frames of this scope are for it.
    pub fn wants(&self, scope: Scope<'_>) -> bool {
        let (name, path) = match scope {
            Scope::Always => return true,
            Scope::Session { name, home } => (name, Some(home)),
            Scope::Process { in_session, .. } if !in_session && !self.all => return false,
            Scope::Process { comm, cwd, .. } => (comm, cwd),
        };
        match &self.glob {
            None => true,
            Some(glob) if self.by_path => path.is_some_and(|path| glob.is_match(path)),
            Some(glob) => glob.is_match(name),
        }
    }

    /// Processes in no session are wanted too.
    pub fn all(&self) -> bool {
        self.all
    }
}

/// What a frame is about.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// Everybody.
    Always,
    /// A session.
    Session {
        /// Its name.
        name: &'a [u8],
        /// Its home's path.
        home: &'a [u8],
    },
    /// A process.
    Process {
        /// It stands for a session.
        in_session: bool,
        /// Its comm.
        comm: &'a [u8],
        /// Its cwd's path.
        cwd: Option<&'a [u8]>,
    },
}

/// One client's end: the snapshot, and the changes from the moment of the snapshot on.
#[derive(Debug)]
pub struct Subscription {
    /// Bodies of the snapshot's frames.
    pub snapshot: Arc<[Bytes]>,
    /// Bodies of changes. Ends when the client lags or the daemon stops.
    pub changes: mpsc::Receiver<Bytes>,
    /// Why `changes` ended: the client was too slow.
    pub lagged: Arc<AtomicBool>,
}

struct Subscriber {
    interest: Interest,
    queue: mpsc::Sender<Bytes>,
    lagged: Arc<AtomicBool>,
}

/// All clients that watch.
#[derive(Default)]
pub struct Hub {
    subscribers: Vec<Subscriber>,
    lagged_total: u64,
}

impl Hub {
    /// Nobody watches.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// How many watch. One that left is counted until the next frame for it.
    pub fn len(&self) -> usize {
        self.subscribers.iter().filter(|subscriber| !subscriber.queue.is_closed()).count()
    }

    /// How often a client was too slow.
    pub fn lagged_total(&self) -> u64 {
        self.lagged_total
    }

    /// A new client: everything published from here on reaches it.
    pub fn subscribe(&mut self, interest: Interest, snapshot: Arc<[Bytes]>) -> Subscription {
        self.subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        let (queue, changes) = mpsc::channel(QUEUE_FRAMES_MAX);
        let lagged = Arc::new(AtomicBool::new(false));
        self.subscribers.push(Subscriber { interest, queue, lagged: Arc::clone(&lagged) });
        Subscription { snapshot, changes, lagged }
    }

    /// Hands a frame to everybody who wants it; `body` is called at most once, and only if somebody does. Never
    /// waits: who has no room is cut off, and told.
    pub fn publish(&mut self, scope: Scope<'_>, body: impl FnOnce() -> Vec<u8>) {
        let mut body = Some(body);
        let mut frame = Bytes::new();
        let mut lagged = 0;
        self.subscribers.retain(|subscriber| {
            if !subscriber.interest.wants(scope) {
                return true;
            }
            if let Some(body) = body.take() {
                frame = Bytes::from(body());
            }
            match subscriber.queue.try_send(frame.clone()) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    subscriber.lagged.store(true, Ordering::Release);
                    lagged += 1;
                    false
                }
            }
        });
        self.lagged_total += lagged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Scope<'_> = Scope::Session { name: b"agent", home: b"/srv/agent" };
    const PRIMARY: Scope<'_> = Scope::Process { in_session: true, comm: b"claude", cwd: Some(b"/srv/agent") };
    const OTHER: Scope<'_> = Scope::Process { in_session: false, comm: b"ls", cwd: None };

    #[test]
    fn interest_decides() {
        let wanted = |all, glob| {
            let interest = Interest::new(all, glob).unwrap();
            [Scope::Always, SESSION, PRIMARY, OTHER].map(|scope| interest.wants(scope))
        };
        assert_eq!(wanted(false, None), [true, true, true, false]);
        assert_eq!(wanted(true, None), [true, true, true, true]);
        assert_eq!(wanted(true, Some("age*")), [true, true, false, false]);
        assert_eq!(wanted(true, Some("/srv/*")), [true, true, true, false]);
        assert_eq!(wanted(true, Some("ls")), [true, false, false, true]);
        assert!(Interest::new(false, Some("[")).is_err());
    }

    #[test]
    fn nothing_is_serialised_for_nobody() {
        let mut hub = Hub::default();
        hub.publish(Scope::Always, || panic!("nobody watches"));
        let mut subscription = hub.subscribe(Interest::default(), [].into());
        hub.publish(OTHER, || panic!("nobody wants it"));
        hub.publish(SESSION, || b"{}".to_vec());
        assert_eq!(subscription.changes.try_recv().unwrap(), b"{}"[..]);
    }

    #[test]
    fn a_slow_client_is_cut_off_and_others_are_not() {
        let mut hub = Hub::default();
        let mut slow = hub.subscribe(Interest::default(), [].into());
        let mut quick = hub.subscribe(Interest::default(), [].into());
        for _ in 0..=QUEUE_FRAMES_MAX {
            hub.publish(SESSION, || b"{}".to_vec());
            assert!(quick.changes.try_recv().is_ok());
        }
        let mut queued = 0;
        while slow.changes.try_recv().is_ok() {
            queued += 1;
        }
        assert_eq!(queued, QUEUE_FRAMES_MAX);
        assert!(slow.lagged.load(Ordering::Acquire) && !quick.lagged.load(Ordering::Acquire));
        assert_eq!((hub.len(), hub.lagged_total()), (1, 1));
    }
}

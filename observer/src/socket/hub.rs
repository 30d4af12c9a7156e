//! Who watches, and what each of them wants to hear. A change is serialised once, and only if somebody wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use observer_core::rule::Pattern as _;
use tokio::sync::mpsc;

use crate::text::glob::Glob;

/// Bytes of frames that wait for one client; beyond, it is told `lagged` and gets a new snapshot. A drain of a full
/// ring of the default size, which no client's task can interrupt, fits.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What a waiting frame costs besides its bytes.
const FRAME_BYTES: usize = 64;

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
    /// Bodies of changes.
    pub changes: Changes,
    /// Why `changes` ended: the client was too slow.
    pub lagged: Arc<AtomicBool>,
}

/// Bodies of changes, in order. Ends when the client lags or the daemon stops.
#[derive(Debug)]
pub struct Changes {
    frames: mpsc::UnboundedReceiver<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Changes {
    /// The next.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.recv().await;
        frame.inspect(|frame| self.taken(frame))
    }

    /// The next, if it waits already.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.try_recv().ok();
        frame.inspect(|frame| self.taken(frame))
    }

    fn taken(&self, frame: &Bytes) {
        self.waiting_bytes.fetch_sub(frame.len() + FRAME_BYTES, Ordering::Relaxed);
    }
}

struct Subscriber {
    interest: Interest,
    queue: mpsc::UnboundedSender<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
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
        // Bounded by what `publish` lets in.
        let (queue, frames) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let lagged = Arc::new(AtomicBool::new(false));
        let (its_bytes, its_lag) = (Arc::clone(&waiting_bytes), Arc::clone(&lagged));
        self.subscribers.push(Subscriber { interest, queue, waiting_bytes: its_bytes, lagged: its_lag });
        Subscription { snapshot, changes: Changes { frames, waiting_bytes }, lagged }
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
            let cost = frame.len() + FRAME_BYTES;
            if subscriber.waiting_bytes.fetch_add(cost, Ordering::Relaxed) + cost > QUEUE_BYTES_MAX {
                subscriber.lagged.store(true, Ordering::Release);
                lagged += 1;
                return false;
            }
            subscriber.queue.send(frame.clone()).is_ok()
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
        let room = QUEUE_BYTES_MAX / (1 << 20);
        for _ in 0..=room {
            hub.publish(SESSION, || vec![b' '; (1 << 20) - FRAME_BYTES]);
            assert!(quick.changes.try_recv().is_some());
        }
        let queued = std::iter::from_fn(|| slow.changes.try_recv()).count();
        assert_eq!(queued, room);
        assert!(slow.lagged.load(Ordering::Acquire) && !quick.lagged.load(Ordering::Acquire));
        assert_eq!((hub.len(), hub.lagged_total()), (1, 1));
    }
}

//! The clients that watch, and which changes each of them gets. A change is serialized once, and only if a client gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use observer_core::rule::Pattern as _;
use tokio::sync::mpsc;

use crate::text::glob::Glob;

/// Bytes of frames that wait for one client. Beyond that the client gets a `lagged` frame and a new snapshot. The frames of
/// one drain of a full ring of the default size fit, because no client's task runs during a drain.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What a waiting frame takes beside its own bytes.
const FRAME_BYTES: usize = 64;

/// Which frames a client gets.
#[derive(Clone, Debug, Default)]
pub struct WatchFilter {
    all: bool,
    glob: Option<Arc<Glob>>,
    /// The glob contains a `/`, so it is matched against directories and not against names.
    by_path: bool,
}

impl WatchFilter {
    /// From the fields of the request. `all`: also processes that are in no session. The error describes the fault of the
    /// glob.
    pub fn new(all: bool, glob: Option<&str>) -> Result<Self, String> {
        let by_path = glob.is_some_and(|glob| glob.contains('/'));
        let compile = |glob: &str| if by_path { Glob::path(glob) } else { Glob::name(glob) };
        Ok(Self { all, glob: glob.map(compile).transpose()?.map(Arc::new), by_path })
    }

    /// Whether the client gets frames of this scope.
    pub fn wants(&self, scope: FrameScope<'_>) -> bool {
        let (name, path) = match scope {
            FrameScope::Always => return true,
            FrameScope::Session { name, home } => (name, Some(home)),
            FrameScope::Process { in_session, .. } if !in_session && !self.all => return false,
            FrameScope::Process { comm, cwd, .. } => (comm, cwd),
        };
        match &self.glob {
            None => true,
            Some(glob) if self.by_path => path.is_some_and(|path| glob.is_match(path)),
            Some(glob) => glob.is_match(name),
        }
    }

    /// Whether the client also gets processes that are in no session.
    pub fn all(&self) -> bool {
        self.all
    }
}

/// What a frame concerns.
#[derive(Clone, Copy, Debug)]
pub enum FrameScope<'a> {
    /// Every client.
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
        /// Whether it is the primary of a session.
        in_session: bool,
        /// Its comm.
        comm: &'a [u8],
        /// Its cwd's path.
        cwd: Option<&'a [u8]>,
    },
}

/// One client's end: the snapshot, and every change after it.
#[derive(Debug)]
pub struct Subscription {
    /// Bodies of the frames of the snapshot.
    pub snapshot: Arc<[Bytes]>,
    /// Bodies of changes.
    pub changes: Changes,
    /// Set when `changes` ended because the client was too slow.
    pub lagged: Arc<AtomicBool>,
}

/// Bodies of changes, in order. They end when the client lags or the daemon stops.
#[derive(Debug)]
pub struct Changes {
    frames: mpsc::UnboundedReceiver<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Changes {
    /// Waits for the next.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.recv().await;
        frame.inspect(|frame| self.taken(frame))
    }

    /// The next, if there is one already.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.try_recv().ok();
        frame.inspect(|frame| self.taken(frame))
    }

    fn taken(&self, frame: &Bytes) {
        self.waiting_bytes.fetch_sub(frame.len() + FRAME_BYTES, Ordering::Relaxed);
    }
}

struct Subscriber {
    filter: WatchFilter,
    queue: mpsc::UnboundedSender<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    lagged: Arc<AtomicBool>,
}

/// The clients that watch.
#[derive(Default)]
pub struct WatchHub {
    subscribers: Vec<Subscriber>,
    lagged_total: u64,
}

impl WatchHub {
    /// Whether no client watches.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// How many clients watch.
    pub fn len(&self) -> usize {
        self.subscribers.iter().filter(|subscriber| !subscriber.queue.is_closed()).count()
    }

    /// How often a client was too slow, since the daemon's start.
    pub fn lagged_total(&self) -> u64 {
        self.lagged_total
    }

    /// Adds a client, which gets everything that is published from here on.
    pub fn subscribe(&mut self, filter: WatchFilter, snapshot: Arc<[Bytes]>) -> Subscription {
        self.subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        // `publish` bounds what waits in it.
        let (queue, frames) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let lagged = Arc::new(AtomicBool::new(false));
        let (its_bytes, its_lag) = (Arc::clone(&waiting_bytes), Arc::clone(&lagged));
        self.subscribers.push(Subscriber { filter, queue, waiting_bytes: its_bytes, lagged: its_lag });
        Subscription { snapshot, changes: Changes { frames, waiting_bytes }, lagged }
    }

    /// Gives a frame to every client that gets frames of `scope`. `body` is called at most once, and only if there is such
    /// a client. Never waits: a client without room is unsubscribed, and learns that it lagged.
    pub fn publish(&mut self, scope: FrameScope<'_>, body: impl FnOnce() -> Vec<u8>) {
        let mut body = Some(body);
        let mut frame = Bytes::new();
        let mut lagged = 0;
        self.subscribers.retain(|subscriber| {
            if !subscriber.filter.wants(scope) {
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

    const SESSION: FrameScope<'_> = FrameScope::Session { name: b"agent", home: b"/srv/agent" };
    const PRIMARY: FrameScope<'_> =
        FrameScope::Process { in_session: true, comm: b"claude", cwd: Some(b"/srv/agent") };
    const OTHER: FrameScope<'_> = FrameScope::Process { in_session: false, comm: b"ls", cwd: None };

    #[test]
    fn the_filter_selects_frames_by_scope() {
        let wanted = |all, glob| {
            let filter = WatchFilter::new(all, glob).unwrap();
            [FrameScope::Always, SESSION, PRIMARY, OTHER].map(|scope| filter.wants(scope))
        };
        assert_eq!(wanted(false, None), [true, true, true, false]);
        assert_eq!(wanted(true, None), [true, true, true, true]);
        assert_eq!(wanted(true, Some("age*")), [true, true, false, false]);
        assert_eq!(wanted(true, Some("/srv/*")), [true, true, true, false]);
        assert_eq!(wanted(true, Some("ls")), [true, false, false, true]);
        assert!(WatchFilter::new(false, Some("[")).is_err());
    }

    #[test]
    fn a_frame_that_no_client_gets_is_not_serialized() {
        let mut hub = WatchHub::default();
        hub.publish(FrameScope::Always, || panic!("no client watches"));
        let mut subscription = hub.subscribe(WatchFilter::default(), [].into());
        hub.publish(OTHER, || panic!("no client gets it"));
        hub.publish(SESSION, || b"{}".to_vec());
        assert_eq!(subscription.changes.try_recv().unwrap(), b"{}"[..]);
    }

    #[test]
    fn a_slow_client_is_unsubscribed_and_others_are_not() {
        let mut hub = WatchHub::default();
        let mut slow = hub.subscribe(WatchFilter::default(), [].into());
        let mut quick = hub.subscribe(WatchFilter::default(), [].into());
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

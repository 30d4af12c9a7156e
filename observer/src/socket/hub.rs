//! The clients that watch, and which changes each of them gets. A change is serialized once, and only if a client gets it.

use std::sync::Arc;

use observer_core::rule::Pattern as _;

use super::unread::{FramePushed, HeldFrame, Pieces, Unread, UnreadBudget};
use crate::api::audience::Audience;
use crate::text::glob::Glob;

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
            Some(glob) => {
                let is_numbered = || match scope {
                    FrameScope::Session { name, home } => glob.is_match(without_instance(name, home)),
                    _ => false,
                };
                glob.is_match(name) || is_numbered()
            }
        }
    }

    /// Whether the client also gets processes that are in no session.
    pub fn all(&self) -> bool {
        self.all
    }
}

/// The name of a session without the number that tells it from others in its home: `alpha` of `alpha#2`, unless the home itself
/// ends so.
fn without_instance<'a>(name: &'a [u8], home: &[u8]) -> &'a [u8] {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, _) = name.split_at(name.len() - digits);
    let rest = rest.strip_suffix(b"#").filter(|_| digits > 0);
    rest.filter(|rest| !name.strip_prefix(*rest).is_some_and(|number| home.ends_with(number))).unwrap_or(name)
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

struct Subscriber {
    filter: WatchFilter,
    unread: Arc<Unread>,
    /// Changes before this one are in its snapshot, also those that are published later.
    since: u64,
}

/// A frame as clients get it, once it was made: `None` within where it has nothing for them.
#[derive(Default)]
struct Frames {
    whole: Option<Option<Arc<HeldFrame>>>,
    reduced: Option<Option<Arc<HeldFrame>>>,
}

impl Frames {
    /// The frame of those who see all of it, or of the others, and for whom it is made.
    fn of(&mut self, sees_all: bool) -> (&mut Option<Option<Arc<HeldFrame>>>, Audience) {
        if sees_all { (&mut self.whole, Audience::Root) } else { (&mut self.reduced, Audience::Anyone) }
    }

    fn are_made(&self) -> bool {
        self.whole.is_some() || self.reduced.is_some()
    }
}

/// The clients that watch.
#[derive(Default)]
pub struct WatchHub {
    subscribers: Vec<Subscriber>,
    budget: UnreadBudget,
    lagged_total: u64,
    /// Changes that are to be published later, so far.
    changes: u64,
    /// Which of them is published at the moment; `None`: one that has just happened.
    published: Option<u64>,
}

impl WatchHub {
    /// The budget of all clients, also of those that do not watch.
    pub fn budget(&self) -> &UnreadBudget {
        &self.budget
    }

    /// Whether no client watches.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// How many clients watch.
    pub fn len(&self) -> usize {
        self.subscribers.iter().filter(|subscriber| subscriber.unread.is_following()).count()
    }

    /// How often a client was too slow, since the daemon's start.
    pub fn lagged_total(&self) -> u64 {
        self.lagged_total
    }

    /// Whether a client gets frames of this scope.
    pub fn wants(&self, scope: FrameScope<'_>) -> bool {
        self.subscribers.iter().any(|subscriber| subscriber.filter.wants(scope))
    }

    /// Counts a change that is published later, and returns its number. It is part of the snapshots that are made meanwhile.
    pub fn count_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes - 1
    }

    /// What is published from here on is the change with this number; `None`: what has just happened.
    pub fn set_change(&mut self, number: Option<u64>) {
        self.published = number;
    }

    /// Adds a client, which gets `snapshot` and everything that happens from here on.
    pub fn subscribe(&mut self, filter: WatchFilter, client: &Arc<Unread>, snapshot: impl Pieces + 'static) {
        let is_other = |it: &Subscriber| !it.unread.is_closed() && !Arc::ptr_eq(&it.unread, client);
        self.subscribers.retain(is_other);
        client.give_snapshot(self.budget.hold(snapshot));
        self.subscribers.push(Subscriber { filter, unread: Arc::clone(client), since: self.changes });
    }

    /// Gives a frame to every client that gets frames of `scope`. `body` makes it, and returns `None` where it has nothing for
    /// that audience. It is called only if there is such a client, at most twice: for root, which stands for whoever sees the
    /// arguments in the frame, those that the user `arguments_of` gave (`None`: there are none to hide), and for anyone else.
    /// Never waits: a client without room is unsubscribed, and learns that it lagged.
    pub fn publish(
        &mut self,
        scope: FrameScope<'_>,
        arguments_of: Option<u32>,
        body: impl Fn(Audience) -> Option<Vec<u8>>,
    ) {
        let mut frames = Frames::default();
        let Self { subscribers, budget, lagged_total, published, .. } = self;
        subscribers.retain(|subscriber| {
            let knows = published.is_some_and(|number| number < subscriber.since);
            if knows || !subscriber.filter.wants(scope) {
                return true;
            }
            let audience = subscriber.unread.audience();
            let sees_all = arguments_of.is_none_or(|uid| audience.sees_arguments_of(uid));
            let (frame, audience) = frames.of(sees_all);
            let made = || body(audience).map(|body| budget.frame(body));
            let Some(frame) = frame.get_or_insert_with(made) else { return true };
            let pushed = subscriber.unread.push(frame);
            *lagged_total += u64::from(pushed == FramePushed::Lags);
            pushed == FramePushed::Waits
        });
        if frames.are_made() && budget.is_exceeded() {
            *lagged_total += budget.keep();
        }
    }

    /// Keeps the budget of all clients.
    pub fn keep_budget(&mut self) {
        self.lagged_total += self.budget.keep();
    }
}

impl Drop for WatchHub {
    fn drop(&mut self) {
        for subscriber in &self.subscribers {
            subscriber.unread.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::unread::{NextUnread, UnreadEnd};
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
        let of = |home: &str, name: &str, glob: &str| {
            let scope = FrameScope::Session { name: name.as_bytes(), home: home.as_bytes() };
            WatchFilter::new(false, Some(glob)).unwrap().wants(scope)
        };
        let second = ["agent", "agent#*", "agent#2", "agent#1"].map(|glob| of("/srv/agent", "agent#2", glob));
        assert_eq!(second, [true, true, true, false], "a name names all sessions that have it");
        assert_eq!(["agent#", "agent#b"].map(|name| of("/srv/agent", name, "agent")), [false; 2]);
        assert!(!of("/srv/agent#2", "agent#2", "agent"), "that is the home's own name");
    }

    /// A client that watches, and has read its snapshot, which is empty.
    fn watch(hub: &mut WatchHub) -> Arc<Unread> {
        let client = hub.budget().client(0);
        hub.subscribe(WatchFilter::default(), &client, Vec::new());
        assert_eq!(client.try_next(), None);
        client
    }

    #[test]
    fn a_frame_that_no_client_gets_is_not_serialized() {
        let mut hub = WatchHub::default();
        hub.publish(FrameScope::Always, None, |_| panic!("no client watches"));
        let client = watch(&mut hub);
        hub.publish(OTHER, None, |_| panic!("no client gets it"));
        hub.publish(SESSION, None, |_| None);
        hub.publish(SESSION, None, |_| Some(b"{}".to_vec()));
        assert_eq!(client.try_next().unwrap(), b"{}"[..]);
        assert_eq!((client.try_next(), hub.len()), (None, 1));
    }

    #[test]
    fn arguments_are_for_root_and_the_user_who_gave_them() {
        let mut hub = WatchHub::default();
        let clients = [0, 7, 8, 9].map(|uid| {
            let client = hub.budget().client(uid);
            hub.subscribe(WatchFilter::default(), &client, Vec::new());
            assert_eq!(client.try_next(), None);
            client
        });
        let made = std::cell::RefCell::new(Vec::new());
        let body = |audience| {
            made.borrow_mut().push(audience);
            (audience == Audience::Root).then(|| b"secret".to_vec())
        };
        let seen = || clients.each_ref().map(|client| client.try_next().is_some());
        hub.publish(SESSION, Some(7), body);
        assert_eq!(seen(), [true, true, false, false]);
        assert_eq!(made.take(), [Audience::Root, Audience::Anyone], "once each");
        hub.publish(SESSION, Some(0), body);
        assert_eq!(seen(), [true, false, false, false]);
        made.take();
        hub.publish(SESSION, None, body);
        assert_eq!((seen(), made.take()), ([true; 4], vec![Audience::Root]), "nothing to hide");
        assert_eq!(hub.len(), 4);
    }

    #[test]
    fn a_change_that_is_published_later_is_in_the_snapshot_of_who_came_meanwhile() {
        let mut hub = WatchHub::default();
        let before = watch(&mut hub);
        let number = hub.count_change();
        let after = watch(&mut hub);
        hub.set_change(Some(number));
        hub.publish(SESSION, None, |_| Some(b"{}".to_vec()));
        hub.set_change(None);
        assert_eq!(before.try_next().as_deref(), Some(&b"{}"[..]));
        assert_eq!(after.try_next(), None);
        let number = hub.count_change();
        hub.set_change(Some(number));
        hub.publish(SESSION, None, |_| Some(b"{}".to_vec()));
        assert!(before.try_next().is_some() && after.try_next().is_some());
    }

    #[test]
    fn a_slow_client_is_unsubscribed_and_others_are_not() {
        let mut hub = WatchHub::default();
        let (slow, quick) = (watch(&mut hub), watch(&mut hub));
        let mut published = 0;
        while hub.lagged_total() == 0 {
            hub.publish(SESSION, None, |_| Some(vec![b' '; 1_000_000]));
            assert!(quick.try_next().is_some());
            published += 1;
            assert!(published < 1_000, "a queue has a bound");
        }
        let queued = std::iter::from_fn(|| slow.try_next()).count();
        assert_eq!((queued, published), (67, 68));
        assert_eq!(slow.next(|_| {}), NextUnread::End(UnreadEnd::Lagged));
        assert_eq!((hub.len(), hub.lagged_total()), (1, 1));
        // With a new snapshot it is subscribed again, once.
        hub.subscribe(WatchFilter::default(), &slow, Vec::new());
        hub.subscribe(WatchFilter::default(), &slow, vec![b"snapshot".to_vec()]);
        hub.publish(SESSION, None, |_| Some(b"{}".to_vec()));
        let read: Vec<_> = std::iter::from_fn(|| slow.try_next()).collect();
        assert_eq!(read, [&b"snapshot"[..], b"{}"]);
        slow.close();
        hub.publish(SESSION, None, |_| Some(b"{}".to_vec()));
        assert_eq!((hub.subscribers.len(), hub.lagged_total()), (1, 1));
    }

    #[test]
    fn slow_clients_lag_before_all_of_them_have_their_own_bound_unread() {
        let mut hub = WatchHub::default();
        let mut clients = Vec::new();
        // Each begins when the one before it has a full queue, and reads nothing.
        for lagged in 0..8 {
            clients.push(watch(&mut hub));
            let mut published = 0;
            while hub.lagged_total() == lagged {
                hub.publish(SESSION, None, |_| Some(vec![b' '; 1_000_000]));
                published += 1;
                assert!(published < 1_000, "a queue has a bound");
            }
        }
        let queued: usize =
            clients.iter().map(|client| std::iter::from_fn(|| client.try_next()).count()).sum();
        assert!(queued < 140, "{queued} MB");
    }
}

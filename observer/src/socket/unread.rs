//! What clients have not read yet: answers, of which pieces are made as they are read, and frames of those that watch. One budget
//! of bytes bounds all of it together.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::api::audience::Audience;

/// Bytes that all clients together have not read. Beyond that the client with the most loses what it has not read, of the user
/// whose clients have the most.
const UNREAD_BYTES_MAX: usize = 128 << 20;
/// Bytes of frames that wait for one client. Beyond that the client gets a `lagged` frame and a new snapshot. The frames of
/// one drain of a full ring of the default size fit, because no client's task runs during a drain.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of an answer that is one line which are passed on at a time: what was passed on does not count.
const LINE_PIECE_BYTES: usize = 32 << 10;
/// What a waiting frame takes beside its own bytes.
const FRAME_BYTES: usize = 64;

/// An answer, or a snapshot, of which each piece is made when the client is ready for it.
pub trait Pieces: Send + Sync {
    /// Makes the piece with this number, from 0, for this reader; `None`: there are no more.
    fn piece(&self, number: usize, audience: Audience) -> Option<Vec<u8>>;

    /// Bytes that it takes in memory until it was read.
    fn bytes(&self) -> usize;
}

/// An answer that is made at once, as one line.
pub struct AnswerLine(Vec<u8>);

impl From<Vec<u8>> for AnswerLine {
    fn from(line: Vec<u8>) -> Self {
        Self(line)
    }
}

impl Pieces for AnswerLine {
    fn piece(&self, number: usize, _: Audience) -> Option<Vec<u8>> {
        self.0.chunks(LINE_PIECE_BYTES).nth(number).map(<[u8]>::to_vec)
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Bytes that count until this is dropped.
struct HeldBytes {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl HeldBytes {
    fn new(bytes: usize, total: &Arc<AtomicUsize>) -> Self {
        total.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, total: Arc::clone(total) }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Pieces that count. Clients that ask the same at once share them.
pub struct HeldPieces {
    pieces: Box<dyn Pieces>,
    held: HeldBytes,
}

/// The body of a frame, which counts. The clients that get it share it.
pub struct HeldFrame {
    body: Box<[u8]>,
    held: HeldBytes,
}

/// The budget of all clients.
#[derive(Clone, Default)]
pub struct UnreadBudget {
    total: Arc<AtomicUsize>,
    clients: Arc<Mutex<Vec<Weak<Unread>>>>,
}

impl UnreadBudget {
    /// A client of the user `uid`, which has read everything.
    pub fn client(&self, uid: u32) -> Arc<Unread> {
        let client = Arc::new(Unread { uid, state: Mutex::default(), wake: Notify::new() });
        let mut clients = self.clients();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(&client));
        client
    }

    /// How many clients of the user `uid` are connected.
    pub fn connected(&self, uid: u32) -> usize {
        let is_its = |client: &Arc<Unread>| client.uid == uid && !client.state().is_closed;
        self.clients().iter().filter_map(Weak::upgrade).filter(is_its).count()
    }

    /// `pieces`, which count from here on.
    pub fn hold(&self, pieces: impl Pieces + 'static) -> Arc<HeldPieces> {
        let held = HeldBytes::new(pieces.bytes(), &self.total);
        Arc::new(HeldPieces { pieces: Box::new(pieces), held })
    }

    /// A frame with this body, which counts from here on.
    pub fn frame(&self, body: Vec<u8>) -> Arc<HeldFrame> {
        let body = body.into_boxed_slice();
        let held = HeldBytes::new(body.len() + FRAME_BYTES, &self.total);
        Arc::new(HeldFrame { body, held })
    }

    /// Bytes that clients have unread.
    pub fn bytes(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether clients have too much unread.
    pub fn is_exceeded(&self) -> bool {
        self.bytes() > UNREAD_BYTES_MAX
    }

    /// Keeps the budget: while it is exceeded, the client with the most unread bytes loses these, of the user whose clients have
    /// the most. What several clients share counts in parts. Where one client has all that is unread, whoever shares it, none
    /// loses it: an answer may be as large as the map is. Returns how many of those that lost something had taken frames.
    pub fn keep(&self) -> u64 {
        if !self.is_exceeded() {
            return 0;
        }
        let (mut shares, mut lagging) = (Shares::of(&self.clients()), 0);
        while self.is_exceeded() {
            let before = self.total.load(Ordering::Relaxed);
            let Some(client) = shares.take_largest(before) else { break };
            lagging += u64::from(client.cut_off());
            shares.freed(client.uid, before.saturating_sub(self.total.load(Ordering::Relaxed)));
        }
        lagging
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Weak<Unread>>> {
        // No code that panics runs under the lock.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which part of the unread bytes each client has, and each user.
struct Shares {
    of_clients: Vec<(UnreadBytes, Arc<Unread>)>,
    of_users: BTreeMap<u32, usize>,
}

/// The unread bytes of one client.
#[derive(Clone, Copy)]
struct UnreadBytes {
    /// All of them.
    all: usize,
    /// The same, where each client has an equal part of what several have.
    share: usize,
}

impl Shares {
    fn of(clients: &[Weak<Unread>]) -> Self {
        let clients = clients.iter().filter_map(Weak::upgrade);
        let unread = clients.map(|client| (client.unread_bytes(), client));
        let of_clients: Vec<_> = unread.filter(|&(bytes, _)| bytes.all > 0).collect();
        let mut of_users: BTreeMap<u32, usize> = BTreeMap::new();
        for (bytes, client) in &of_clients {
            *of_users.entry(client.uid).or_default() += bytes.share;
        }
        Self { of_clients, of_users }
    }

    /// Removes and returns the client with the largest part, of the user with the largest; of several the one that came last.
    /// `None` if one client has all of `total`, or nobody has anything.
    fn take_largest(&mut self, total: usize) -> Option<Arc<Unread>> {
        if self.of_clients.iter().any(|(bytes, _)| bytes.all >= total) {
            return None;
        }
        let has_some = |uid: u32| self.of_clients.iter().any(|(_, client)| client.uid == uid);
        let users = self.of_users.iter().filter(|&(&uid, _)| has_some(uid));
        let &uid = users.max_by_key(|&(_, bytes)| bytes)?.0;
        let its = self.of_clients.iter().enumerate().filter(|(_, (_, client))| client.uid == uid);
        let (at, _) = its.max_by_key(|(_, (bytes, _))| bytes.share)?;
        Some(self.of_clients.remove(at).1)
    }

    /// A client of `uid` lost what it had, of which so much was nobody else's.
    fn freed(&mut self, uid: u32, bytes: usize) {
        if let Some(of_user) = self.of_users.get_mut(&uid) {
            *of_user = of_user.saturating_sub(bytes);
        }
    }
}

/// What one client has not read yet.
pub struct Unread {
    uid: u32,
    state: Mutex<UnreadState>,
    wake: Notify,
}

/// Why nothing more comes to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadEnd {
    /// It was too slow. What follows is to begin with a new snapshot.
    Lagged,
    /// It lost an answer or a snapshot, because clients have too much unread.
    CutOff,
    /// The daemon stops.
    Stopped,
}

/// What is next for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextUnread {
    /// A piece or the body of a frame, which was passed on.
    Body,
    /// Nothing at present.
    Nothing,
    /// Nothing more.
    End(UnreadEnd),
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePushed {
    /// It waits for the client.
    Waits,
    /// The client lags from here on.
    Lags,
    /// The client takes no frames any more.
    Refused,
    /// The client has left.
    Left,
}

#[derive(Default)]
struct UnreadState {
    /// An answer or a snapshot, and the number of its next piece.
    pieces: Option<(Arc<HeldPieces>, usize)>,
    /// Frames that come after these.
    frames: VecDeque<Arc<HeldFrame>>,
    frame_bytes: usize,
    /// Frames are taken.
    is_following: bool,
    end: Option<UnreadEnd>,
    /// The client has left.
    is_closed: bool,
}

impl UnreadState {
    fn bytes(&self) -> UnreadBytes {
        let pieces = self.pieces.as_ref().map(|(pieces, _)| (pieces.held.bytes, Arc::strong_count(pieces)));
        let frames = self.frames.iter().map(|frame| (frame.held.bytes, Arc::strong_count(frame)));
        let share = pieces.into_iter().chain(frames).map(|(bytes, holders)| bytes / holders.max(1)).sum();
        UnreadBytes { all: self.frame_bytes + pieces.map_or(0, |(bytes, _)| bytes), share }
    }

    fn clear(&mut self) {
        (self.pieces, self.frames, self.frame_bytes) = (None, VecDeque::new(), 0);
        self.is_following = false;
    }
}

impl Unread {
    /// Who reads it.
    pub const fn audience(&self) -> Audience {
        Audience::of_user(self.uid)
    }

    /// An answer for the client.
    pub fn give(&self, pieces: Arc<HeldPieces>) {
        let mut state = self.state();
        state.clear();
        (state.pieces, state.end) = (Some((pieces, 0)), None);
        self.wake.notify_one();
    }

    /// A snapshot for the client, which takes frames after it.
    pub fn give_snapshot(&self, pieces: Arc<HeldPieces>) {
        self.give(pieces);
        self.state().is_following = true;
    }

    /// Adds a frame.
    pub fn push(&self, frame: &Arc<HeldFrame>) -> FramePushed {
        let mut state = self.state();
        if state.is_closed {
            return FramePushed::Left;
        }
        if !state.is_following {
            // It was cut off since the last frame, or asked something else.
            return FramePushed::Refused;
        }
        if state.frame_bytes + frame.held.bytes > QUEUE_BYTES_MAX {
            (state.is_following, state.end) = (false, Some(UnreadEnd::Lagged));
            self.wake.notify_one();
            return FramePushed::Lags;
        }
        state.frame_bytes += frame.held.bytes;
        state.frames.push_back(Arc::clone(frame));
        self.wake.notify_one();
        FramePushed::Waits
    }

    /// Passes on what is next: pieces, then frames.
    pub fn next(&self, pass_on: impl FnOnce(&[u8])) -> NextUnread {
        let mut state = self.state();
        if let Some((pieces, number)) = &mut state.pieces {
            let piece = pieces.pieces.piece(*number, self.audience());
            *number += 1;
            if let Some(piece) = piece {
                pass_on(&piece);
                return NextUnread::Body;
            }
            state.pieces = None;
        }
        if let Some(frame) = state.frames.pop_front() {
            state.frame_bytes -= frame.held.bytes;
            pass_on(&frame.body);
            return NextUnread::Body;
        }
        // Returns the memory of a storm.
        state.frames.shrink_to(64);
        state.end.map_or(NextUnread::Nothing, NextUnread::End)
    }

    /// Waits until there may be something new.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    fn unread_bytes(&self) -> UnreadBytes {
        self.state().bytes()
    }

    /// Whether frames are taken.
    pub fn is_following(&self) -> bool {
        let state = self.state();
        state.is_following && !state.is_closed
    }

    /// Whether the client has left.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// The client has left.
    pub fn close(&self) {
        let mut state = self.state();
        state.clear();
        state.is_closed = true;
    }

    /// The daemon stops: what waits is the last.
    pub fn stop(&self) {
        let mut state = self.state();
        state.is_following = false;
        state.end.get_or_insert(UnreadEnd::Stopped);
        self.wake.notify_one();
    }

    /// The client loses what it has not read. One that takes frames goes on with a new snapshot. Returns whether it took some.
    fn cut_off(&self) -> bool {
        let mut state = self.state();
        let was_following = state.is_following;
        let end = if state.pieces.is_some() { UnreadEnd::CutOff } else { UnreadEnd::Lagged };
        state.clear();
        state.end = Some(end);
        self.wake.notify_one();
        was_following
    }

    fn state(&self) -> MutexGuard<'_, UnreadState> {
        // What a panic of `piece` leaves is consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("uid", &self.uid).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Pieces for Vec<Vec<u8>> {
    fn piece(&self, number: usize, _: Audience) -> Option<Vec<u8>> {
        self.get(number).cloned()
    }

    fn bytes(&self) -> usize {
        self.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
impl Unread {
    /// Returns what is next, if there is anything.
    pub fn try_next(&self) -> Option<Vec<u8>> {
        let mut next = None;
        self.next(|body| next = Some(body.to_vec()));
        next
    }
}

#[cfg(test)]
#[path = "unread_tests.rs"]
mod tests;

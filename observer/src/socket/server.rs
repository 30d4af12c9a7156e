//! Serves clients. Each has a task of its own that reads requests, asks the event loop and writes the answers, so a client
//! that is slow delays only its own task.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use observer_core::Tgid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::{
    ClientRequest, Hello, LineBuffer, Refusal, error_line, line, parse_request, push_numbered,
};
use super::hub::WatchFilter;
use super::peer::{PeerPolicy, is_privileged};
use super::unread::{NextUnread, Unread, UnreadBudget, UnreadEnd};
use crate::api::change::{Certainty, body};
use crate::api::words::FrameKind;
use crate::{clock, heap};

/// Connections at a time.
pub const CLIENTS_MAX: usize = 64;
/// Connections that are reserved for root and the daemon's own user.
const CLIENTS_RESERVED: usize = 8;
/// Questions that wait for the event loop: one for each client.
pub const QUESTIONS_MAX: usize = CLIENTS_MAX;
/// A client that sends no complete line for this long is dropped.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// A client that accepts no byte for this long is dropped.
const STALL_MAX: Duration = Duration::from_secs(10);
/// A client that lags gets a new snapshot at most once in this time.
const RESYNC_MIN: Duration = Duration::from_secs(1);
/// Bytes of frames that are gathered into one write.
const WRITE_BYTES: usize = 64 << 10;
/// From this size on, the memory of an answer and of what it was made from is given back to the kernel once it was sent: the
/// allocator keeps some of it otherwise.
const LARGE_ANSWER_BYTES: usize = 4 << 20;

/// A question for the event loop.
#[derive(Debug)]
pub enum Question {
    /// Which sessions are there.
    List {
        /// Whether sessions that have ended are included.
        ended: bool,
    },
    /// Which processes are there.
    Processes,
    /// Which processes were left by sessions that are over.
    Leftovers,
    /// The daemon's counters, and whether the map is certain.
    Status,
    /// The counters as they are: nothing is read or healed for this answer.
    Metrics,
    /// Whether the map agrees with the kernel.
    Audit,
    /// Why the process with this tgid is a session, or is not.
    Explain(Tgid),
    /// A snapshot, and the changes that follow it.
    Watch(WatchFilter),
    /// Have the rules read again.
    Reload,
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct PendingQuestion {
    /// The question.
    pub question: Question,
    /// Who asks.
    pub client: Arc<Unread>,
    /// The client's task waits at the other end.
    pub reply: oneshot::Sender<Answer>,
}

/// An answer of the event loop.
#[derive(Debug)]
pub enum Answer {
    /// One line of bounded length, with its end. Clients that ask the same at once share it.
    Line(Bytes),
    /// The client has it unread.
    Unread,
}

/// Counters of connections since the daemon's start.
#[derive(Debug, Default)]
pub struct ClientCounters {
    /// Connections that are open.
    pub connected: AtomicU64,
    /// Connections that were made.
    pub accepted: AtomicU64,
    /// Connections refused because there are too many, or because the user has no right.
    pub refused: AtomicU64,
    /// Connections dropped because of what the client sent, or because it sent or accepted nothing.
    pub dropped: AtomicU64,
}

/// What all connections share.
pub struct SocketService {
    /// The first line of each connection.
    pub hello: Hello,
    /// Which users may ask.
    pub policy: PeerPolicy,
    /// To the event loop.
    pub questions: mpsc::Sender<PendingQuestion>,
    /// Counters of connections.
    pub counters: Arc<ClientCounters>,
    /// What clients have not read.
    pub budget: UnreadBudget,
}

/// Accepts clients for as long as the task lives.
pub async fn serve(listener: UnixListener, service: SocketService) {
    let service = Arc::new(service);
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // The process has no descriptors or memory left. Connections wait in the kernel's queue meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        service.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let uid = match admit(&stream, &service, slots.available_permits()) {
            Ok(uid) => uid,
            Err((refusal, detail)) => {
                service.counters.refused.fetch_add(1, Ordering::Relaxed);
                refuse_at_once(&stream, refusal, detail);
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let service = Arc::clone(&service);
        let unread = service.budget.client(uid);
        tokio::spawn(async move {
            service.counters.connected.fetch_add(1, Ordering::Relaxed);
            Connection::new(stream, &service, unread).run().await;
            service.counters.connected.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
}

/// The user of a connection that is served, while so many connections are free.
fn admit(
    stream: &UnixStream,
    service: &SocketService,
    free: usize,
) -> Result<u32, (Refusal, Option<String>)> {
    let peer = stream.peer_cred().map_err(|_| (Refusal::Denied, None))?;
    let uid = peer.uid();
    if !service.policy.admits(uid, peer.gid(), stream.as_fd()) {
        return Err((Refusal::Denied, None));
    }
    let own = service.budget.connected(uid);
    if has_room(is_privileged(uid), free, own) {
        return Ok(uid);
    }
    Err((Refusal::Busy, (own > 0).then(|| format!("this user has {own}"))))
}

/// Whether a user with `own` connections may have another one while so many are free. What is free for users without
/// privilege is as much as each of them may have: so one user leaves half of them to others.
const fn has_room(is_privileged: bool, free: usize, own: usize) -> bool {
    if is_privileged { free > 0 } else { free > CLIENTS_RESERVED && own < free - CLIENTS_RESERVED }
}

/// A new socket accepts a line without waiting. If it does not, the client sees only that the connection is closed.
fn refuse_at_once(stream: &UnixStream, refusal: Refusal, detail: Option<String>) {
    let _ = stream
        .try_write(&error_line(refusal, detail.as_ref().map(|detail| detail as &dyn std::fmt::Display)));
}

/// Why a connection ends.
enum End {
    /// The client left, or the stream broke.
    Gone,
    /// The client is dropped, and gets a line with the reason.
    Refused(Refusal, Option<String>),
    /// The event loop has ended.
    Stopping,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

struct Connection<'a> {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    lines: LineBuffer,
    service: &'a SocketService,
    unread: Arc<Unread>,
    /// Whether the peer is root, or the user that the daemon runs as.
    is_privileged: bool,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.unread.close();
    }
}

impl<'a> Connection<'a> {
    fn new(stream: UnixStream, service: &'a SocketService, unread: Arc<Unread>) -> Self {
        let is_privileged = stream.peer_cred().is_ok_and(|peer| is_privileged(peer.uid()));
        let (reader, writer) = stream.into_split();
        Self { reader, writer, lines: LineBuffer::default(), service, unread, is_privileged }
    }

    async fn run(mut self) {
        let Err(end) = self.serve_requests().await else { return };
        let last_line = match end {
            End::Gone => return,
            End::Refused(refusal, detail) => {
                self.service.counters.dropped.fetch_add(1, Ordering::Relaxed);
                error_line(refusal, detail.as_ref().map(|detail| detail as &dyn std::fmt::Display))
            }
            End::Stopping => error_line(Refusal::Stopping, None),
        };
        if self.write(&last_line).await.is_ok() {
            self.linger().await;
        }
    }

    /// Reads and discards what the client still sends. Closing a socket with unread input resets the connection, and the
    /// client would lose the line with the reason.
    async fn linger(&mut self) {
        let _ = self.writer.shutdown().await;
        let mut rest = [0; 4096];
        let mut left = 1 << 20;
        let deadline = Instant::now() + Duration::from_secs(1);
        while let Ok(Ok(1..)) = tokio::time::timeout_at(deadline, self.reader.read(&mut rest)).await {
            left -= rest.len();
            if left == 0 {
                return;
            }
        }
    }

    async fn serve_requests(&mut self) -> Result<(), End> {
        self.write(&line(&self.service.hello)).await?;
        loop {
            let request = self.read_request().await?;
            let question = match request {
                ClientRequest::List { ended } => Question::List { ended },
                ClientRequest::Processes {} => Question::Processes,
                ClientRequest::Leftovers {} => Question::Leftovers,
                ClientRequest::Status {} => Question::Status,
                ClientRequest::Audit {} => Question::Audit,
                ClientRequest::Explain { pid } => Question::Explain(Tgid(pid)),
                ClientRequest::Reload {} if self.is_privileged => Question::Reload,
                ClientRequest::Reload {} => return Err(End::Refused(Refusal::NotAllowed, None)),
                ClientRequest::Watch { all, glob } => {
                    let filter = WatchFilter::new(all, glob.as_deref())
                        .map_err(|why| End::Refused(Refusal::BadGlob, Some(why)))?;
                    return self.watch(filter).await;
                }
            };
            match self.ask(question).await? {
                Answer::Line(answer) => self.write(&answer).await?,
                Answer::Unread => self.write_answer().await?,
            }
        }
    }

    /// Writes an answer, of which pieces are made as the client takes them.
    async fn write_answer(&mut self) -> Result<(), End> {
        let (mut out, mut written) = (Vec::new(), 0);
        loop {
            let next = self.unread.next(|piece| out.extend_from_slice(piece));
            match next {
                NextUnread::Body if out.len() < WRITE_BYTES => continue,
                NextUnread::Body | NextUnread::Nothing => {}
                NextUnread::End(UnreadEnd::Stopped) => return Err(End::Stopping),
                NextUnread::End(_) if written == 0 => return Err(End::Refused(Refusal::Overloaded, None)),
                NextUnread::End(_) => {
                    // It has a part of the line: there is no place for a reason.
                    self.service.counters.dropped.fetch_add(1, Ordering::Relaxed);
                    return Err(End::Gone);
                }
            }
            self.write(&out).await?;
            written += out.len();
            out.clear();
            if next == NextUnread::Nothing {
                break;
            }
            // The event loop has its turn before the next pieces are made.
            yield_now().await;
        }
        drop(out);
        if written >= LARGE_ANSWER_BYTES {
            heap::give_back_after_answer();
        }
        Ok(())
    }

    async fn read_request(&mut self) -> Result<ClientRequest, End> {
        let deadline = Instant::now() + IDLE_MAX;
        loop {
            if let Some(line) = self.lines.next().map_err(|refusal| End::Refused(refusal, None))? {
                return parse_request(&line)
                    .map_err(|error| End::Refused(Refusal::BadRequest, Some(error.to_string())));
            }
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout_at(deadline, self.reader.read(&mut bytes))
                .await
                .map_err(|_| End::Refused(Refusal::Idle, None))??;
            match bytes.get(..read) {
                None | Some([]) => return Err(End::Gone),
                Some(bytes) => self.lines.push(bytes),
            }
        }
    }

    async fn ask(&self, question: Question) -> Result<Answer, End> {
        let (reply, answer) = oneshot::channel();
        let client = Arc::clone(&self.unread);
        self.service
            .questions
            .send(PendingQuestion { question, client, reply })
            .await
            .map_err(|_| End::Stopping)?;
        answer.await.map_err(|_| End::Stopping)
    }

    /// Writes a snapshot and changes until the client leaves, and begins with a new snapshot whenever the client lagged.
    async fn watch(&mut self, filter: WatchFilter) -> Result<(), End> {
        let mut seq = 0;
        loop {
            let Answer::Unread = self.ask(Question::Watch(filter.clone())).await? else {
                return Ok(());
            };
            let began = Instant::now();
            match self.follow(&mut seq).await? {
                UnreadEnd::Lagged => {}
                UnreadEnd::CutOff => return Err(End::Refused(Refusal::Overloaded, None)),
                UnreadEnd::Stopped => return Err(End::Stopping),
            }
            let certainty = Certainty { boot_id: &self.service.hello.boot_id, certain: false };
            let lagged = body(FrameKind::Lagged, clock::boottime(), clock::wall_offset_ns(), certainty);
            seq += 1;
            let mut out = Vec::new();
            push_numbered(&mut out, seq, &lagged);
            self.write(&out).await?;
            sleep_until(began + RESYNC_MIN).await;
        }
    }

    /// Writes a snapshot and changes until nothing more comes.
    async fn follow(&mut self, seq: &mut u64) -> Result<UnreadEnd, End> {
        let (mut out, mut byte) = (Vec::new(), [0; 1]);
        loop {
            let next = self.unread.next(|body| {
                *seq += 1;
                push_numbered(&mut out, *seq, body);
            });
            if next == NextUnread::Body && out.len() < WRITE_BYTES {
                continue;
            }
            if !out.is_empty() {
                self.write(&out).await?;
                out.clear();
            }
            match next {
                NextUnread::End(end) => return Ok(end),
                NextUnread::Body => {
                    yield_now().await;
                    continue;
                }
                NextUnread::Nothing => out.shrink_to(0),
            }
            tokio::select! {
                () = self.unread.changed() => {}
                read = self.reader.read(&mut byte) => match read? {
                    0 => return Err(End::Gone),
                    _ => {
                        let why = "this connection watches and takes no further request";
                        return Err(End::Refused(Refusal::BadRequest, Some(why.into())));
                    }
                },
            }
        }
    }

    /// Writes all of `bytes`, unless the client accepts none for [`STALL_MAX`].
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            let written = timeout(STALL_MAX, self.writer.write(bytes)).await;
            let written = written.inspect_err(|_| {
                self.service.counters.dropped.fetch_add(1, Ordering::Relaxed);
            });
            let written = written.map_err(|_| End::Gone)??;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;

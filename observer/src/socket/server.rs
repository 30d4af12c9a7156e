//! Serves clients: each has a task of its own that reads lines, asks the daemon's loop and writes what comes back.
//! Whatever a client does or fails to do, only its own task waits.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::frame::{Hello, Lines, Refusal, Request, error_line, line, parse_request, push_numbered};
use super::hub::{Interest, Subscription};
use super::peer::{Admission, is_privileged};
use crate::api::change::{Note, body};
use crate::clock;

/// Connections at a time.
pub const CLIENTS_MAX: usize = 64;
/// Of those, kept free for root and the daemon's own user.
const CLIENTS_RESERVED: usize = 8;
/// Questions that wait for the loop: one a client.
pub const QUESTIONS_MAX: usize = CLIENTS_MAX;
/// A client that sends no whole line for so long is dropped.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// A client that takes not a byte for so long is dropped.
const STALL_MAX: Duration = Duration::from_secs(10);
/// A client that lags is given a new snapshot at most once in this time.
const RESYNC_MIN: Duration = Duration::from_secs(1);
/// Frames are gathered to writes of about so many bytes.
const WRITE_BYTES: usize = 64 << 10;

/// What the loop is asked.
#[derive(Debug)]
pub enum Question {
    /// Sessions.
    List {
        /// Also those that have ended.
        ended: bool,
    },
    /// Processes.
    Processes,
    /// Counters.
    Status,
    /// The map against the kernel.
    Audit,
    /// A snapshot and what follows it.
    Watch(Interest),
}

/// A question and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// Who asks waits here.
    pub reply: oneshot::Sender<Answer>,
}

/// What the loop answers.
#[derive(Debug)]
pub enum Answer {
    /// One line with its end; shared by all who asked the same at once.
    Line(Bytes),
    /// To [`Question::Watch`].
    Watch(Subscription),
}

/// What clients did, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections now.
    pub connected: AtomicU64,
    /// Connections so far.
    pub accepted: AtomicU64,
    /// Turned away: too many, or not allowed.
    pub refused: AtomicU64,
    /// Dropped for what they sent, or for sending nothing.
    pub dropped: AtomicU64,
}

/// What every connection needs.
pub struct Service {
    /// First line.
    pub hello: Hello,
    /// Who may ask.
    pub admission: Admission,
    /// The loop.
    pub questions: mpsc::Sender<Asked>,
    /// What clients did.
    pub counters: Arc<Counters>,
}

/// Accepts clients for as long as the task lives.
pub async fn serve(listener: UnixListener, service: Service) {
    let service = Arc::new(service);
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors or memory: connections wait in the kernel's queue meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        service.counters.accepted.fetch_add(1, Ordering::Relaxed);
        if let Err(refusal) = admit(&stream, &service, slots.available_permits()) {
            service.counters.refused.fetch_add(1, Ordering::Relaxed);
            refuse_at_once(&stream, refusal);
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            service.counters.connected.fetch_add(1, Ordering::Relaxed);
            Connection::new(stream, &service).run().await;
            service.counters.connected.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
}

fn admit(stream: &UnixStream, service: &Service, free: usize) -> Result<(), Refusal> {
    let peer = stream.peer_cred().map_err(|_| Refusal::Denied)?;
    if !service.admission.admits(peer.uid(), peer.gid(), stream.as_fd()) {
        return Err(Refusal::Denied);
    }
    let kept_free = if is_privileged(peer.uid()) { 0 } else { CLIENTS_RESERVED };
    if free <= kept_free { Err(Refusal::Busy) } else { Ok(()) }
}

/// A fresh socket takes a line without waiting; if it does not, the client learns by the close.
fn refuse_at_once(stream: &UnixStream, refusal: Refusal) {
    let _ = stream.try_write(&error_line(refusal, None));
}

/// Why a connection ends.
enum End {
    /// The client left, or the stream broke: nobody is there to be told.
    Gone,
    /// It is dropped, and told why.
    Refused(Refusal, Option<String>),
    /// The loop is gone.
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
    lines: Lines,
    service: &'a Service,
}

impl<'a> Connection<'a> {
    fn new(stream: UnixStream, service: &'a Service) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader, writer, lines: Lines::default(), service }
    }

    async fn run(mut self) {
        let Err(end) = self.converse().await else { return };
        let told = match end {
            End::Gone => return,
            End::Refused(refusal, detail) => {
                self.service.counters.dropped.fetch_add(1, Ordering::Relaxed);
                error_line(refusal, detail.as_ref().map(|detail| detail as &dyn std::fmt::Display))
            }
            End::Stopping => error_line(Refusal::Stopping, None),
        };
        if self.write(&told).await.is_ok() {
            self.linger().await;
        }
    }

    /// Closing a socket whose input was not read resets it, and the client would lose the line that tells it why.
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

    async fn converse(&mut self) -> Result<(), End> {
        self.write(&line(&self.service.hello)).await?;
        loop {
            let request = self.read_request().await?;
            let question = match request {
                Request::List { ended } => Question::List { ended },
                Request::Processes {} => Question::Processes,
                Request::Status {} => Question::Status,
                Request::Audit {} => Question::Audit,
                Request::Watch { all, glob } => {
                    let interest = Interest::new(all, glob.as_deref())
                        .map_err(|why| End::Refused(Refusal::BadGlob, Some(why)))?;
                    return self.watch(interest).await;
                }
            };
            if let Answer::Line(answer) = self.ask(question).await? {
                self.write(&answer).await?;
            }
        }
    }

    async fn read_request(&mut self) -> Result<Request, End> {
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
        self.service.questions.send(Asked { question, reply }).await.map_err(|_| End::Stopping)?;
        answer.await.map_err(|_| End::Stopping)
    }

    /// Snapshot and changes until the client leaves; again from a new snapshot whenever it lagged.
    async fn watch(&mut self, interest: Interest) -> Result<(), End> {
        let mut seq = 0;
        loop {
            let Answer::Watch(mut subscription) = self.ask(Question::Watch(interest.clone())).await? else {
                return Ok(());
            };
            let began = Instant::now();
            let snapshot = Arc::clone(&subscription.snapshot);
            self.write_frames(&mut seq, snapshot.iter().cloned()).await?;
            drop(snapshot);
            subscription.snapshot = [].into();
            self.follow(&mut seq, &mut subscription).await?;
            if !subscription.lagged.load(Ordering::Acquire) {
                return Err(End::Stopping);
            }
            let note = Note { boot_id: &self.service.hello.boot_id, certain: false };
            let lagged = body("lagged", clock::boottime(), clock::wall_offset_ns(), note);
            self.write_frames(&mut seq, [Bytes::from(lagged)]).await?;
            sleep_until(began + RESYNC_MIN).await;
        }
    }

    /// Writes changes until there are no more of this subscription.
    async fn follow(&mut self, seq: &mut u64, subscription: &mut Subscription) -> Result<(), End> {
        let mut byte = [0; 1];
        loop {
            tokio::select! {
                change = subscription.changes.recv() => {
                    let Some(change) = change else { return Ok(()) };
                    let queued = std::iter::from_fn(|| subscription.changes.try_recv());
                    self.write_frames(seq, std::iter::once(change).chain(queued)).await?;
                }
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

    async fn write_frames(
        &mut self,
        seq: &mut u64,
        bodies: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), End> {
        let mut out = Vec::new();
        for body in bodies {
            *seq += 1;
            push_numbered(&mut out, *seq, &body);
            if out.len() >= WRITE_BYTES {
                self.write(&out).await?;
                out.clear();
            }
        }
        self.write(&out).await
    }

    /// Writes all of `bytes`, for as long as the client goes on taking some.
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

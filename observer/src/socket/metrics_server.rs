//! Serves metrics over HTTP, on a thread of its own: whatever clients do, the loop that drains the ring has at most one question
//! a second from here.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{error, info};

use super::http::{HEAD_BYTES_MAX, HttpRefusal, HttpRequest, metrics_response, refusal_response};
use super::listen::{BoundSocket, SocketClaim};
use super::metrics_address::MetricsAddress;
use super::server::{Answer, PendingQuestion, Question};
use super::unread::Unread;
use crate::api::metrics;
use crate::api::status::StatusAnswer;
use crate::clock;
use crate::text::bytes::to_line;

/// Connections at a time. The next one takes the place of the oldest.
const SCRAPES_MAX: usize = 8;
/// Connections that are accepted in a second. The others wait in the kernel's queue.
const SCRAPES_A_SECOND_MAX: u32 = 50;
/// From when a connection is accepted until it is closed.
const SCRAPE_MAX: Duration = Duration::from_secs(5);
/// How long the event loop's answer is waited for.
const NUMBERS_MAX: Duration = Duration::from_secs(3);
/// For how long an answer serves all who ask.
const SHARED_FOR: Duration = Duration::from_secs(1);
/// Bytes that are read and discarded after the response.
const REST_BYTES_MAX: u64 = 64 << 10;
/// Until it is tried again to listen.
const LISTEN_RETRY: Duration = Duration::from_secs(10);
/// How long the daemon's end waits for the thread.
const STOP_WAIT: Duration = Duration::from_millis(200);

/// Counters of connections since the daemon's start.
#[derive(Debug, Default)]
pub struct ScrapeCounters {
    /// Those that got metrics.
    pub answered: AtomicU64,
    /// Those that got an error.
    pub refused: AtomicU64,
    /// Those that were closed before they had sent a request or taken the response.
    pub cut_off: AtomicU64,
}

/// Where the numbers come from.
pub struct NumbersSource {
    /// To the event loop.
    pub questions: mpsc::Sender<PendingQuestion>,
    /// Who asks.
    pub client: Arc<Unread>,
    /// Counters of connections.
    pub counters: Arc<ScrapeCounters>,
}

/// A running listener. Dropping it ends it, and removes the path of its socket.
pub struct MetricsServer {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Starts the thread; it waits for nothing. An address that is in use is tried again: the map does not depend on it.
    pub fn start(address: MetricsAddress, source: NumbersSource) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop of the metrics; raise the limit of open files")?;
        let (stop, mut stopping) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopping.wait_for(|&stops| stops) => {}
                        () = listen(&address, Arc::new(Scrapes::new(source))) => {}
                    }
                });
            })
            .context("cannot start the thread of the metrics; raise the limit of processes (ulimit -u)")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let deadline = std::time::Instant::now() + STOP_WAIT;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Listens at the address as soon as that is possible, and serves.
async fn listen(address: &MetricsAddress, scrapes: Arc<Scrapes>) {
    let mut has_failed = false;
    let listener = loop {
        match MetricsListener::bind(address).await {
            Ok(listener) => break listener,
            Err(why) if !has_failed => {
                has_failed = true;
                let why = to_line(format!("{why:#}").as_bytes()).into_owned();
                let address = address.to_string();
                error!(
                    part = "metrics",
                    address,
                    "no metrics are served, which is tried again every {} s: {why}",
                    LISTEN_RETRY.as_secs()
                );
            }
            Err(_) => {}
        }
        sleep(LISTEN_RETRY).await;
    };
    if has_failed {
        let address = address.to_string();
        info!(part = "metrics", address, "metrics are served on {address}");
    }
    accept(&listener, scrapes).await;
}

enum MetricsListener {
    Unix {
        listener: UnixListener,
        /// Removes the path at the end.
        _bound: BoundSocket,
    },
    Loopback(TcpListener),
}

enum Stream {
    Unix(UnixStream),
    Loopback(TcpStream),
}

impl MetricsListener {
    async fn bind(address: &MetricsAddress) -> Result<Self> {
        match address {
            MetricsAddress::Unix(path) => Self::bind_unix(path),
            MetricsAddress::Loopback(address) => Self::bind_loopback(*address).await,
        }
    }

    fn bind_unix(path: &Path) -> Result<Self> {
        let bound = SocketClaim::new(path, "`listen` of [metrics]")?.bind()?;
        let listener = bound.listener.try_clone().and_then(UnixListener::from_std);
        let listener = listener.context("cannot listen; raise the limit of open files")?;
        Ok(Self::Unix { listener, _bound: bound })
    }

    async fn bind_loopback(address: SocketAddr) -> Result<Self> {
        let bound = TcpListener::bind(address).await;
        bound.map(Self::Loopback).with_context(|| {
            format!(
                "cannot listen on {address}; end what does, or choose another port with `listen` of [metrics]"
            )
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix { listener, .. } => Stream::Unix(listener.accept().await?.0),
            Self::Loopback(listener) => Stream::Loopback(listener.accept().await?.0),
        })
    }
}

/// Accepts connections for as long as the future lives.
async fn accept(listener: &MetricsListener, scrapes: Arc<Scrapes>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let (mut second, mut accepted) = (Instant::now(), 0);
    loop {
        let Ok(stream) = listener.accept().await else {
            // The process has no descriptors or memory left. Connections wait in the kernel's queue meanwhile.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        open.retain(|task| !task.is_finished());
        if open.len() >= SCRAPES_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        // Before the task runs, which may be let go of before that.
        let (scrape, scrapes) = (scrapes.accepted(), Arc::clone(&scrapes));
        let task = tokio::spawn(async move {
            match stream {
                Stream::Unix(stream) => scrapes.serve(scrape, stream).await,
                Stream::Loopback(stream) => scrapes.serve(scrape, stream).await,
            }
        });
        open.push_back(task.abort_handle());
        if second.elapsed() >= Duration::from_secs(1) {
            (second, accepted) = (Instant::now(), 0);
        }
        accepted += 1;
        if accepted >= SCRAPES_A_SECOND_MAX {
            sleep_until(second + Duration::from_secs(1)).await;
        }
    }
}

/// What all connections share.
struct Scrapes {
    source: NumbersSource,
    numbers: Mutex<Numbers>,
}

/// The last answer.
#[derive(Default)]
struct Numbers {
    text: Option<(Instant, Bytes)>,
    /// A question that is not answered yet.
    asked: Option<oneshot::Receiver<Answer>>,
}

/// A connection that counts as cut off, whoever ends it, until it is counted otherwise.
struct Scrape {
    counters: Arc<ScrapeCounters>,
    is_counted: bool,
}

impl Scrape {
    fn count(&mut self, counter: fn(&ScrapeCounters) -> &AtomicU64) {
        self.is_counted = true;
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        if !self.is_counted {
            self.count(|counters| &counters.cut_off);
        }
    }
}

impl Scrapes {
    fn new(source: NumbersSource) -> Self {
        Self { source, numbers: Mutex::default() }
    }

    /// A connection that was accepted.
    fn accepted(&self) -> Scrape {
        Scrape { counters: Arc::clone(&self.source.counters), is_counted: false }
    }

    async fn serve(&self, mut scrape: Scrape, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let exchange = async {
            let result = self.respond(&mut stream).await?;
            match result {
                Ok(()) => scrape.count(|counters| &counters.answered),
                Err(_) => scrape.count(|counters| &counters.refused),
            }
            // Closing a socket with unread input resets the connection, and the client would lose the response.
            let mut rest = stream.take(REST_BYTES_MAX);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
        };
        // Who is not served by then, or sends more, is let go of.
        let _ = timeout(SCRAPE_MAX, exchange).await;
    }

    /// Reads a request and writes its response, all of which the kernel has then.
    async fn respond(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<Result<(), HttpRefusal>> {
        let request = read_request(stream).await?;
        let numbers = match request.wants {
            Ok(()) => self.text().await.ok_or(HttpRefusal::NoNumbers),
            Err(refusal) => Err(refusal),
        };
        let response = match &numbers {
            Ok(text) => metrics_response(text, request.is_head, clock::realtime_ns()),
            Err(refusal) => refusal_response(*refusal, request.is_head, clock::realtime_ns()),
        };
        stream.write_all(&response).await?;
        stream.shutdown().await?;
        Ok(numbers.map(|_| ()))
    }

    /// The metrics, which are at most [`SHARED_FOR`] old. `None` if the event loop does not answer within [`NUMBERS_MAX`], also
    /// where another connection waits for it already.
    async fn text(&self) -> Option<Bytes> {
        let deadline = Instant::now() + NUMBERS_MAX;
        let mut numbers = timeout_at(deadline, self.numbers.lock()).await.ok()?;
        if let Some((at, text)) = &numbers.text
            && at.elapsed() < SHARED_FOR
        {
            return Some(text.clone());
        }
        let asked = match numbers.asked.take() {
            Some(asked) => asked,
            None => self.ask()?,
        };
        let asked = numbers.asked.insert(asked);
        let answer = timeout_at(deadline, asked).await.ok()?;
        numbers.asked = None;
        let Ok(Answer::Line(line)) = answer else { return None };
        let status: StatusAnswer = serde_json::from_slice(&line).ok()?;
        let text = Bytes::from(metrics::text(&status).ok()?);
        numbers.text = Some((Instant::now(), text.clone()));
        Some(text)
    }

    fn ask(&self) -> Option<oneshot::Receiver<Answer>> {
        let (reply, answer) = oneshot::channel();
        let client = Arc::clone(&self.source.client);
        let question = PendingQuestion { question: Question::Metrics, client, reply };
        self.source.questions.try_send(question).ok()?;
        Some(answer)
    }
}

/// Reads the head of a request. An error where the stream ends before it does.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<HttpRequest> {
    let mut bytes = Vec::new();
    loop {
        let read = bytes.len();
        let room = HEAD_BYTES_MAX.saturating_sub(read) as u64;
        if (&mut *stream).take(room.min(1024)).read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(request) = HttpRequest::parse(&bytes, read) {
            return Ok(request);
        }
    }
}

#[cfg(test)]
#[path = "metrics_server_tests.rs"]
mod tests;

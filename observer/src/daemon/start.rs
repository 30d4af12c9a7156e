//! The daemon's start: from nothing to ready, and its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Uid;
use observer_common::hooks::Fact;
use observer_core::session::State;
use observer_core::{Core, Settings};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::behind::TimeBehind;
use super::birth_history::BirthHistory;
use super::canary::{self, Canary};
use super::ending::end;
use super::event_loop::{EventLoop, EventSources, LoopEvent};
use super::memory::MemoryReads;
use super::mirror_link::{MirrorLink, announced};
use super::notify::{StatusLine, notify};
use super::options::{DaemonOptions, JournalPlace, PathChoice, RuleSet};
use super::owners::OwnerLookups;
use super::pass_rest::PassRest;
use super::reread;
use super::resident::{PieceRead, ResidentReads};
use super::sink::DaemonSink;
use super::sleep::SleepMode;
use super::{log_repeats, logging};
use crate::api::status::PassCounts;
use crate::api::words::JournalState;
use crate::journal::{Journal, JournalOptions};
use crate::kernel::{self, Drained, Kernel, MemoryReader};
use crate::socket::frame::{Hello, PROTOCOL};
use crate::socket::listen::{BoundSocket, SocketClaim};
use crate::socket::metrics_address::MetricsAddress;
use crate::socket::metrics_server::{MetricsServer, NumbersSource};
use crate::socket::peer::PeerPolicy;
use crate::socket::server::{self, ClientCounters, PendingQuestion, QUESTIONS_MAX, SocketService};
use crate::text::bytes::to_line;
use crate::{boot, clock};

/// Passes at the start: the first, one for what the core requests after it, and one more.
const START_PASSES_MAX: usize = 3;
/// How long the start waits for arguments of processes that are older than the daemon, and then for owners of homes.
const START_WAIT: Duration = Duration::from_secs(2);
/// Threads that look up owners of homes.
const BLOCKING_THREADS_MAX: usize = 4;

/// Runs the daemon until SIGTERM, SIGINT, or the end of the terminal that it was started on.
pub fn run(options: DaemonOptions) -> Result<()> {
    logging::start(options.log_level, options.log_format, options.kernel.program_log)?;
    options.rules.log_warnings();
    let boot_id = boot::boot_id()?;
    let claim = SocketClaim::new(&options.socket, "--socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the event loop; raise the limit of open files")?;
    let result = runtime.block_on(start(options, claim, boot_id));
    // A look-up that hangs on a dead file system must not keep the process.
    runtime.shutdown_background();
    result
}

async fn start(options: DaemonOptions, claim: SocketClaim, boot_id: String) -> Result<()> {
    // Before the programs are loaded: a signal during the start then stops it in order.
    let (stopper, stop) = mpsc::channel(1);
    stop_on_signals(&stopper)?;
    tokio::spawn(log_repeats::report());
    let (reload, rules_read) = reread::start(options.read_rules, stopper)?;
    let kernel = Kernel::start(&options.kernel)?;
    // Rights belong to a thread, so they are dropped while there is only one.
    kernel::drop_rights().context("cannot give up rights that are needed no longer; report this")?;
    let entries_for = options.journal.entries_for;
    let journal = open_journal(options.journal, &boot_id, options.mirror.is_some())?;
    let (mut daemon, mut events, asked) =
        assemble(kernel, journal, options.rules, options.env, boot_id.clone(), stop)?;
    events.rules = rules_read;
    daemon.sink.entries_for = entries_for;
    if !daemon.first_passes(&mut events).await? {
        return Ok(());
    }
    daemon.config = options.config;
    daemon.reload = Some(reload);
    daemon.canary = Canary::new(options.canary_interval);
    (daemon.mirror, events.maps) = MirrorLink::start(options.mirror, daemon.sink.journal.as_ref(), &boot_id)?;
    let bound = claim.bind()?;
    let address = options.metrics;
    let metrics =
        address.clone().map(|address| serve_metrics(address, &daemon, asked.clone())).transpose()?;
    let server = serve_clients(&bound, &daemon, boot_id, asked)?;
    daemon.ready_at = clock::boottime();
    daemon.canary.begin(Instant::now(), daemon.ready_at)?;
    daemon.announce(&bound, address.as_ref());
    events.is_serving = true;
    let (signal, since) = daemon.serve(&mut events).await;
    info!(part = "daemon", signal, "{signal}: stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    server.abort();
    drop(metrics);
    drop(bound);
    end(daemon.sink.journal.take(), daemon.mirror, since);
    log_repeats::report_pending();
    Ok(())
}

/// Opens the journal. Where a default path cannot be used, the result is why there is no journal: the map does not depend
/// on one.
fn open_journal(place: JournalPlace, boot_id: &str, delivers: bool) -> Result<Result<Journal, String>> {
    let options = JournalOptions {
        path: place.path,
        max_bytes: place.max_bytes,
        max_age: place.max_age,
        boot_id: boot_id.into(),
        delivers,
    };
    match Journal::open(options) {
        Err(error) if place.choice == PathChoice::Default => {
            let why = format!("{error:#}");
            warn!(
                part = "journal",
                state = JournalState::Off.as_str(),
                "no history is kept: {}",
                to_line(why.as_bytes())
            );
            Ok(Err(why))
        }
        result => result.map(Ok),
    }
}

/// Makes the event loop's state and its sources of events. Questions of clients come through the sender.
fn assemble(
    kernel: Kernel,
    journal: Result<Journal, String>,
    RuleSet { rules, ignored, labels, warnings: _ }: RuleSet,
    env: Vec<String>,
    boot_id: String,
    stop: mpsc::Receiver<&'static str>,
) -> Result<(EventLoop, EventSources, mpsc::Sender<PendingQuestion>)> {
    let ring = kernel
        .ring_fd()
        .try_clone_to_owned()
        .context("cannot duplicate the ring's descriptor; raise the limit of open files")?;
    // SAFETY: the OwnedFd stays open, and the same descriptor, for as long as the AsyncFd owns it.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .context("cannot wait for the ring; report this")?;
    let reader = kernel.memory_reader();
    let host_mnt_ns = reader.host_mnt_ns();
    let resident = resident_reads(reader.clone());
    // A pass that fails there fails in the event loop too, which reports it.
    let (memory_reads, memory) = MemoryReads::new(Arc::new(move |wanted, patience, progress| {
        reader.read(wanted, patience, progress).unwrap_or_default()
    }));
    let (owners, found) = OwnerLookups::new();
    let (asked, questions) = mpsc::channel(QUESTIONS_MAX);
    let env = env.into_iter().map(String::into_bytes).collect();
    let opened = journal.as_ref().map(Journal::opened).unwrap_or_default();
    let events = EventSources {
        ring,
        questions,
        memory,
        owners: found,
        journal: opened,
        maps: mpsc::channel(1).1,
        rules: mpsc::channel(1).1,
        stop,
        is_serving: false,
    };
    let awaits_oom_marks = kernel.sources().iter().any(|source| source.fact == Fact::Oom);
    let settings =
        Settings { rules, ignored, env, labels, host_mnt_ns, awaits_oom_marks, awaits_known: true };
    let mut daemon = EventLoop {
        config: None,
        kernel,
        core: Core::new(settings),
        sink: DaemonSink::new(boot_id),
        journal_off: journal.as_ref().err().cloned(),
        memory_reads,
        owners,
        sleep_mode: SleepMode::Idle,
        found: Drained::default(),
        drops_seen: 0,
        counters_due: None,
        passes: PassCounts::default(),
        pass_ok: true,
        pass_rest: PassRest::default(),
        clients: Arc::default(),
        scrapes: Arc::default(),
        ready_at: clock::boottime(),
        postponed: Vec::new(),
        canary: Canary::new(canary::INTERVAL_DEFAULT),
        behind: TimeBehind::default(),
        status_line: StatusLine::default(),
        births: journal.as_ref().map(|_| BirthHistory::unread(clock::boottime())).unwrap_or_default(),
        reload: None,
        mirror: MirrorLink::Off(None),
    };
    daemon.sink.journal = journal.ok();
    daemon.sink.resident = resident;
    Ok((daemon, events, asked))
}

/// Has the kernel asked how many pages processes have resident.
fn resident_reads(memory: MemoryReader) -> ResidentReads {
    ResidentReads::new(Box::new(move || {
        let mut read = memory.resident_pages().ok()?;
        Some(Box::new(move |pages| match read(pages) {
            Ok(true) => PieceRead::More,
            Ok(false) => PieceRead::Last,
            Err(_) => PieceRead::Failed,
        }))
    }))
}

/// Starts the task that accepts clients.
fn serve_clients(
    bound: &BoundSocket,
    daemon: &EventLoop,
    boot_id: String,
    questions: mpsc::Sender<PendingQuestion>,
) -> Result<JoinHandle<()>> {
    let listener = bound
        .listener
        .try_clone()
        .and_then(UnixListener::from_std)
        .context("cannot listen; raise the limit of open files")?;
    let version = env!("CARGO_PKG_VERSION").into();
    let hello = Hello { observer: version, protocol: PROTOCOL, boot_id, pid: std::process::id() };
    let policy = PeerPolicy { group: bound.group };
    let counters: Arc<ClientCounters> = Arc::clone(&daemon.clients);
    let budget = daemon.sink.hub.budget().clone();
    Ok(tokio::spawn(server::serve(listener, SocketService { hello, policy, questions, counters, budget })))
}

/// Starts the thread that serves metrics.
fn serve_metrics(
    address: MetricsAddress,
    daemon: &EventLoop,
    questions: mpsc::Sender<PendingQuestion>,
) -> Result<MetricsServer> {
    let client = daemon.sink.hub.budget().client(Uid::effective().as_raw());
    MetricsServer::start(address, NumbersSource { questions, client, counters: Arc::clone(&daemon.scrapes) })
}

impl EventLoop {
    /// Runs the first passes, and reads arguments of older processes as far as they come within [`START_WAIT`]. The
    /// sessions follow from that and from what the journal knows. Returns false if a signal came.
    async fn first_passes(&mut self, events: &mut EventSources) -> Result<bool> {
        self.before_first_pass();
        for _ in 0..START_PASSES_MAX {
            self.pass();
            anyhow::ensure!(
                self.pass_ok,
                "the processes could not be read; run `observer doctor` to see what this machine lacks"
            );
            self.perform();
            if self.sink.pass.is_none_or(|pass| pass.not_before > clock::boottime()) {
                break;
            }
        }
        if !self.wait_until(Instant::now() + START_WAIT, events, |it| it.memory_reads.is_done()).await {
            return Ok(false);
        }
        // A rule may admit a process by its program, which its arguments tell. What happened during the wait comes first.
        self.drain_to(self.kernel.producer_position());
        self.resume();
        self.tick(clock::boottime());
        self.perform();
        // Sessions, which there are from here on, request owners of homes. Who delays the reader of arguments takes nothing
        // from the time for these.
        let goes_on = self.wait_until(Instant::now() + START_WAIT, events, |it| it.owners.is_done()).await;
        if !goes_on {
            self.write_all();
        }
        Ok(goes_on)
    }

    /// Applies what other threads read until `is_done`, but no longer than `deadline`. Returns false if a signal came.
    async fn wait_until(
        &mut self,
        deadline: Instant,
        events: &mut EventSources,
        is_done: impl Fn(&Self) -> bool,
    ) -> bool {
        while !is_done(self) && Instant::now() < deadline {
            let due = self.memory_reads.due().map_or(deadline, |due| due.min(deadline));
            match events.next(Some(due), false).await {
                LoopEvent::Memory(outcome) => self.memory_read(outcome),
                LoopEvent::Owner(found) => {
                    self.drain_to(self.kernel.producer_position());
                    self.owner_found(&found);
                    self.perform();
                }
                LoopEvent::Stop(_) => return false,
                LoopEvent::Timer => self.perform(),
                LoopEvent::Ring
                | LoopEvent::Asked(_)
                | LoopEvent::Map(_)
                | LoopEvent::Rules(_)
                | LoopEvent::Journal => {}
            }
        }
        true
    }

    /// Reports that the daemon is ready, to people and to the service manager.
    fn announce(&mut self, bound: &BoundSocket, metrics: Option<&MetricsAddress>) {
        let sessions = self.core.sessions().filter(|(session, _)| session.state != State::Ended).count();
        println!("observer {} is ready", env!("CARGO_PKG_VERSION"));
        println!("  socket     {}", to_line(bound.path().as_os_str().as_encoded_bytes()));
        println!("  found      {} processes, {sessions} sessions", self.core.process_count());
        if let Some(journal) = &self.sink.journal {
            println!("  journal    {}", to_line(journal.path().as_os_str().as_encoded_bytes()));
        }
        if let Some(line) = announced(&self.mirror) {
            println!("{line}");
        }
        if let Some(address) = metrics {
            println!("  metrics    {address}");
        }
        println!("  ring       {} KiB", self.kernel.ring_usage().1 / 1024);
        println!("  hooks      {} in use; `observer status` lists them", self.kernel.sources().len());
        if let Some(facts) = facts_with_blind_spots(self.kernel.blind_spots()) {
            println!("  not seen   some changes of {facts}; `observer status` says which");
        }
        notify(&[sd_notify::NotifyState::Ready]);
        self.notify_status();
        self.log_hooks();
    }

    fn log_hooks(&self) {
        for hook in self.kernel.sources() {
            let kernel::FactSource { fact, source, why, fallback } = hook;
            let fact = fact.name();
            debug!(fact, source, why, fallback, "{fact} comes from {source}: {}", reason(why));
        }
        for kernel::BlindSpot { fact, what, .. } in self.kernel.blind_spots() {
            let fact = fact.name();
            debug!(fact, what, "not seen of {fact}: {what}");
        }
    }
}

fn reason(why: &str) -> &str {
    if why.is_empty() { "the best source" } else { why }
}

/// The facts that have blind spots, once each; `None` if there are none.
fn facts_with_blind_spots(spots: &[kernel::BlindSpot]) -> Option<String> {
    let mut facts: Vec<&str> = Vec::new();
    for spot in spots {
        if !facts.contains(&spot.fact.name()) {
            facts.push(spot.fact.name());
        }
    }
    (!facts.is_empty()).then(|| facts.join(", "))
}

/// Sends the names of signals that ask the daemon to stop, as they come.
fn stop_on_signals(stopper: &mpsc::Sender<&'static str>) -> Result<()> {
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
        let mut signals = signal(kind).with_context(|| format!("cannot handle {name}; report this"))?;
        let stopper = stopper.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if stopper.send(name).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

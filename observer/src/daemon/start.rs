//! From nothing to ready, and out again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use observer_core::Settings;
use observer_core::session::State;
use observer_core::{BootTime, Core};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::mirror::{Link, announced};
use super::{Daemon, Edge, Event, Events, Owners, Phase, Readings, memory};
use crate::config::Config;
use crate::journal::{self, Journal};
use crate::kernel::{self, Drained, Kernel};
use crate::socket::frame::{Hello, PROTOCOL};
use crate::socket::listen::{Bound, Claim};
use crate::socket::peer::Admission;
use crate::socket::server::{self, Counters, QUESTIONS_MAX, Service};
use crate::text::bytes::to_line;
use crate::{boot, clock};

/// Passes at the start: the first, one for what the core asks on it, one more.
const START_PASSES_MAX: usize = 3;
/// How long the start waits for arguments of processes that are older than the daemon.
const ARGV_WAIT: Duration = Duration::from_secs(2);
/// Threads that look up owners of homes.
const BLOCKING_THREADS_MAX: usize = 4;

/// What the daemon is started with.
pub struct Options {
    /// The configuration.
    pub config: Config,
    /// Where to listen.
    pub socket: PathBuf,
    /// Where to keep the journal.
    pub journal: JournalOptions,
    /// Which database to mirror to, if any.
    pub mirror: crate::config::Mirror,
    /// Size of the ring, bytes.
    pub ring_bytes: u32,
    /// Pass the programs' own diagnostics on.
    pub program_log: bool,
    /// Type information in place of the kernel's own.
    pub btf: Option<PathBuf>,
    /// Where to take facts from that more than one hook can tell.
    pub hooks: kernel::HookChoice,
}

/// Where to keep the journal, and how much of it.
pub struct JournalOptions {
    /// The file.
    pub path: PathBuf,
    /// Somebody chose the path: the daemon does not start without it.
    pub chosen: bool,
    /// Bytes on the disk.
    pub max_bytes: u64,
    /// An entry's age.
    pub max_age: Duration,
    /// There is a mirror.
    pub delivers: bool,
}

impl JournalOptions {
    /// Opens it. A default place that is somebody else's is told; without a journal the map is as true.
    fn open(&self, boot_id: &str) -> Result<Result<Journal, String>> {
        let options = journal::Options {
            path: self.path.clone(),
            max_bytes: self.max_bytes,
            max_age: self.max_age,
            boot_id: boot_id.into(),
            delivers: self.delivers,
        };
        match Journal::open(options) {
            Err(error) if !self.chosen => {
                eprintln!("observer: warning: no history is kept: {error:#}");
                Ok(Err(format!("{error:#}")))
            }
            result => result.map(Ok),
        }
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(options: Options) -> Result<()> {
    let boot_id = boot::boot_id()?;
    let claim = Claim::new(&options.socket)?;
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

async fn start(options: Options, claim: Claim, boot_id: String) -> Result<()> {
    // Before the programs: a signal during the start stops it in order.
    let stop = signals()?;
    let kernel_options = kernel::KernelOptions {
        ring_bytes: options.ring_bytes,
        program_log: options.program_log,
        btf: options.btf,
        hooks: options.hooks,
    };
    let kernel = Kernel::start(&kernel_options)?;
    // While there is one thread: each has its own.
    kernel::drop_rights().context("cannot give up rights that are needed no longer; report this")?;
    let journal = options.journal.open(&boot_id)?;
    let ring = kernel
        .ring_fd()
        .try_clone_to_owned()
        .context("cannot duplicate the ring's descriptor; raise the limit of open files")?;
    // SAFETY: the OwnedFd stays open, and the same descriptor, for as long as the AsyncFd owns it.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .context("cannot wait for the ring; report this")?;
    let reader = kernel.memory_reader();
    let host_mnt_ns = reader.host_mnt_ns();
    // A pass that fails there fails in the loop too, which tells.
    let read = move |wanted: &[memory::Wanted]| reader.read(wanted).unwrap_or_default();
    let (readings, memory) = Readings::new(Arc::new(read));
    let (owners, found) = Owners::new();
    let (asked, questions) = mpsc::channel(QUESTIONS_MAX);
    let clients = Arc::new(Counters::default());
    let core = Core::new(Settings {
        rules: options.config.rules,
        env: options.config.env.into_iter().map(String::into_bytes).collect(),
        host_mnt_ns,
    });
    let news = journal.as_ref().map(Journal::news).unwrap_or_default();
    let mut events =
        Events { ring, questions, memory, owners: found, journal: news, maps: mpsc::channel(1).1, stop };
    let mut daemon = Daemon {
        kernel,
        core,
        edge: Edge::new(boot_id.clone()),
        journal_off: journal.as_ref().err().cloned(),
        readings,
        owners,
        phase: Phase::Idle,
        found: Drained::default(),
        drops_seen: 0,
        counters_due: None,
        passes: Default::default(),
        pass_ok: true,
        rested_at: BootTime(0),
        clients: Arc::clone(&clients),
        ready_at: clock::boottime(),
        mirror: Link::Off(None),
    };
    daemon.edge.journal = journal.ok();
    if !daemon.first_look(&mut events).await? {
        return Ok(());
    }
    (daemon.mirror, events.maps) = Link::start(options.mirror, daemon.edge.journal.as_ref(), &boot_id)?;
    let bound = claim.bind()?;
    let listener = bound
        .listener
        .try_clone()
        .and_then(UnixListener::from_std)
        .context("cannot listen; raise the limit of open files")?;
    let hello = Hello {
        observer: env!("CARGO_PKG_VERSION").into(),
        protocol: PROTOCOL,
        boot_id,
        pid: std::process::id(),
    };
    let admission = Admission { group: bound.group };
    let server = tokio::spawn(server::serve(
        listener,
        Service { hello, admission, questions: asked, counters: clients },
    ));
    daemon.ready_at = clock::boottime();
    daemon.announce(&bound);
    let signal = daemon.serve(&mut events).await;
    eprintln!("observer: {signal}: stopping");
    notify(sd_notify::NotifyState::Stopping);
    server.abort();
    drop(bound);
    Ok(())
}

impl Daemon {
    /// The first passes, and arguments of older processes as far as they come in time; false if a signal came.
    async fn first_look(&mut self, events: &mut Events) -> Result<bool> {
        self.before_first_look();
        for _ in 0..START_PASSES_MAX {
            self.pass();
            anyhow::ensure!(
                self.pass_ok,
                "the processes could not be read; run `observer doctor` to see what this machine lacks"
            );
            self.perform();
            if self.edge.pass.is_none_or(|pass| pass.not_before > clock::boottime()) {
                break;
            }
        }
        self.resume();
        let deadline = Instant::now() + ARGV_WAIT;
        while !self.readings.is_done() && Instant::now() < deadline {
            match events.next(Some(deadline), false).await {
                Event::Memory(outcome) => self.memory_read(outcome),
                Event::Owner(found) => self.owner_found(&found),
                Event::Stop(_) => return Ok(false),
                Event::Journal => self.resume(),
                Event::Ring | Event::Timer | Event::Asked(_) | Event::Map(_) => {}
            }
        }
        self.tick(clock::boottime());
        self.perform();
        Ok(true)
    }

    /// Says what is there, to people and to the service manager.
    fn announce(&self, bound: &Bound) {
        let sessions = self.core.sessions().filter(|(session, _)| session.state != State::Ended).count();
        println!("observer {} is ready", env!("CARGO_PKG_VERSION"));
        println!("  socket     {}", bound.path().display());
        println!("  found      {} processes, {sessions} sessions", self.core.process_count());
        if let Some(journal) = &self.edge.journal {
            println!("  journal    {}", to_line(journal.path().as_os_str().as_encoded_bytes()));
        }
        if let Some(line) = announced(&self.mirror) {
            println!("{line}");
        }
        println!("  ring       {} KiB", self.kernel.ring_usage().1 / 1024);
        for line in attached(self.kernel.sources()) {
            println!("  {line}");
        }
        for spot in self.kernel.blind_spots() {
            println!("  not seen   {}: {}", spot.fact, spot.what);
        }
        notify(sd_notify::NotifyState::Ready);
    }
}

/// A line for each fact: where it comes from, and why not from somewhere better.
fn attached(hooks: &[kernel::FactSource]) -> Vec<String> {
    let mut facts: Vec<(&str, Vec<&str>, &str)> = Vec::new();
    for hook in hooks {
        match facts.iter_mut().find(|(fact, _, why)| *fact == hook.fact && *why == hook.why) {
            Some((_, sources, _)) => sources.push(&hook.source),
            None => facts.push((hook.fact, vec![&hook.source], &hook.why)),
        }
    }
    let line = |(fact, sources, why): (&str, Vec<&str>, &str)| {
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        format!("{fact}: {}{why}", sources.join(", "))
    };
    facts.into_iter().map(line).collect()
}

/// Names of signals that ask to stop, as they come.
fn signals() -> Result<mpsc::Receiver<&'static str>> {
    let (sender, stop) = mpsc::channel(1);
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
        let mut signals = signal(kind).with_context(|| format!("cannot handle {name}; report this"))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send(name).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(stop)
}

/// Tells the service manager, if there is one.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        eprintln!(
            "observer: warning: the service manager could not be told ({error}); look at NOTIFY_SOCKET"
        );
    }
}

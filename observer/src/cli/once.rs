//! Commands without a daemon: one pass over the kernel's processes fills a map of the command's own.

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use observer_core::Settings;
use observer_core::audit::{Audit, AuditReport};
use observer_core::session::Home;
use observer_core::{BootTime, Change, Core, Input, ProcessKey, Request, Sink};

use super::exit::{Exit, Failure};
use super::places::{Places, warn_of};
use crate::api::Context;
use crate::api::answer::ListAnswer;
use crate::api::audience::Audience;
use crate::config::Config;
use crate::daemon::answers::{self, AnswerTime, SessionSources};
use crate::daemon::ends::RecordedEnds;
use crate::daemon::owners::{OwnerFound, read_owner};
use crate::daemon::previous::{PreviousSessions, known_primaries};
use crate::daemon::resume::Resumption;
use crate::journal::JournalReader;
use crate::kernel::{Look, MemoryRead, MemoryReader, ReadScope, ReadingProgress};
use crate::{boot, clock, kernel};

/// How long a command waits for arguments, whose reading a process can delay.
const ARGV_WAIT: Duration = Duration::from_secs(2);
/// How long it waits of that for all of them together.
const ALL_AT_ONCE_WAIT: Duration = Duration::from_millis(300);
/// Groups in which they are read otherwise, each by a thread.
const MEMORY_READERS_MAX: usize = 64;
/// How long a command waits for the owners of homes, whose file systems may not answer.
const OWNERS_WAIT: Duration = Duration::from_secs(2);
/// Threads that read owners: as many may hang before no other owner is read.
const OWNER_READERS_MAX: usize = 8;

/// A sink that ignores changes and collects what the core requests.
#[derive(Default)]
struct Requests {
    /// Processes whose memory is to be read.
    memory: Vec<ProcessKey>,
    /// Homes whose owners are to be read.
    owners: Vec<Home>,
}

impl Sink for Requests {
    fn change(&mut self, _: BootTime, _: Change<'_>) {}

    fn request(&mut self, request: Request<'_>) {
        match request {
            Request::Memory(key) => self.memory.push(key),
            Request::HomeOwner(home) => self.owners.push(Home::clone(home)),
            _ => {}
        }
    }
}

/// A map that one pass filled.
pub struct StandaloneMap {
    /// The map.
    pub core: Core,
    look: Look,
    boot_id: String,
    wall_offset_ns: i64,
    ends: RecordedEnds,
}

impl StandaloneMap {
    /// Fills a map, with the rules of the configuration file `config` and the kernel's layout from `btf`, if these are given. Needs
    /// the rights to load kernel programs.
    pub fn take(config: Option<&Path>, btf: Option<&Path>) -> anyhow::Result<Self> {
        Self::take_with(Config::load(config)?, None, btf)
    }

    /// The same, with the rules and the journal of `places`.
    pub fn take_at(places: Places, btf: Option<&Path>) -> anyhow::Result<Self> {
        Self::take_with(places.config, places.journal, btf)
    }

    /// The same, with the rules of `config`. Sessions that `journal` knows go on, as in a daemon that is started again.
    pub fn take_with(
        config: Config,
        journal: Option<JournalReader>,
        btf: Option<&Path>,
    ) -> anyhow::Result<Self> {
        warn_of(&config);
        let boot_id = boot::boot_id()?;
        let resumed = journal.as_ref().map(|journal| journal.resumed(&boot_id)).transpose()?;
        let mut previous = PreviousSessions::default();
        if let Some(resumed) = &resumed {
            previous.expect_deaths(known_primaries(&resumed.live, &boot_id));
        }
        let wall_offset_ns = clock::wall_offset_ns();
        let mut requests = Requests::default();
        let look = Look::load(btf).map_err(no_rights)?;
        let reader = look.memory_reader();
        let mut core = Core::new(Settings {
            rules: config.rules,
            ignored: config.ignored,
            env: config.env.into_iter().map(String::into_bytes).collect(),
            labels: config.labels,
            host_mnt_ns: reader.host_mnt_ns(),
            awaits_oom_marks: false,
            awaits_known: resumed.is_some(),
        });
        core.set_wall_offset(wall_offset_ns);
        let snapshot = look.snapshot();
        snapshot.rows(|input| previous.observe(&input));
        apply(&mut core, &snapshot, &mut requests);
        snapshot.into_result().map_err(no_rights)?;
        let Requests { memory, owners } = requests;
        let mut requests = Requests { memory: Vec::new(), owners };
        read_memory(&mut core, &reader, memory, &mut requests);
        let mut ends = RecordedEnds::default();
        if let Some(resumed) = resumed {
            let resumption = Resumption::new(&resumed, &boot_id, wall_offset_ns, Audience::Anyone);
            resumption.restore(&mut core, &mut requests);
            let found = resumption.differences(&core, &previous).entries;
            ends.add(resumed, &found, &boot_id);
        }
        core.handle(Input::Tick { at: clock::boottime() }, &mut requests);
        read_owners(&mut core, requests);
        Ok(Self { core, look, boot_id, wall_offset_ns, ends })
    }

    /// The answer to `list`: sessions by name, then home; those that have ended only if `ended`, of which the journal knows the
    /// newest of this boot.
    pub fn list(&self, ended: bool) -> ListAnswer<'_> {
        let sources = SessionSources { core: &self.core, ends: &self.ends };
        answers::list(sources, self.answer_time(), ended)
    }

    /// Applies a second pass to the map, and compares the map with it.
    pub fn audit(&mut self) -> anyhow::Result<AuditReport> {
        let core = &mut self.core;
        let snapshot = self.look.snapshot();
        apply(core, &snapshot, &mut Requests::default());
        let mut audit = Audit::new(snapshot.began());
        snapshot.rows(|input| {
            if let Input::PassRow(row) = input {
                audit.row(core, &row);
            }
        });
        snapshot.into_result().map_err(no_rights)?;
        let mut report = audit.finish(core);
        // A process that died between the passes stays in the map until a third pass misses it too.
        report.surplus.clear();
        Ok(report)
    }

    /// The time and certainty of an answer that is made now.
    pub fn answer_time(&self) -> AnswerTime<'_> {
        AnswerTime {
            at: clock::boottime(),
            wall_offset_ns: self.wall_offset_ns,
            // Whoever may load kernel programs can read the memory of any process.
            context: Context {
                boot_id: &self.boot_id,
                certain: !self.core.in_gap(),
                audience: Audience::Root,
            },
        }
    }
}

fn apply(core: &mut Core, snapshot: &kernel::Snapshot, requests: &mut Requests) {
    core.handle(snapshot.begin(), requests);
    snapshot.rows(|input| core.handle(input, requests));
    core.handle(snapshot.end(), requests);
}

/// The error of a command that could not read the kernel.
fn no_rights(error: anyhow::Error) -> Failure {
    Failure {
        exit: Exit::Unknown,
        message: format!(
            "no daemon runs, and the kernel could not be read without one: {error:#}. Start the daemon with `observer \
             run`, or see what `observer doctor` says"
        ),
    }
}

/// Reads arguments and environment of the requested processes, as far as they come within [`ARGV_WAIT`]. Where the memory of one
/// does not answer, those that are read together with it are missing, so those that may not answer are read in small groups.
fn read_memory(core: &mut Core, reader: &MemoryReader, keys: Vec<ProcessKey>, requests: &mut Requests) {
    let env =
        |key| core.has_labels() || core.process_by_key(key).is_some_and(|process| process.tty.is_some());
    let mut wanted: Vec<_> = keys.into_iter().map(|key| (key, env(key))).collect();
    let give_up = Instant::now() + ARGV_WAIT;
    let at_once = Instant::now() + ALL_AT_ONCE_WAIT;
    let mut found = Vec::new();
    if let Some(read) = read_groups(reader, &wanted, wanted.len(), ReadScope::Resident, at_once) {
        found = read.memories;
        wanted.retain(|(key, _)| read.absent.contains(key));
    }
    let group = wanted.len().div_ceil(MEMORY_READERS_MAX);
    found.extend(
        read_groups(reader, &wanted, group, ReadScope::Any, give_up)
            .into_iter()
            .flat_map(|read| read.memories),
    );
    for memory in found {
        core.handle(memory.input(), requests);
    }
}

/// Reads arguments and environment, each group in a thread of its own. `None`: no group was read by then.
fn read_groups(
    reader: &MemoryReader,
    wanted: &[(ProcessKey, bool)],
    group: usize,
    patience: ReadScope,
    give_up: Instant,
) -> Option<MemoryRead> {
    let (found, reads) = channel();
    let mut awaited = 0;
    for group in wanted.chunks(group.max(1)) {
        let (reader, group, found) = (reader.clone(), group.to_vec(), found.clone());
        let read = move || {
            let read = reader.read(&group, patience, &ReadingProgress::default());
            found.send(read.unwrap_or_default())
        };
        awaited += usize::from(thread::Builder::new().spawn(read).is_ok());
    }
    let mut all: Option<MemoryRead> = None;
    for _ in 0..awaited {
        let Ok(read) = reads.recv_timeout(give_up.saturating_duration_since(Instant::now())) else {
            break;
        };
        let all = all.get_or_insert_default();
        all.memories.extend(read.memories);
        all.absent.extend(read.absent);
    }
    all
}

/// Reads the owners of the requested homes, as far as they come within [`OWNERS_WAIT`], and of those that are requested
/// because of them. What does not come is undecided.
fn read_owners(core: &mut Core, mut requests: Requests) {
    let (wanted, homes) = channel();
    let homes = Arc::new(Mutex::new(homes));
    let (results, found) = channel();
    for _ in 0..OWNER_READERS_MAX.min(requests.owners.len()) {
        let (homes, results) = (Arc::clone(&homes), results.clone());
        let next = move || homes.lock().ok()?.recv().ok();
        let read = move || std::iter::from_fn(next).try_for_each(|home| results.send(read_owner(home)).ok());
        if thread::Builder::new().spawn(read).is_err() {
            break;
        }
    }
    let give_up = Instant::now() + OWNERS_WAIT;
    let mut awaited = 0_usize;
    loop {
        for home in requests.owners.drain(..) {
            awaited += usize::from(wanted.send(home).is_ok());
        }
        if awaited == 0 {
            return;
        }
        let Ok(answer) = found.recv_timeout(give_up.saturating_duration_since(Instant::now())) else {
            return;
        };
        awaited -= 1;
        let OwnerFound { home, owner } = answer;
        core.handle(Input::HomeOwner { at: clock::boottime(), home: &home, owner }, &mut requests);
    }
}

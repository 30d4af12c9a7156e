//! Without a daemon: one look at the kernel into a map of one's own, then out.

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use observer_core::Settings;
use observer_core::audit::{Audit, AuditReport};
use observer_core::{BootTime, Change, Core, Input, ProcessKey, Request, Sink};

use super::{Exit, Failure};
use crate::api::Context;
use crate::config::Config;
use crate::daemon::answers::Moment;
use crate::kernel::{Look, MemoryReader};
use crate::{boot, clock, kernel};

/// How long arguments are waited for: a process can make their reading wait.
const ARGV_WAIT: Duration = Duration::from_secs(2);

/// A map that nobody watches: its changes are not told; whose memory it wants is kept.
#[derive(Default)]
pub struct Wants {
    memory: Vec<ProcessKey>,
}

impl Sink for Wants {
    fn change(&mut self, _: BootTime, _: Change<'_>) {}

    fn request(&mut self, request: Request<'_>) {
        if let Request::Memory(key) = request {
            self.memory.push(key);
        }
    }
}

/// A map made of one look.
pub struct Snapshot {
    /// The map.
    pub core: Core,
    look: Look,
    boot_id: String,
    wall_offset_ns: i64,
}

impl Snapshot {
    /// Looks, with the sessions of `config`'s rules; the kernel's layout from `btf`, if that is given. Needs the rights to.
    pub fn take(config: Option<&Path>, btf: Option<&Path>) -> anyhow::Result<Self> {
        let config = Config::load(config)?;
        let boot_id = boot::boot_id()?;
        let wall_offset_ns = clock::wall_offset_ns();
        let mut wants = Wants::default();
        let look = Look::load(btf).map_err(no_rights)?;
        let reader = look.memory_reader();
        let mut core = Core::new(Settings {
            rules: config.rules,
            env: config.env.into_iter().map(String::into_bytes).collect(),
            host_mnt_ns: reader.host_mnt_ns(),
        });
        core.set_wall_offset(wall_offset_ns);
        let snapshot = look.snapshot();
        hear(&mut core, &snapshot, &mut wants);
        snapshot.into_result().map_err(no_rights)?;
        read_memory(&mut core, reader, wants);
        core.handle(Input::Tick { at: clock::boottime() }, &mut Wants::default());
        Ok(Self { core, look, boot_id, wall_offset_ns })
    }

    /// A second look, which the map takes in and must then be equal to.
    pub fn audit(&mut self) -> anyhow::Result<AuditReport> {
        let core = &mut self.core;
        let snapshot = self.look.snapshot();
        hear(core, &snapshot, &mut Wants::default());
        let mut audit = Audit::new(snapshot.began());
        snapshot.rows(|input| {
            if let Input::PassRow(row) = input {
                audit.row(core, &row);
            }
        });
        snapshot.into_result().map_err(no_rights)?;
        let mut report = audit.finish(core);
        // Who died between the looks is kept until a third one misses it, too.
        report.surplus.clear();
        Ok(report)
    }

    /// Now, for what is shown of it.
    pub fn moment(&self) -> Moment<'_> {
        Moment {
            at: clock::boottime(),
            wall_offset_ns: self.wall_offset_ns,
            context: Context { boot_id: &self.boot_id, certain: !self.core.in_gap() },
        }
    }
}

fn hear(core: &mut Core, snapshot: &kernel::Snapshot, wants: &mut Wants) {
    core.handle(snapshot.begin(), wants);
    snapshot.rows(|input| core.handle(input, wants));
    core.handle(snapshot.end(), wants);
}

/// The kernel could not be read.
fn no_rights(error: anyhow::Error) -> Failure {
    Failure {
        exit: Exit::Unknown,
        message: format!(
            "no daemon runs, and the kernel could not be read without one: {error:#}. Start the daemon with `observer \
             run`, or see what `observer doctor` says"
        ),
    }
}

/// Arguments and environment of the processes that `wants` names, as far as they come in time.
fn read_memory(core: &mut Core, reader: MemoryReader, wants: Wants) {
    let env = |key| core.process_by_key(key).is_some_and(|process| process.tty.is_some());
    let wanted: Vec<_> = wants.memory.into_iter().map(|key| (key, env(key))).collect();
    let (found, memories) = channel();
    let read = move || {
        let _ = found.send(reader.read(&wanted));
    };
    if thread::Builder::new().spawn(read).is_err() {
        return;
    }
    for memory in memories.recv_timeout(ARGV_WAIT).into_iter().flatten().flatten() {
        core.handle(memory.input(), &mut Wants::default());
    }
}

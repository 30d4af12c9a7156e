//! Without a daemon: one look at the kernel into a map of one's own, then out.

use std::path::Path;

use observer_core::table::Settings;
use observer_core::{BootTime, Change, Core, Input, Request, Sink};

use super::{Exit, Failure};
use crate::config::Config;
use crate::daemon::answers::Moment;
use crate::show::Context;
use crate::{boot, clock, kernel};

/// Changes of a map that nobody watches.
pub struct Nobody;

impl Sink for Nobody {
    fn change(&mut self, _: BootTime, _: Change<'_>) {}
    fn request(&mut self, _: Request<'_>) {}
}

/// A map made of one look.
pub struct Snapshot {
    /// The map.
    pub core: Core,
    boot_id: String,
    wall_offset_ns: i64,
}

impl Snapshot {
    /// Looks, with the sessions of `config`'s rules. Needs the rights to.
    pub fn take(config: Option<&Path>) -> anyhow::Result<Self> {
        let config = Config::load(config)?;
        let wall_offset_ns = clock::wall_offset_ns();
        let mut core = Core::new(Settings {
            rules: config.rules,
            env: config.env.into_iter().map(String::into_bytes).collect(),
            host_mnt_ns: kernel::host_mnt_ns(),
        });
        core.set_wall_offset(wall_offset_ns);
        kernel::pass_once(|input| core.handle(input, &mut Nobody)).map_err(|error| Failure {
            exit: Exit::Unknown,
            message: format!(
                "no daemon runs, and the kernel could not be read without one: {error:#}. Start the daemon (`observer \
                 run`), become root, or see `observer doctor`"
            ),
        })?;
        core.handle(Input::Tick { at: clock::boottime() }, &mut Nobody);
        Ok(Self { core, boot_id: boot::boot_id()?, wall_offset_ns })
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

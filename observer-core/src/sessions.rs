//! Sessions follow processes: which homes have rows, and what is said of them.

use crate::change::Sink;
use crate::entry::{Entry, Member};
use crate::ids::{BootTime, ProcessKey};
use crate::live::Table;
use crate::merge::Diff;
use crate::process::{Death, Process};
use crate::session::{Rule, Session};
use crate::table::Core;

/// What sessions need of the rest of the core while one input is handled.
pub(crate) struct Ctx<'a> {
    pub rules: &'a [Rule],
    pub host_mnt_ns: u32,
    pub table: &'a mut Table,
    pub now: BootTime,
    pub at: BootTime,
    pub sink: &'a mut dyn Sink,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub dropped: u64,
    pub lineage_cut: u64,
}

impl Core {
    pub(crate) fn sessions_ctx(
        &mut self,
        at: BootTime,
        sink: &mut dyn Sink,
        act: impl FnOnce(&mut Sessions, &mut Ctx<'_>),
    ) {
        if self.settings.rules.is_empty() {
            return;
        }
        let mut ctx = Ctx {
            rules: &self.settings.rules,
            host_mnt_ns: self.settings.host_mnt_ns,
            table: &mut self.table,
            now: self.now,
            at,
            sink,
        };
        act(&mut self.sessions, &mut ctx);
    }
}

impl Sessions {
    pub fn poll_timeout(&self) -> Option<BootTime> {
        None
    }
    pub fn rows<'a>(&'a self, _table: &'a Table) -> impl Iterator<Item = (&'a Session, &'a Process)> {
        core::iter::empty()
    }
    pub fn owner_known(&mut self, _ctx: &mut Ctx<'_>, _path: &[u8], _uid: Option<u32>) {}
    pub fn changed(&mut self, _ctx: &mut Ctx<'_>, _key: ProcessKey, _diff: Diff) {}
    pub fn started(&mut self, _ctx: &mut Ctx<'_>, _key: ProcessKey, _creator: Option<ProcessKey>) {}
    pub fn ended(&mut self, _ctx: &mut Ctx<'_>, _row: &Process, _member: Option<Member>, _death: Death) {}
    pub fn tick(&mut self, _ctx: &mut Ctx<'_>) {}
}
#[allow(dead_code)]
fn unused(_: &Entry) {}

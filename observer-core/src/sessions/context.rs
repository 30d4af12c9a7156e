//! What the sessions need of the core while one input is handled.

use crate::model::change::Sink;
use crate::model::death::Death;
use crate::model::ids::{BootTime, ProcessKey};
use crate::model::label::LabelVariable;
use crate::model::process::Process;
use crate::model::rule::{Ignore, Rule};
use crate::processes::fields::Diff;
use crate::processes::table::ProcessTable;
use crate::sessions::homes::Root;

/// Each `[[ignore]]` of the configuration, and what it takes to match them.
#[derive(Clone, Copy)]
pub(crate) struct IgnoreList<'a> {
    pub entries: &'a [Ignore],
    pub host_mnt_ns: u32,
}

/// The rest of the core, as the sessions use it while one input is handled.
pub(crate) struct SessionContext<'a> {
    pub rules: &'a [Rule],
    pub ignored: IgnoreList<'a>,
    pub labels: &'a [LabelVariable],
    pub host_mnt_ns: u32,
    pub table: &'a mut ProcessTable,
    /// The latest timestamp of any input.
    pub now: BootTime,
    /// The time of the cause.
    pub at: BootTime,
    pub sink: &'a mut dyn Sink,
}

/// Why the primary of a home is elected again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause<'a> {
    /// Candidates came or went, or time passed.
    Candidates,
    /// Fields of this process changed, and no candidate came or went.
    Changed(ProcessKey, Diff),
    /// Fields of this process changed, and with that it joined or left the candidates.
    Moved(ProcessKey, Diff),
    /// This process exec'd into a program that the rule of its home does not admit.
    ExecedAway(ProcessKey),
    /// The same, and that was while no daemon ran: what it started since then is not told from what it started before.
    FoundExecedAway(ProcessKey),
    /// This process changed its real user id.
    ChangedUser(ProcessKey),
    /// This process died, and these are its successors.
    Died(&'a Process, &'a Death, &'a [Root]),
}

impl Cause<'_> {
    /// Returns the process that lives, and can be no session of the home any more if it was.
    pub fn gave_up(self) -> Option<ProcessKey> {
        match self {
            Self::ExecedAway(key) | Self::FoundExecedAway(key) | Self::ChangedUser(key) => Some(key),
            Self::Candidates | Self::Changed(..) | Self::Moved(..) | Self::Died(..) => None,
        }
    }
}

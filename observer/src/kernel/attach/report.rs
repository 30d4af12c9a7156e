//! What was attached, for `status` and `doctor`.

use observer_common::hooks::Fact;

use super::links::Links;
use crate::kernel::rights;

/// One source of one fact on this kernel.
#[derive(Clone, Debug)]
pub struct FactSource {
    /// The fact.
    pub fact: Fact,
    /// Where it comes from: "tp_btf/sched_process_fork", "fexit/set_fs_pwd",
    /// "tracepoint/syscalls/sys_exit_{chdir,fchdir}", "iter/task"…
    pub source: String,
    /// Why a better source is not used, or when this one is read; empty for the best.
    pub why: String,
    /// Whether it replaces a better source.
    pub fallback: bool,
}

/// Something that the hooks in use cannot see.
#[derive(Clone, Debug)]
pub struct BlindSpot {
    /// The fact concerned.
    pub fact: Fact,
    /// Whether a pass reads it again when it is asked for, so that its value carries `as_of`. Otherwise it stays unknown.
    pub is_read_again: bool,
    /// What is not seen, in words.
    pub what: String,
    /// Whether this is for a hook that could not be attached. Otherwise no hook would see it.
    pub lacks_hook: bool,
}

/// Which hooks to attach for the facts that more than one kind of hook can report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookChoice {
    /// Ends of kernel functions where this kernel attaches to them, otherwise exits of system calls.
    #[default]
    Auto,
    /// Ends of kernel functions (fexit); observer refuses to start without them.
    Fexit,
    /// Exits of system calls (tracepoints); observer refuses to start without them.
    Tracepoints,
}

/// What is attached, and what stays unseen.
#[derive(Debug, Default)]
pub struct Attached {
    /// One entry for each source.
    pub sources: Vec<FactSource>,
    /// One entry for each thing that is not seen.
    pub blind_spots: Vec<BlindSpot>,
    /// Links of the BTF tracepoints and functions in use.
    pub links: Links,
}

impl Attached {
    /// Adds the best source of a fact; `why` says when it is read, if not at each event.
    pub(super) fn add_source(&mut self, fact: Fact, source: String, why: &str) {
        self.sources.push(FactSource { fact, source, why: why.into(), fallback: false });
    }

    /// Adds a source that replaces a better one, for the reason `why`.
    pub(super) fn add_fallback(&mut self, fact: Fact, source: String, why: String) {
        self.sources.push(FactSource { fact, source, why, fallback: true });
    }

    /// Removes every source of a fact but those that replace a better one.
    pub(super) fn keep_fallbacks(&mut self, fact: Fact) {
        self.sources.retain(|source| source.fact != fact || source.fallback);
    }

    pub(super) fn add_blind_spot(&mut self, fact: Fact, what: String) {
        self.blind_spots.push(BlindSpot {
            fact,
            is_read_again: fact.is_read_again(),
            what,
            lacks_hook: false,
        });
    }

    /// Adds what is not seen because a hook could not be attached.
    pub(super) fn add_lacking_hook(&mut self, fact: Fact, what: String) {
        self.blind_spots.push(BlindSpot {
            fact,
            is_read_again: fact.is_read_again(),
            what,
            lacks_hook: true,
        });
    }

    /// Adds what is known of processes that were started before observer: argv, which no hook reports.
    pub(super) fn add_older_argv(&mut self) {
        let fact = Fact::OlderArgv;
        if rights::has_ptrace() {
            self.sources.push(FactSource {
                fact,
                source: "process_vm_readv".into(),
                why: "of processes that called exec before observer started: read once, and the process's identity checked \
                      afterwards"
                    .into(),
                fallback: false,
            });
        } else {
            self.blind_spots.push(BlindSpot {
                fact,
                is_read_again: fact.is_read_again(),
                what: "argv and environment of other users' processes that called exec before observer started: give \
                       observer CAP_SYS_PTRACE if you want them"
                    .into(),
                lacks_hook: false,
            });
        }
    }
}

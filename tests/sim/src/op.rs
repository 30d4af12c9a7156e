//! What a history consists of: a list of operations, made of a seed.

use crate::random::Random;

/// What an operation does. Its numbers choose among what there is, so that an operation makes sense in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// fork(2), by any thread.
    Fork,
    /// clone(2) with CLONE_FS, without CLONE_THREAD.
    ForkSharesFs,
    /// clone(2) with CLONE_PARENT.
    ForkForParent,
    /// The kernel starts a user-mode helper.
    StartHelper,
    /// A new thread.
    StartThread,
    /// A thread ends: the last one ends the process, the leader may end before others.
    EndThread,
    /// execve(2), by any thread.
    Exec,
    /// exit_group(2).
    Exit,
    /// What has exited becomes a zombie, and leaves its children and its terminal.
    BecomeZombie,
    /// A zombie is reaped.
    Reap,
    /// kill(2) with SIGKILL.
    Kill,
    /// kill(2) with SIGTERM, which ends the process or does not.
    Terminate,
    /// The kernel kills a process for lack of memory.
    KillForMemory,
    /// chdir(2), by any thread.
    Chdir,
    /// unshare(2) with CLONE_FS, by any thread.
    UnshareFs,
    /// unshare(2) with CLONE_NEWNS.
    UnshareMounts,
    /// setsid(2).
    Setsid,
    /// setpgid(2).
    Setpgid,
    /// TIOCSCTTY.
    TakeTerminal,
    /// TIOCNOTTY.
    GiveTerminalUp,
    /// A terminal is hung up.
    HangUp,
    /// prctl(2) with PR_SET_NAME, by any thread.
    SetName,
    /// setresuid(2), by the thread alone, as the system call does.
    Setuid,
    /// A move to another cgroup.
    MoveToCgroup,
    /// prctl(2) with PR_SET_CHILD_SUBREAPER.
    BecomeSubreaper,
    /// rename(2) of a directory.
    Rename,
    /// The same with RENAME_EXCHANGE.
    Exchange,
    /// rmdir(2).
    Remove,
    /// mkdir(2).
    Make,
    /// The program of the next record is skipped.
    SkipNext,
    /// The user of the next record has sent too many.
    RefuseNext,
    /// The program of the next record is preempted before it reserves the record.
    DelayNext,
    /// The next record comes before the last one.
    SwapNext,
    /// Preempted programs go on.
    RunDelayed,
    /// The daemon takes some records.
    Drain,
    /// The daemon takes all records, and does what is due.
    Turn,
    /// A pass in progress reads some processes.
    Read,
    /// A pass that nobody requested.
    Pass,
    /// A pass in progress fails.
    FailPass,
    /// A question: the daemon reads some processes alone.
    ReadAlone,
    /// Time passes in which the daemon does what is due.
    Wait,
    /// So much that processes settle, and drift would be found.
    WaitLong,
    /// The daemon does what is due until nothing is.
    Settle,
    /// The daemon is killed, and started again after some operations.
    Restart,
}

/// How often each verb comes, relative to the others.
const WEIGHTS: [(Verb, u32); 44] = [
    (Verb::Fork, 130),
    (Verb::ForkSharesFs, 8),
    (Verb::ForkForParent, 8),
    (Verb::StartHelper, 4),
    (Verb::StartThread, 30),
    (Verb::EndThread, 30),
    (Verb::Exec, 70),
    (Verb::Exit, 30),
    (Verb::BecomeZombie, 60),
    (Verb::Reap, 60),
    (Verb::Kill, 20),
    (Verb::Terminate, 15),
    (Verb::KillForMemory, 6),
    (Verb::Chdir, 70),
    (Verb::UnshareFs, 8),
    (Verb::UnshareMounts, 3),
    (Verb::Setsid, 20),
    (Verb::Setpgid, 15),
    (Verb::TakeTerminal, 20),
    (Verb::GiveTerminalUp, 4),
    (Verb::HangUp, 4),
    (Verb::SetName, 20),
    (Verb::Setuid, 15),
    (Verb::MoveToCgroup, 12),
    (Verb::BecomeSubreaper, 3),
    (Verb::Rename, 12),
    (Verb::Exchange, 3),
    (Verb::Remove, 8),
    (Verb::Make, 12),
    (Verb::SkipNext, 2),
    (Verb::RefuseNext, 6),
    (Verb::DelayNext, 15),
    (Verb::SwapNext, 25),
    (Verb::RunDelayed, 20),
    (Verb::Drain, 60),
    (Verb::Turn, 90),
    (Verb::Read, 60),
    (Verb::Pass, 4),
    (Verb::FailPass, 2),
    (Verb::ReadAlone, 10),
    (Verb::Wait, 25),
    (Verb::WaitLong, 5),
    (Verb::Settle, 8),
    (Verb::Restart, 2),
];

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub verb: Verb,
    /// Numbers that choose among what there is.
    pub by: [u32; 4],
}

/// Returns the operations of a seed. The first ones of a longer history are those of a shorter one.
pub fn operations(seed: u64, steps: usize) -> Vec<Op> {
    let mut random = Random::new(seed);
    let total: u32 = WEIGHTS.iter().map(|&(_, weight)| weight).sum();
    let mut op = || {
        let mut rest = random.below(total);
        let chosen = WEIGHTS.iter().find(|&&(_, weight)| {
            let is_chosen = rest < weight;
            rest = rest.saturating_sub(weight);
            is_chosen
        });
        let by = [random.next(), random.next()];
        Op {
            verb: chosen.map_or(Verb::Turn, |&(verb, _)| verb),
            by: [by[0] as u32, (by[0] >> 32) as u32, by[1] as u32, (by[1] >> 32) as u32],
        }
    };
    (0..steps).map(|_| op()).collect()
}

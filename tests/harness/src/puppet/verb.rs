//! What a puppet can do. Tests name these verbs, and the puppet obeys them: one list for both sides.

/// Declares the verbs; a verb's name is also what stands for it in a request.
macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A request to a puppet. Each verb's documentation lists the arguments that it takes and, after the arrow, the
        /// numbers that it answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Verb {
            $($(#[$doc])* $name,)*
        }

        impl Verb {
            /// The name, as a request carries it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The verb of this name.
            pub fn named(name: &[u8]) -> Option<Self> {
                [$(Self::$name),*].into_iter().find(|verb| verb.name().as_bytes() == name)
            }
        }
    };
}

verbs! {
    /// `TOKEN` → pid, boot time before, boot time after: fork(2); the child connects with TOKEN.
    Fork,
    /// `FLAGS TOKEN` → as `Fork`: clone(2).
    Clone,
    /// `FLAGS CGROUP_DIR|- TID TOKEN` → as `Fork`: clone3(2), into a control group and with a chosen pid where given.
    Clone3,
    /// `TOKEN` → as `Fork`: a child that shares this memory while this process waits, until it execs a puppet.
    Vfork,
    /// `NAME=VALUE… TOKEN` → as `Fork`: posix_spawn of a puppet with this environment.
    Spawn,
    /// `PATH TOKEN ARG…`: this process becomes a puppet from PATH, which is its argv[0]. No answer.
    Exec,
    /// `PATH TOKEN ARG…`: the same, by a thread that is not the leader. No answer.
    ExecByThread,
    /// `PATH` → errno: an exec that must fail.
    ExecFails,
    /// `SCRIPT NAME`: a thread names the leader while the leader's execs of SCRIPT fail.
    NamedDuringExec,
    /// `CODE`: exit_group(2). No answer.
    Exit,
    /// `CODE`: ends the calling thread alone. No answer.
    ExitThread,
    /// `SIGNAL CORE`: this process kills itself; CORE 1 allows a core dump. It answers only where it survives.
    Die,
    /// `HOW`: this process reads at address 8 (`null`), where nothing is mapped any more (`user`) or at an address of the kernel
    /// (`kernel`), or executes an instruction that processes may not (`privileged`). No answer.
    Faults,
    /// This process writes to a pipe that nobody reads. No answer.
    WritesToClosedPipe,
    /// `BYTES`: this process takes so much memory and holds it. It answers only where it survives.
    TakesMemory,
    /// → pid: a child of this process has its memory, and waits until it is killed.
    BearsSharer,
    /// → pid: a child of this process is the first of a pid namespace, and has a child there. Both wait until they are killed.
    BearsNamespace,
    /// `SOFT HARD`: this process computes until its limit of CPU time, in seconds, ends it. No answer.
    UsesUpItsTime,
    /// `PATH`: this process writes to a new file until its limit of file size ends it. It answers only where it survives.
    WritesTooMuch,
    /// `SIGNAL`: has the kernel send this process a signal when its parent ends (PR_SET_PDEATHSIG).
    EndsWithParent,
    /// `PID OPTIONS`: traces a process (PTRACE_SEIZE).
    Traces,
    /// `PID SIGNAL` → the signal that stopped it: waits until a process that this one traces stops for a signal, and has it go
    /// on with SIGNAL instead; 0: with none.
    Delivers,
    /// `TIMES` → pid, raw status, of each: TIMES children, one after the other, in which two threads exit at the same moment:
    /// both for themselves, one for the process, or both for the process.
    EndsByTwoThreads,
    /// This process calls what its seccomp filter kills it for. It answers only where it survives.
    BreaksFilter,
    /// `COUNT SEED` → pid, killer's pid, signal, way, raw status, of each: COUNT children, of which each exits or is killed by
    /// one of three other children: by kill(2), tgkill(2), sigqueue(3) or pidfd_send_signal(2), which are the ways 1 to 4. Of
    /// those that exit killer, signal and way are 0.
    DiesInManyWays,
    /// `COUNT` → pid, raw status, of each: COUNT children in a process group of their own, which this process ends by one
    /// SIGKILL to the group.
    KillsMany,
    /// `PID` → si_code, si_status, raw status: waits for a child of this process.
    Wait,
    /// `SIGNAL`: ignores a signal from here on.
    Ignore,
    /// `SIGNAL`: counts a signal in a handler from here on.
    Counts,
    /// → how many signals were counted.
    Counted,
    /// `PID SIGNAL`: kill(2).
    Kills,
    /// `PID DIR LIVES STRANGERS SIGNAL` → lives that the signal ended, and signals that strangers got: children with this pid,
    /// one after the other. LIVES of them run sleep(1) in DIR for some milliseconds; after each come STRANGERS that are
    /// outside, of which the first stays for a moment.
    Recycles,
    /// `CHILDREN US WAY MIB` → CPU time of the children as they measured it, µs; the most memory that this process had, KiB:
    /// children, one after the other, that use the processor for US µs each, while this process has MIB mebibytes. WAY is
    /// `waits`, `ignores` (the kernel reaps them), `abandons` (each has a child that works, and does not wait for it) or
    /// `delegates` (it waits).
    Works,
    /// Becomes a subreaper.
    BecomesSubreaper,
    /// `CODE` → tid: a second thread takes over, and the leader exits.
    LeaderExits,
    /// → pid, ppid, sid, pgid, real, effective and saved user id, st_dev and st_ino of `.`.
    Facts,
    /// `DIR`: chdir(2).
    Chdir,
    /// `DIR`: chdir(2) by the kernel's 32-bit entry.
    Chdir32,
    /// `DIR`: fchdir(2) on a descriptor of it.
    Fchdir,
    /// `DIR`: mkdir(2).
    Mkdir,
    /// `DIR PAUSE_US MS` → how often: mkdir(2) and rmdir(2) of DIR, with pauses of so many microseconds, for so many
    /// milliseconds.
    RemovesFor,
    /// Takes a mount namespace of its own and does nothing else that a hook could see.
    UnshareQuietly,
    /// Takes a mount namespace of its own, from which nothing propagates.
    UnshareMounts,
    /// `DIR`: mounts a tmpfs.
    MountTmpfs,
    /// `FROM TO`: mount(2) with MS_MOVE.
    MountMoves,
    /// `FROM TO`: move_mount(2).
    MoveMount,
    /// `FROM TO`: move_mount(2) by the kernel's 32-bit entry.
    MoveMount32,
    /// `DIR`: umount2(2) with MNT_DETACH.
    UmountLazily,
    /// `NEW OLD`: pivot_root(2); whoever had the old root as root or directory has the new one then.
    Pivots,
    /// `NEW OLD`: pivot_root(2) by the kernel's 32-bit entry.
    Pivots32,
    /// `PATH`: enters a mount namespace; the directory becomes its root.
    SetnsMounts,
    /// `PATH`: the same by the kernel's 32-bit entry.
    SetnsMounts32,
    /// `FROM TO`: IORING_OP_RENAMEAT, which reaches no rename system call's exit.
    RenamesByUring,
    /// `DIR REAL EFFECTIVE SAVED`: mounts an overlay in DIR, takes these user ids, and reads a file of it into memory that
    /// nobody provides. It answers when it waits there, forever.
    WaitsInOverlay,
    /// → sid: setsid(2).
    Setsid,
    /// `PID PGID`: setpgid(2).
    Setpgid,
    /// `REAL EFFECTIVE SAVED`: setresuid(2); -1 leaves one as it is.
    Setresuid,
    /// `NAME`: prctl(PR_SET_NAME) by the leader.
    Setname,
    /// Moves its arguments to memory that nobody can read (PR_SET_MM_MAP).
    HidesArguments,
    /// Its hidden arguments can be read again.
    ShowsArguments,
    /// Moves its arguments to memory that nobody provides: who reads them waits as long as this process lives.
    StallsArguments,
    /// `PATH`: opens a terminal with O_NOCTTY, takes it with TIOCSCTTY, and keeps it open.
    GainsTerminal,
    /// `PATH`: the same, from the POSIX session that has it.
    StealsTerminal,
    /// `PATH`: opens a terminal without O_NOCTTY, by which a session leader without a terminal gains it.
    OpensTerminal,
    /// Gives the terminal up (TIOCNOTTY).
    LosesTerminal,
    /// `PGID`: tcsetpgrp on the controlling terminal.
    TerminalForeground,
    /// → tid: a thread is born and exits.
    ThreadExits,
    /// → tid: a thread is born and stays.
    ThreadStays,
    /// `NAME` → tid: a thread that stays sets its own comm.
    ThreadNamesItself,
    /// `NAME`: another thread sets the leader's comm.
    ThreadNamesLeader,
    /// `DIR` → tid: a thread that stays unshares its directory and changes it.
    ThreadMovesAlone,
    /// `UID` → tid: a thread that stays changes its own user ids, by the bare system call (the library's function would
    /// change those of all threads).
    ThreadSetresuid,
    /// `TIMES`: threads are born and exit, one after the other.
    ManyThreads,
    /// `PID TIMES`: a child with this pid, TIMES times, one after the other; each exits at once.
    ReusesPid,
    /// `DIR_A DIR_B TIMES`: two threads of this process, each into its own directory, as fast as they go.
    ChdirRace,
    /// `DIR_A DIR_B TIMES KEEP` → pids that stay: one thread goes from directory to directory while another forks; every
    /// KEEPth child stays where it was born, the others exit.
    ForkRace,
    /// `FROM TO MS` → how often: renames there and back again for so many milliseconds.
    RenamesFor,
    /// `DIR OTHER MS` → how often: goes into the one and the other by descriptors for so many milliseconds.
    FchdirsFor,
    /// `DIR OTHER MS` → how often: writes itself into the cgroup.procs of the one and the other for so many milliseconds.
    ChangesCgroupFor,
    /// `PREFIX COUNT TIMES`: chdir(2) into PREFIX0, PREFIX1 and so on up to COUNT directories and from the first again, TIMES
    /// times in all, as fast as they go.
    Walks,
    /// Sets its own comm without end. No answer.
    NamesItselfForever,
    /// `DIR_A DIR_B` → pid: chdir and prctl without end, in a child that dies with this process.
    LoopForever,
    /// `PROGRAM DIR TIMES DIR_A DIR_B PAUSE_US` → how many ended with code 7: TIMES children, each born, exec'd into PROGRAM
    /// with DIR as argument and dead, one after the other; this process goes between DIR_A and DIR_B at each of them.
    Storm,
    /// `TIMES` → their pids: children that stay until this process ends.
    BearsMany,
    /// `PREFIX TIMES COUNT END` → their pids: TIMES children, the first of which goes into PREFIX0, the next into PREFIX1 and so
    /// on. At SIGUSR1 each goes on into COUNT directories of others, and into END. They stay until this process ends.
    BearsWalkers,
}

#[cfg(test)]
mod tests {
    use super::Verb;

    #[test]
    fn a_name_stands_for_its_verb() {
        assert_eq!(Verb::named(Verb::MoveMount32.name().as_bytes()), Some(Verb::MoveMount32));
        assert_eq!(Verb::named(b"chdir"), None);
    }
}

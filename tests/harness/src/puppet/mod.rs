//! A puppet: `puppet ADDRESS TOKEN [IGNORED…]` connects to the abstract socket ADDRESS, sends TOKEN and its pid, and then
//! carries out one request for each line that it reads. See [`crate::fixture`].

mod births;
mod conversation;
mod deaths;
mod ends;
mod limits;
mod memory;
#[cfg(target_arch = "x86_64")]
mod narrow;
mod overlay;
mod places;
mod races;
mod signals;
mod storms;
mod terminals;
mod threads;
mod traces;
mod verb;
mod works;

use std::io::{BufRead as _, Write as _};

use crate::protocol;

use conversation::{Args, Conversation, Then};
pub use verb::Verb;

/// Runs a puppet until its test closes the connection.
pub fn main() {
    let mut args = std::env::args_os().skip(1).map(std::os::unix::ffi::OsStringExt::into_vec);
    let (Some(address), Some(token)) = (args.next(), args.next()) else {
        eprintln!("usage: puppet ADDRESS TOKEN; the tests start it");
        std::process::exit(2);
    };
    match Conversation::begin(address, &token) {
        Ok(conversation) => conversation.go_on(),
        Err(error) => {
            eprintln!("puppet: cannot connect to its fixture: {error}");
            std::process::exit(2);
        }
    }
}

impl Conversation {
    /// Drops the inherited connection and begins one of this process's own.
    fn begin_again(&mut self, token: &[u8]) -> Then {
        match Self::begin(self.address.clone(), token) {
            Ok(own) => {
                *self = own;
                Then::Listen
            }
            Err(_) => ends::exit(2),
        }
    }

    /// Carries out requests until the test closes the connection.
    fn go_on(mut self) -> ! {
        loop {
            let mut line = String::new();
            if !matches!(self.stream.read_line(&mut line), Ok(count) if count > 0) {
                ends::exit(0);
            }
            let words = protocol::words(&line).unwrap_or_default();
            let Some((name, args)) = words.split_first() else { ends::exit(2) };
            let Some(verb) = Verb::named(name) else { ends::exit(2) };
            if let Then::Answer(done) = self.act(verb, args) {
                let answer = protocol::answer(done);
                if self.stream.get_mut().write_all(&answer).is_err() {
                    ends::exit(0);
                }
            }
        }
    }

    fn act(&mut self, verb: Verb, args: Args<'_>) -> Then {
        match verb {
            Verb::Fork | Verb::Clone | Verb::Clone3 => births::bear(self, verb, args),
            Verb::Vfork => births::vfork(&self.address, args).into(),
            Verb::Spawn => births::spawn(&self.address, args).into(),
            Verb::Exec => births::exec(&self.address, args).into(),
            Verb::ExecByThread => births::exec_by_thread(&self.address, args).into(),
            Verb::ExecFails => births::exec_fails(args).into(),
            Verb::NamedDuringExec => births::named_during_exec(args).into(),
            Verb::Exit => ends::exit_as(args),
            Verb::Die => ends::die(args).into(),
            Verb::Faults => ends::faults(args),
            Verb::WritesToClosedPipe => ends::writes_to_closed_pipe().into(),
            Verb::TakesMemory => deaths::takes_memory(args).into(),
            Verb::BearsSharer => deaths::bears_sharer().into(),
            Verb::BearsNamespace => deaths::bears_namespace().into(),
            Verb::UsesUpItsTime => limits::uses_up_its_time(args).into(),
            Verb::WritesTooMuch => limits::writes_too_much(args).into(),
            Verb::EndsWithParent => ends::ends_with_parent(args).into(),
            Verb::Traces => traces::traces(args).into(),
            Verb::Delivers => traces::delivers(args).into(),
            Verb::EndsByTwoThreads => threads::end_together(args).into(),
            Verb::BreaksFilter => deaths::breaks_filter().into(),
            Verb::DiesInManyWays => deaths::dies_in_many_ways(args).into(),
            Verb::KillsMany => deaths::kills_many(args).into(),
            Verb::Wait => ends::wait(args).into(),
            Verb::Ignore => ends::ignore(args).into(),
            Verb::WaitsInOverlay => overlay::waits(self, args),
            Verb::LeaderExits => threads::leader_exits(self, args),
            Verb::ExitThread => threads::exit_thread(args),
            Verb::Facts => places::facts().into(),
            Verb::Chdir => places::chdir(args).into(),
            #[cfg(target_arch = "x86_64")]
            Verb::Chdir32 => narrow::chdir(args).into(),
            #[cfg(target_arch = "x86_64")]
            Verb::MoveMount32 => narrow::move_mount(args).into(),
            #[cfg(target_arch = "x86_64")]
            Verb::Pivots32 => narrow::pivots(args).into(),
            #[cfg(target_arch = "x86_64")]
            Verb::SetnsMounts32 => narrow::setns_mounts(args).into(),
            // A process of 64 bits has no such entry on other processors.
            #[cfg(not(target_arch = "x86_64"))]
            Verb::Chdir32 | Verb::MoveMount32 | Verb::Pivots32 | Verb::SetnsMounts32 => {
                Then::Answer(Err(std::io::Error::from_raw_os_error(libc::ENOSYS)))
            }
            Verb::Mkdir => places::mkdir(args).into(),
            Verb::Fchdir => places::fchdir(args).into(),
            Verb::UnshareQuietly => places::unshare_quietly().into(),
            Verb::UnshareMounts => places::unshare_mounts().into(),
            Verb::MountTmpfs => places::mount_tmpfs(args).into(),
            Verb::UmountLazily => places::umount_lazily(args).into(),
            Verb::MountMoves => places::mount_moves(args).into(),
            Verb::MoveMount => places::move_mount(args).into(),
            Verb::Pivots => places::pivots(args).into(),
            Verb::SetnsMounts => places::setns_mounts(args).into(),
            Verb::RenamesByUring => places::renames_by_uring(args).into(),
            Verb::Setsid => terminals::setsid().into(),
            Verb::Setpgid => terminals::setpgid(args).into(),
            Verb::Setresuid => terminals::setresuid(args).into(),
            Verb::HidesArguments => memory::hides_arguments().into(),
            Verb::ShowsArguments => memory::shows_arguments().into(),
            Verb::StallsArguments => memory::stalls_arguments().into(),
            Verb::Setname => terminals::setname(args).into(),
            Verb::GainsTerminal => terminals::gain(args).into(),
            Verb::StealsTerminal => terminals::steal(args).into(),
            Verb::OpensTerminal => terminals::open(args).into(),
            Verb::LosesTerminal => terminals::lose().into(),
            Verb::TerminalForeground => terminals::foreground(args).into(),
            Verb::ThreadExits => threads::thread_exits().into(),
            Verb::ThreadNamesItself => threads::names_itself(args).into(),
            Verb::ThreadNamesLeader => threads::names_leader(args).into(),
            Verb::ThreadMovesAlone => threads::moves_alone(args).into(),
            Verb::ThreadSetresuid => threads::setresuid(args).into(),
            Verb::ThreadStays => threads::stays().into(),
            Verb::ManyThreads => threads::many(args).into(),
            Verb::ReusesPid => births::reuses_pid(args).into(),
            Verb::ChdirRace => races::chdir(args).into(),
            Verb::ForkRace => races::fork(args).into(),
            Verb::RenamesFor => races::renames_for(args).into(),
            Verb::FchdirsFor => races::fchdirs_for(args).into(),
            Verb::RemovesFor => races::removes_for(args).into(),
            Verb::ChangesCgroupFor => races::changes_cgroup_for(args).into(),
            Verb::Walks => races::walks(args).into(),
            Verb::NamesItselfForever => races::names_itself_forever(),
            Verb::LoopForever => races::loop_for_ever(args).into(),
            Verb::Counts => signals::counts(args).into(),
            Verb::Kills => signals::kills(args).into(),
            Verb::Counted => signals::counted().into(),
            Verb::Recycles => signals::recycles(args).into(),
            Verb::BecomesSubreaper => ends::becomes_subreaper().into(),
            Verb::Storm => storms::storm(args).into(),
            Verb::BearsWalkers => storms::bears_walkers(args).into(),
            Verb::BearsMany => storms::bears_many(args).into(),
            Verb::Works => works::works(args).into(),
        }
    }
}

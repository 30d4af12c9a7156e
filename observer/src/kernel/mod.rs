//! The kernel adapter: loads and attaches the programs, drains the ring, runs passes of the task iterator. It does not know
//! the map, the socket, the configuration file or the command line.

mod attach;
mod attach_points;
mod bpf;
mod btf;
mod chosen;
mod contract;
mod ctype;
mod doctor;
mod iterator;
mod limit_reached;
mod load;
mod look;
mod mapping;
mod memory;
mod options;
mod program_info;
mod program_log;
mod programs;
mod rights;
mod ring;
mod run_times;
mod selftest;
mod skipped;
mod snapshot;
mod start;
mod sys;

pub use self::attach::{BlindSpot, FactSource, HookChoice};
pub use self::doctor::doctor;
pub use self::look::Look;
#[cfg(test)]
pub use self::memory::ProcessMemory;
pub use self::memory::{MemoryRead, MemoryReader, ReadScope, ReadingProgress};
pub use self::options::KernelOptions;
pub use self::program_log::TARGET as PROGRAM_LOG_TARGET;
pub use self::programs::{Drained, Kernel, ReaderState, RecordOf};
pub use self::rights::drop_unneeded as drop_rights;
pub use self::snapshot::Snapshot;

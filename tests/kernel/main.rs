//! Facts of the kernel, one test each: a puppet makes it happen, and observer must show at the next question what
//! the kernel answers itself. All share one daemon with the default ring; what one test does is noise to the others.

mod birth;
mod contract;
mod cwd;
mod exec;
mod exit;
mod hostile;
mod ids;
mod mounts;
mod preempted;
mod reuse;
mod terminal;
mod watch;

//! Facts of the kernel, one test each: a puppet causes a change, and the next query to observer must show the
//! value that the kernel itself returns. All tests share one daemon with the default ring; the changes of one
//! test are noise to the others.

mod birth;
mod contract;
mod cwd;
mod exec;
mod exit;
mod hostile;
mod ids;
mod kernel_kills;
mod many_deaths;
mod mounts;
mod orphans;
mod preempted;
mod reuse;
mod senders;
mod terminal;
mod traced;
mod watch;

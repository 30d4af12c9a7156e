//! What tests, benchmarks and VM runs share.
//!
//! A test states a fact of the kernel, has a puppet (a child process that does one thing at a time, as the test asks) make it
//! happen, and compares what observer shows with what system calls and /proc show. Nothing here just sleeps: where observer
//! promises to be right at once, a test asks at once; where it promises "soon", a test polls to a deadline.
//!
//! - the product: [`daemon`], its command line in [`observe`], its stream in [`watch`], its JSON in [`text`];
//! - what it observes: [`fixture`] and [`puppet`], [`pty`], [`cgroup`], [`scene`] (a host with its sessions), [`tiny`];
//! - what it depends on: [`postgres`] ([`releases`] of it), [`programs`], [`former`] (an older version of it), [`wall_clock`], [`manager`] (what a service tells its manager);
//! - what is done to it: `inject` (system calls that it is made to call), `links` (of its kernel programs);
//! - the witnesses: [`truth`], [`population`], [`wait`], [`btf`];
//! - in a virtual machine, a part of many equal checks: [`share`];
//! - for developer tools: [`command`], [`apt`], [`libtest`], [`workspace`].

pub mod apt;
pub mod btf;
pub mod cgroup;
pub mod command;
pub mod daemon;
pub mod failure;
pub mod fixture;
pub mod former;
#[cfg(target_arch = "x86_64")]
pub mod inject;
pub mod libtest;
#[cfg(target_arch = "x86_64")]
pub mod links;
pub mod manager;
pub mod observe;
pub mod poll;
pub mod population;
pub mod postgres;
pub mod programs;
pub mod protocol;
pub mod pty;
pub mod puppet;
pub mod releases;
pub mod scene;
pub mod share;
pub mod skipped;
pub mod text;
pub mod tiny;
pub mod truth;
pub mod wait;
pub mod wall_clock;
pub mod watch;
pub mod workspace;

pub use cgroup::Cgroup;
pub use daemon::{Daemon, Options};
pub use fixture::{Fixture, Puppet};
pub use poll::eventually;
pub use pty::Pty;
pub use puppet::Verb;
pub use truth::Truth;
pub use watch::{Frame, Watch};

//! Harness of the real-kernel tests: a daemon of its own, the command line as a user would call it, puppets
//! (child processes that do one thing on command), and witnesses (what the system calls and /proc say).
//!
//! A test states a fact of the kernel, makes it happen in a puppet, and compares what observer shows with what
//! the kernel answers. Nothing here sleeps blindly: it asks at once where observer promises to be right at once,
//! and polls to a deadline where it promises "soon".

pub mod apt;
pub mod btf;
pub mod cgroup;
pub mod command;
pub mod daemon;
pub mod failure;
pub mod libtest;
pub mod observe;
pub mod poll;
pub mod population;
pub mod postgres;
pub mod protocol;
pub mod pty;
pub mod puppet;
pub mod scene;
pub mod stage;
pub mod text;
pub mod tiny;
pub mod truth;
pub mod wait;
pub mod wall_clock;
pub mod watch;

pub use cgroup::Cgroup;
pub use daemon::{Daemon, Options};
pub use poll::eventually;
pub use pty::Pty;
pub use puppet::Verb;
pub use stage::{Puppet, Stage};
pub use truth::Truth;
pub use watch::{Frame, Watch};

//! The unit under a real systemd, installed by the README's commands. Tests in `unit::` run under any
//! systemd, tests in `host::` under one whose pid namespace is the machine's, and tests in `container::`
//! inside a container.

mod container;
mod host;
mod system;
mod unit;

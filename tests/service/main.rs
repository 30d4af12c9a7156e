//! The package under a real systemd. Tests in `unit::` run under any systemd, tests in `host::` and `package::` under one
//! whose pid namespace is the machine's, and tests in `container::` inside a container.

mod container;
mod host;
mod package;
mod system;
mod unit;

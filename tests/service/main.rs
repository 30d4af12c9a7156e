//! The unit under a real systemd, installed by the README's commands. `unit::` is for any systemd, `host::` for one whose
//! pid namespace is the machine's, `container::` for one inside a container.

mod container;
mod host;
mod system;
mod unit;

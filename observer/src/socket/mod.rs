//! The socket: newline-delimited JSON over a Unix socket (docs/socket.md). The daemon answers the questions; this module
//! knows neither the kernel nor the map.

pub mod client;
pub mod frame;
pub mod hub;
pub mod listen;
pub mod peer;
pub mod server;
pub mod unread;

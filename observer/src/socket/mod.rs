//! The socket: newline-delimited JSON over a unix socket (docs/socket.md). Knows neither kernel nor core: the
//! daemon answers its questions.

pub mod client;
pub mod frame;
pub mod hub;
pub mod listen;
mod peer;
pub mod server;

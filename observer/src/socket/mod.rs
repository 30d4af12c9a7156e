//! The socket: newline-delimited JSON over a Unix socket (docs/socket.md); and metrics over HTTP (docs/metrics.md). The daemon
//! answers the questions; this module knows neither the kernel nor the map.

pub mod client;
pub mod frame;
pub mod http;
pub mod hub;
pub mod listen;
pub mod metrics_address;
pub mod metrics_server;
pub mod peer;
pub mod server;
pub mod unread;

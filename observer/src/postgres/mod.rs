//! The mirror: the live map, and what happened to sessions, in Postgres (docs/mirror.md). Knows no other adapter.

pub mod connect;
pub mod schema;
pub mod sqlstate;
pub mod target;
pub mod tls;

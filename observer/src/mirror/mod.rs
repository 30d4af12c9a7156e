//! The mirror: the live map, and what happened to sessions, in Postgres (docs/mirror.md). Knows no other adapter.

mod ask;
pub mod connect;
mod deliver;
pub mod follow;
pub mod forget;
pub mod history;
mod presence;
mod reconcile;
mod rows;
pub mod schema;
pub mod source;
mod sql;
pub mod sqlstate;
pub mod status;
pub mod target;
pub mod thread;
pub mod tls;
mod usernames;
mod write;

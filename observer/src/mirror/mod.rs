//! The mirror: the live map, and what happened to sessions, in Postgres (docs/mirror.md). Knows no other adapter.

mod ask;
mod clock;
mod columns;
pub mod connect;
pub mod delivery;
pub mod doctor;
mod driver;
pub mod error;
pub mod feed;
pub mod follow;
pub mod forget;
pub mod history;
pub mod items;
mod presence;
pub mod reading;
mod reconcile;
pub mod restrict;
pub mod schema;
mod sql;
mod sqlstate;
pub mod status;
mod tables;
pub mod target;
pub mod thread;
pub mod tls;
mod usernames;
mod write;

//! The mirror against a real Postgres.

mod daemon;
mod schema;
mod writer;

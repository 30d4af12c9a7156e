//! The mirror against a real Postgres.

mod daemon;
mod documented;
mod forget;
mod schema;
mod writer;

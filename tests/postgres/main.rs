//! The mirror against a real Postgres.

mod documented;
mod forget;
mod schema;
mod writer;

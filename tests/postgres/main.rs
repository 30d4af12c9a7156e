//! The mirror against a real Postgres.

mod schema;

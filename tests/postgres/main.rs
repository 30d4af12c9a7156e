//! Runs the mirror against a real Postgres.

mod clients;
mod daemon;
mod dashboard;
mod doctor;
mod documented;
mod forget;
mod former;
mod functions;
mod kills;
mod labels;
mod leftovers;
mod old_entries;
mod outage;
mod pooler;
mod revisions;
mod rows;
mod schema;
mod story;
mod timeline;
mod top;
mod watch;
mod writer;

//! Programs that people run: editors, coding agents, multiplexers and launchers, each with the session that it must be.
//!
//! `table` is written by hand, one row a test. `row` has the steps that each row goes through, `scene` what a row is run in,
//! `witness` finds the right process without observer.

mod container;
mod row;
mod scene;
mod subvolumes;
mod table;
mod terminal;
mod witness;

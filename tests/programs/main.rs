//! Programs that people run: editors, coding agents, multiplexers and launchers, each with the session that it must be.
//!
//! `table` is written by hand, one row a test. `row` has the steps that each row goes through, `scene` what a row is run in,
//! `witness` finds the right process without observer.
//!
//! `relaunch` has launchers that start their program again when it is killed, and `successors` a program that replaces itself.
//!
//! `stage` runs several programs beside each other, each on a terminal of its own: `shebang`, `entries`, `instances`, `strangers` and
//! `windows` have the tests. `top` types to `observer top` and reads its screen.

mod container;
mod earlyoom;
mod entries;
mod instances;
mod relaunch;
mod row;
mod scene;
mod shebang;
mod stage;
mod strangers;
mod subvolumes;
mod successors;
mod table;
mod terminal;
mod top;
mod windows;
mod witness;

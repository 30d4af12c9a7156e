//! The self-test at start: processes of observer's own must come through ring and iterator with every field as the system
//! calls return it. On any mismatch observer refuses to start, because a wrong offset would make every row wrong.

mod busy;
mod child_ends;
pub(super) mod children;
mod records;
mod rows;
mod run;
mod terminals;
pub(super) mod truth;
mod usage;
mod values;

pub use self::run::{run, run_rows};

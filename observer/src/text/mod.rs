//! Text for people and for JSON: escaped bytes, times, tables, wrapped lines, styles and globs. The lowest layer of this crate: it
//! imports nothing from the layers above.

pub mod bytes;
pub mod glob;
pub mod size;
pub mod style;
pub mod table;
pub mod time;
pub mod wrap;

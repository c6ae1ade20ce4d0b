//! Python's ways to format: `%`, `str.format` and `format`.

pub(crate) mod brace;
mod float;
pub(crate) mod percent;
mod spec;

pub(crate) use float::{Style, write};

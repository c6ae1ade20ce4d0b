//! JSON as Python's `json` reads and writes it.

mod read;
mod write;

pub(crate) use read::{items, members, read};
pub(crate) use write::filter;

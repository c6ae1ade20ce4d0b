//! Which part of a dataset a run is over, where it is not all of it.

use serde::{Deserialize, Serialize};

/// A stretch of the records of a dataset: one of so many that, one after the other, are all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which one, from 1.
    pub index: u64,
    /// Of how many.
    pub of: u64,
    /// Its rows of the input, those that are left out included: the first, and the one behind the last.
    pub rows: [u64; 2],
    /// Rows of the input.
    pub rows_in_all: u64,
}

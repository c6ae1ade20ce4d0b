//! What of a super-batch is in memory together.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Rows whose activations are in memory together: of some records, or a piece of one that is longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// The records.
    pub records: Range<usize>,
    /// Of a single record these rows; `None`: all rows of all records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<Range<usize>>,
}

impl Portion {
    /// Records with all their rows.
    pub fn whole(records: Range<usize>) -> Self {
        Self {
            records,
            piece: None,
        }
    }
}

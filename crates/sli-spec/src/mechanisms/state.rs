//! What a mechanism must know of the earlier rows of a record.

use serde::Serialize;

use crate::parts::Convolution;

/// One thing that a row needs of the rows of its record before it. Who runs a record in pieces hands it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum StateSpec {
    /// Something of every earlier row: keys and values.
    Rows {
        /// Values that a row leaves.
        columns: usize,
    },
    /// Something of the last earlier rows, zeros in front of the first one: the inputs of a convolution.
    Window {
        /// How many rows.
        rows: usize,
        /// Values that a row leaves.
        columns: usize,
    },
    /// A summary of all earlier rows, zeros in front of the first one: a recurrence.
    Fixed {
        /// Its values.
        values: usize,
    },
}

impl StateSpec {
    /// Its values, where they are as many whatever the record.
    pub fn values(self) -> usize {
        match self {
            Self::Rows { .. } => 0,
            Self::Window { rows, columns } => rows * columns,
            Self::Fixed { values } => values,
        }
    }
}

impl Convolution {
    /// The inputs that it needs of earlier rows.
    pub fn state(&self) -> StateSpec {
        StateSpec::Window {
            rows: self.kernel - 1,
            columns: self.columns,
        }
    }
}

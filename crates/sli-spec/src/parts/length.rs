//! How long a record may be.

use serde::Serialize;

/// How long a record may be, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LengthLimit {
    /// Dynamic rope, ALiBi, relative buckets, recurrences.
    None,
    /// A learned position table has this many usable rows.
    Table(usize),
    /// Positions beyond this were not trained; they can be computed.
    Trained(usize),
}

//! What of a step is computed.

/// What of a step is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    /// All of it.
    Whole,
    /// Keys and values alone: they are wanted of all pieces of a record before any query.
    Keys,
    /// All of it but the keys and values, which are there.
    Queries,
}

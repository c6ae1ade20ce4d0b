//! Where rows go on from.

/// A row whose summary is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A row of the batch.
    Row(usize),
    /// The last row of a piece.
    Piece,
}

/// What a run goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The row before.
    pub place: Place,
    /// No other run goes on from there.
    pub is_last: bool,
}

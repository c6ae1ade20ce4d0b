//! What records of a range have in common.

/// What records of a range have in common, and is computed once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    /// Tokens of a beginning, at most; 0: none.
    pub tokens: usize,
    /// Whether the rows of equal pictures are.
    pub pictures: bool,
}

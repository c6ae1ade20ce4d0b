//! Which keys a query sees.

/// Which keys a query sees, by their positions in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionMask {
    /// Every key.
    Full,
    /// Keys up to its own position, and the segment's prefix.
    Causal,
    /// The nearest keys.
    Window {
        /// Keys back, its own position included: key > query - left.
        left: usize,
        /// Keys ahead: key <= query + right. `None` is causal: none ahead but in the prefix.
        right: Option<usize>,
    },
    /// Keys up to its own position in the same chunk of so many positions (Llama 4).
    Chunk(usize),
}

impl AttentionMask {
    /// Whether the query at `query` sees the key at `key`; keys before `prefix` are visible to all
    /// (except by [`AttentionMask::Window`] with a right side).
    pub fn sees(self, query: usize, key: usize, prefix: usize) -> bool {
        let causal = key <= query || key < prefix;
        match self {
            Self::Full => true,
            Self::Causal => causal,
            Self::Window { left, right: None } => causal && key + left > query,
            Self::Window {
                left,
                right: Some(right),
            } => key + left > query && key <= query + right,
            Self::Chunk(size) => causal && key / size == query / size,
        }
    }
}

//! Which keys a query sees.

use std::ops::Range;

/// Which keys a query sees, by their positions in a sequence: always one range.
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
        /// Keys ahead: key <= query + right. `None`: none ahead, except in the prefix.
        right: Option<usize>,
    },
    /// Keys up to its own position in the same chunk of so many positions (Llama 4).
    Chunk(usize),
    /// Keys of the same block, earlier and later ones.
    Block {
        /// Positions of a block.
        size: usize,
        /// The first block begins so many positions before the first key, fewer than `size`.
        shift: usize,
    },
    /// Keys that stand for so many positions each: those whose last position is not ahead (DeepSeek-V4).
    Summaries(usize),
}

impl AttentionMask {
    /// The positions that the query at `query` sees. Without a right side of the window, keys before
    /// `prefix` count as past.
    pub fn visible(self, query: usize, prefix: usize) -> Range<usize> {
        let causal = prefix.max(query + 1);
        match self {
            Self::Full => 0..usize::MAX,
            Self::Causal => 0..causal,
            Self::Window { left, right } => {
                let end = right.map_or(causal, |right| {
                    query.saturating_add(right).saturating_add(1)
                });
                (query + 1).saturating_sub(left)..end
            }
            Self::Chunk(size) => {
                let start = query / size * size;
                start..causal.min(start + size)
            }
            Self::Block { size, shift } => {
                let start = (query + shift) / size * size;
                start.saturating_sub(shift)..start + size - shift
            }
            Self::Summaries(rate) => 0..(query + 1) / rate,
        }
    }

    /// Whether the query at `query` sees the key at `key`.
    pub fn sees(self, query: usize, key: usize, prefix: usize) -> bool {
        self.visible(query, prefix).contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_see_what_they_say() {
        let window = AttentionMask::Window {
            left: 2,
            right: None,
        };
        assert_eq!(window.visible(5, 0), 4..6);
        assert_eq!(window.visible(0, 3), 0..3);
        assert_eq!(
            AttentionMask::Window {
                left: 2,
                right: Some(1)
            }
            .visible(5, 0),
            4..7
        );
        assert_eq!(AttentionMask::Chunk(4).visible(6, 0), 4..7);
        assert_eq!(AttentionMask::Chunk(4).visible(4, 100), 4..8);
        let blocks = AttentionMask::Block { size: 4, shift: 2 };
        assert_eq!(blocks.visible(1, 0), 0..2);
        assert_eq!(blocks.visible(2, 0), 2..6);
        assert_eq!(blocks.visible(5, 9), 2..6);
        assert_eq!(AttentionMask::Summaries(4).visible(6, 0), 0..1);
        assert_eq!(AttentionMask::Summaries(4).visible(7, 0), 0..2);
        assert!(AttentionMask::Causal.sees(1, 6, 7) && !AttentionMask::Causal.sees(1, 7, 7));
    }
}

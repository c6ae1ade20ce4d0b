//! Blocks of keys that queries choose.

use serde::Serialize;

use super::Uses;
use crate::parts::rope::Rope;
use crate::parts::{Linear, Norm};

/// An indexer of blocks: the `top_k` blocks of `size` keys with the largest scores among those that a query sees.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockChoice {
    /// Query heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// `[heads * head_dim, hidden]`.
    pub query: Linear,
    /// `[head_dim, hidden]`.
    pub key: Linear,
    /// Of each query head.
    pub query_norm: Norm,
    /// Of the key.
    pub key_norm: Norm,
    /// Rotation of queries and key; of heads that are narrower than it, each feature turns by an angle of its own.
    pub rope: Option<Rope>,
    /// Keys of a block.
    pub size: usize,
    /// Blocks per query, at most.
    pub top_k: usize,
    /// How blocks are scored.
    pub by: BlockScore,
}

/// The score of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BlockScore {
    /// The largest `q k`, by each head of the indexer for as many query heads (MiniMax-M3).
    LargestProduct {
        /// The nearest blocks come first in any case.
        local: usize,
    },
    /// The sum over all heads of what is positive of `q k`, with the mean of the block's keys, normed and rotated as the first of them; blocks
    /// that are not whole are seen (Qwen4-Exp).
    MeanKey,
}

impl BlockChoice {
    /// Collects its weights.
    pub(super) fn weights(&self, uses: &mut Uses) {
        let BlockChoice {
            heads: _,
            head_dim: _,
            query,
            key,
            query_norm,
            key_norm,
            rope: _,
            size: _,
            top_k: _,
            by: _,
        } = self;
        uses.linear(query);
        uses.linear(key);
        uses.norm(Some(query_norm));
        uses.norm(Some(key_norm));
    }
}

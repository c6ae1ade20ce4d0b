//! Blocks of keys that queries choose.

use serde::Serialize;

use super::Uses;
use crate::parts::rope::Rope;
use crate::parts::{Linear, Norm};

/// An indexer of blocks (MiniMax-M3): every head of it chooses, for as many query heads, the `top_k` blocks of `size` keys
/// whose largest `q k` is largest, among those that a query sees; the nearest blocks come first in any case.
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
    /// Rotation of queries and key.
    pub rope: Option<Rope>,
    /// Keys of a block.
    pub size: usize,
    /// Blocks per query, at most.
    pub top_k: usize,
    /// The nearest blocks.
    pub local: usize,
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
            local: _,
        } = self;
        uses.linear(query);
        uses.linear(key);
        uses.norm(Some(query_norm));
        uses.norm(Some(key_norm));
    }
}

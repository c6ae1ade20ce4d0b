//! An indexer of blocks of keys: how its weights are named.

use crate::build::{Leaves, NormStyle};
use crate::rope::Rope;
use crate::{BlockChoice, Shard};

/// The indexer's sizes.
#[derive(Clone, Debug)]
pub struct BlockSizes {
    /// Query heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Keys of a block.
    pub size: usize,
    /// Blocks per query, at most.
    pub top_k: usize,
    /// The nearest blocks, which come first.
    pub local: usize,
    /// Of queries and keys.
    pub norm: NormStyle,
    /// Of queries and keys.
    pub rope: Option<Rope>,
}

impl BlockSizes {
    /// The choice of a layer.
    pub(super) fn build(&self, leaves: &mut Leaves, hidden: usize) -> BlockChoice {
        let place = |part: &str| format!("self_attn.indexer.{part}");
        let (heads, dim) = (self.heads, self.head_dim);
        let shard = Shard::Replicate;
        BlockChoice {
            heads,
            head_dim: dim,
            query: leaves.linear(&place("q_proj"), [heads * dim, hidden], false, shard),
            key: leaves.linear(&place("k_proj"), [dim, hidden], false, shard),
            query_norm: leaves.norm(&place("q_norm"), dim, self.norm),
            key_norm: leaves.norm(&place("k_norm"), dim, self.norm),
            rope: self.rope.clone(),
            size: self.size,
            top_k: self.top_k,
            local: self.local,
        }
    }
}

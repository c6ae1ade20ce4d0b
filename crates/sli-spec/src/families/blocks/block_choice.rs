//! An indexer of blocks of keys: how its weights are named.

use crate::build::{Leaves, NormStyle};
use crate::rope::Rope;
use crate::{BlockChoice, BlockScore, Shard, Split};

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
    /// How blocks are scored.
    pub by: BlockScore,
    /// Projection of queries and key, one behind the other, where it is one.
    pub projection: Option<&'static str>,
    /// Norms of queries and of the key.
    pub norms: [&'static str; 2],
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
        let rows = [heads * dim, dim];
        let [query, key] = match self.projection {
            None => {
                ["q_proj", "k_proj"].map(|part| leaves.tensor(&place(&format!("{part}.weight"))))
            }
            Some(both) => [0, 1].map(|part| {
                let both = leaves.tensor(&place(&format!("{both}.weight")));
                both.part(Split::Rows(rows.to_vec()), part)
            }),
        };
        let [query_norm, key_norm] = self.norms;
        BlockChoice {
            heads,
            head_dim: dim,
            query: leaves.linear_of(query, None, [rows[0], hidden], shard),
            key: leaves.linear_of(key, None, [rows[1], hidden], shard),
            query_norm: leaves.norm(&place(query_norm), dim, self.norm),
            key_norm: leaves.norm(&place(key_norm), dim, self.norm),
            rope: self.rope.clone(),
            size: self.size,
            top_k: self.top_k,
            by: self.by,
        }
    }
}

//! Latent attention and the selection of its keys.

use serde::Serialize;

use super::attention::{Mask, QueryTemperature};
use super::layer::{Linear, Norm};
use crate::rope::Rope;

/// Multi-head latent attention: keys and values come from a low-rank latent (DeepSeek-V2, 2024).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatentAttention {
    /// Query heads.
    pub heads: usize,
    /// Unrotated features of a query or key head.
    pub nope_dim: usize,
    /// Rotated features of a query or key head; the rotated key is shared by all heads.
    pub rope_dim: usize,
    /// Features of a value head.
    pub value_dim: usize,
    /// Rank of the key/value latent.
    pub kv_rank: usize,
    /// `[q_rank, hidden]` and its norm, where queries are low-rank too.
    pub query_down: Option<(Linear, Norm)>,
    /// `[heads * (nope_dim + rope_dim), q_rank or hidden]`.
    pub query: Linear,
    /// `[kv_rank + rope_dim, hidden]`.
    pub key_value_down: Linear,
    /// Norm of the latent.
    pub key_value_norm: Norm,
    /// `[heads * (nope_dim + value_dim), kv_rank]`, per head `[nope; value]`.
    pub key_value_up: Linear,
    /// `[hidden, heads * value_dim]`.
    pub output: Linear,
    /// Rotation of the last `rope_dim` features.
    pub rope: Option<Rope>,
    /// Factor on the query latent after its norm (LongCat).
    pub query_latent_scale: f64,
    /// Factor on the key/value latent after its norm (LongCat).
    pub key_value_latent_scale: f64,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on `q k`.
    pub scale: f64,
    /// Factor on the query by its position.
    pub query_temperature: Option<QueryTemperature>,
    /// Which of the visible keys a query attends to, where not to all.
    pub selection: Option<KeySelection>,
}

/// Sparse attention over the best keys of every query (DeepSeek-V3.2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum KeySelection {
    /// An indexer of this layer chooses.
    Indexer(Box<Indexer>),
    /// The choice of the last layer before that has an indexer.
    Previous {
        /// Keys per query, at most.
        top_k: usize,
    },
}

/// The lightning indexer: `score(i, j) = sum_h weight_h(i) * relu(q_h(i) k(j) / sqrt(head_dim)) /
/// sqrt(heads)`; the `top_k` best visible keys stay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Indexer {
    /// Query heads.
    pub heads: usize,
    /// Features of a head; the rotated ones come first.
    pub head_dim: usize,
    /// `[heads * head_dim, q_rank]`, of the normed query latent.
    pub query: Linear,
    /// `[head_dim, hidden]`.
    pub key: Linear,
    /// Norm of the key.
    pub key_norm: Norm,
    /// `[heads, hidden]`.
    pub weights: Linear,
    /// Rotation of the first features of queries and key.
    pub rope: Option<Rope>,
    /// Keys per query, at most.
    pub top_k: usize,
    /// A later layer uses the choice as well.
    pub kept: bool,
}

//! Latent attention and the selection of its keys.

use serde::Serialize;

use super::contradiction::{PADDING, first_of};
use super::{Keys, Mechanism, Operations, OutputGate, Site, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, Linear, Mask, Norm, QueryTemperature};

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
    /// Gate on the heads' outputs.
    pub gate: Option<OutputGate>,
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
}

impl Mechanism for LatentAttention {
    fn weights(&self, uses: &mut Uses) {
        let LatentAttention {
            heads: _,
            nope_dim: _,
            rope_dim: _,
            value_dim: _,
            kv_rank: _,
            query_down,
            query,
            key_value_down,
            key_value_norm,
            key_value_up,
            output,
            rope: _,
            query_latent_scale: _,
            key_value_latent_scale: _,
            mask: _,
            scale: _,
            query_temperature: _,
            selection,
            gate,
        } = self;
        if let Some((down, norm)) = query_down {
            uses.linear(down);
            uses.norm(Some(norm));
        }
        uses.linear(query);
        uses.linear(key_value_down);
        uses.norm(Some(key_value_norm));
        uses.linear(key_value_up);
        match selection {
            Some(KeySelection::Indexer(indexer)) => indexer.weights(uses),
            Some(KeySelection::Previous { top_k: _ }) | None => {}
        }
        if let Some(gate) = gate {
            gate.weights(uses);
        }
        uses.linear(output);
    }

    fn label(&self) -> String {
        match self.selection {
            None => "latent attention".into(),
            Some(KeySelection::Indexer(_)) => "latent attention, keys chosen by an indexer".into(),
            Some(KeySelection::Previous { .. }) => {
                "latent attention, keys of an earlier choice".into()
            }
        }
    }

    fn summary(&self) -> String {
        format!(
            "latent attention ({} heads, rank {}{})",
            self.heads,
            self.kv_rank,
            self.mask.suffix()
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let has_latent = self.query_down.is_some();
        let chooses = matches!(self.selection, Some(KeySelection::Indexer(_)));
        let is_scaled = self.query_latent_scale != 1.0;
        let is_offset = self.ropes().into_iter().any(|rope| rope.offset != 0);
        first_of(&[
            (
                is_scaled && !has_latent,
                "a factor on a latent of queries that have none",
            ),
            (
                chooses && !has_latent,
                "an indexer of a latent of queries that have none",
            ),
            (
                is_offset,
                "a rotation in the middle of the rotated features",
            ),
            (self.mask.is_of_padding(), PADDING),
        ])
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Attention)
    }

    fn mask(&self) -> Option<Mask> {
        Some(self.mask)
    }

    fn cut(&self) -> Cut {
        if self.selection.is_some() {
            return Cut::Nowhere(super::mechanism::CHOICE_OF_KEYS);
        }
        self.mask.cut()
    }

    fn ropes(&self) -> Vec<&Rope> {
        let indexer = match &self.selection {
            Some(KeySelection::Indexer(indexer)) => indexer.rope.as_ref(),
            Some(KeySelection::Previous { .. }) | None => None,
        };
        self.rope.iter().chain(indexer).collect()
    }

    fn positions(&self) -> Vec<&'static str> {
        self.rope.iter().map(Rope::label).collect()
    }

    fn keys(&self) -> Option<Keys> {
        Some(Keys {
            queries: self.heads,
            heads: self.heads,
            key: self.nope_dim + self.rope_dim,
            value: self.value_dim,
            is_paired: false,
        })
    }

    fn chosen_keys(&self) -> Option<usize> {
        self.selection.as_ref().map(KeySelection::top_k)
    }

    fn operations(&self) -> Operations {
        let chosen = match &self.selection {
            Some(KeySelection::Indexer(indexer)) => 2 * indexer.heads * indexer.head_dim,
            Some(KeySelection::Previous { .. }) | None => 0,
        };
        let features = self.nope_dim + self.rope_dim + self.value_dim;
        Operations {
            of_row: 0.0,
            of_pair: (2 * self.heads * features + chosen) as f64,
            weights_of_pair: self.heads as f64,
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        2 * self.heads * (self.nope_dim + self.rope_dim + self.value_dim)
    }

    fn depends_on_length(&self, longest: usize) -> Option<&'static str> {
        // Where there are no more keys than may be chosen, nothing is.
        if self.chosen_keys().is_some_and(|chosen| chosen < longest) {
            return Some(super::mechanism::CHOICE_OF_KEYS);
        }
        let rope = self.rope.as_ref();
        rope.and_then(|rope| rope.turns_by_length(longest))
    }
}

impl KeySelection {
    /// Keys that a query may choose.
    pub fn top_k(&self) -> usize {
        match self {
            Self::Indexer(indexer) => indexer.top_k,
            Self::Previous { top_k } => *top_k,
        }
    }
}

impl Indexer {
    fn weights(&self, uses: &mut Uses) {
        let Indexer {
            heads: _,
            head_dim: _,
            query,
            key,
            key_norm,
            weights,
            rope: _,
            top_k: _,
        } = self;
        uses.linear(query);
        uses.linear(key);
        uses.norm(Some(key_norm));
        uses.linear(weights);
    }
}

//! Latent attention and the selection of its keys.

use serde::Serialize;

use super::contradiction::{PADDING, first_of};
use super::{Keys, Mechanism, Operations, OutputGate, Site, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, HeadTemperature, Linear, Mask, Norm, QueryTemperature};
use crate::source::WeightIndex;

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
    /// Queries, and a gate of their latent, see it in front of its norm too, behind the normed one (A.X K2).
    pub sees_raw_latent: bool,
    /// `[kv_rank + rope_dim, hidden]` and the norm of the latent; `None`: both are what an earlier layer handed on.
    pub key_value_down: Option<(Linear, Norm)>,
    /// Where among what layers hand on the latent and the shared key stand, if layers share them (Mistral Large 4).
    pub handed: Option<HandedLatent>,
    /// Norm of the shared rotated part of the keys, in front of the rotation (dots.note).
    pub shared_key_norm: Option<Norm>,
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
    /// Learned factors on the query's heads by its position.
    pub head_temperature: Option<HeadTemperature>,
    /// A learned logit per head that only enters the denominator `[heads]`.
    pub sinks: Option<WeightIndex>,
    /// Which of the visible keys a query attends to, where not to all.
    pub selection: Option<KeySelection>,
    /// Gate on the heads' outputs.
    pub gate: Option<OutputGate>,
}

/// A latent and a shared key, normed and rotated, that layers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HandedLatent {
    /// Its first column among all that layers hand on.
    pub first: usize,
    /// Columns of all.
    pub all: usize,
}

/// Sparse attention over the best keys of every query (DeepSeek-V3.2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum KeySelection {
    /// An indexer of this layer chooses.
    Indexer(Box<Indexer>),
    /// The choice of the last layer before that has an indexer.
    Previous {
        /// Keys or pools per query, at most.
        top_k: usize,
        /// Which keys are chosen together.
        pools: Pools,
    },
}

/// Keys that are chosen together: as many that follow each other, from the record's first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pools {
    /// How many.
    pub size: usize,
    /// Whether a query sees the keys behind its last whole pool, whatever it chose. Where it does not, those in front of the
    /// first whole pool see nothing, and their attention gives zeros.
    pub tail: bool,
}

impl Pools {
    /// Every key is chosen alone.
    pub const NONE: Self = Self {
        size: 1,
        tail: false,
    };
}

/// The lightning indexer: `score(i, j) = sum_h weight_h(i) * relu(q_h(i) k(j) / sqrt(head_dim)) /
/// sqrt(heads)`; the `top_k` best visible keys stay. With pools, `k(j)` stands for that many keys, of which a query sees all
/// or none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Indexer {
    /// Query heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// `[heads * head_dim, q_rank]`, of the normed query latent; or `[heads * head_dim, hidden]`.
    pub query: Linear,
    /// Norm of the layer's input, where queries are of it instead of a latent.
    pub query_norm: Option<Norm>,
    /// Learned factors on the queries' heads by their position.
    pub head_temperature: Option<HeadTemperature>,
    /// `[head_dim, hidden]`.
    pub key: Linear,
    /// Norm of the key.
    pub key_norm: Norm,
    /// `[heads, hidden]`.
    pub weights: Linear,
    /// Rotation of some features of queries and key.
    pub rope: Option<Rope>,
    /// Keys or pools per query, at most.
    pub top_k: usize,
    /// Keys that are chosen together.
    pub pool: Option<KeyPool>,
}

/// Keys that are chosen together, and the key that stands for them: their mean, weighted feature by feature by the softmax
/// over the pool of `gate x + bias` (GLM-5.3).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyPool {
    /// Which.
    pub pools: Pools,
    /// `[head_dim, hidden]`.
    pub gate: Linear,
    /// `[size * head_dim]`: an addend for each place in the pool.
    pub bias: WeightIndex,
}

impl Mechanism for LatentAttention {
    fn alike(&self) -> Vec<Vec<WeightIndex>> {
        let down = |down: &Option<(Linear, Norm)>| down.as_ref().map(|(down, _)| down.weight);
        let gate = self.gate.as_ref();
        let gate_of = |is_of_latent: bool| {
            let gate = gate.filter(|gate| gate.of_latent == is_of_latent);
            gate.map(|gate| gate.projection.weight)
        };
        let mut of_input: Vec<WeightIndex> = gate_of(false).into_iter().collect();
        of_input.extend(down(&self.key_value_down));
        let Some(query_down) = down(&self.query_down) else {
            of_input.push(self.query.weight);
            return vec![of_input];
        };
        of_input.push(query_down);
        let of_latent = gate_of(true).into_iter().chain([self.query.weight]);
        vec![of_input, of_latent.collect()]
    }

    fn weights(&self, uses: &mut Uses) {
        let LatentAttention {
            heads: _,
            nope_dim: _,
            rope_dim: _,
            value_dim: _,
            kv_rank: _,
            query_down,
            query,
            sees_raw_latent: _,
            key_value_down,
            handed: _,
            shared_key_norm,
            key_value_up,
            output,
            rope: _,
            query_latent_scale: _,
            key_value_latent_scale: _,
            mask: _,
            scale: _,
            query_temperature: _,
            head_temperature,
            sinks,
            selection,
            gate,
        } = self;
        if let Some((down, norm)) = query_down {
            uses.linear(down);
            uses.norm(Some(norm));
        }
        uses.linear(query);
        if let Some((down, norm)) = key_value_down {
            uses.linear(down);
            uses.norm(Some(norm));
        }
        uses.norm(shared_key_norm.as_ref());
        uses.linear(key_value_up);
        weights_of(*head_temperature, uses);
        match selection {
            Some(KeySelection::Indexer(indexer)) => indexer.weights(uses),
            Some(KeySelection::Previous { top_k: _, pools: _ }) | None => {}
        }
        uses.optional(*sinks);
        if let Some(gate) = gate {
            gate.weights(uses);
        }
        uses.linear(output);
    }

    fn label(&self) -> String {
        match &self.selection {
            None => "latent attention".into(),
            Some(KeySelection::Indexer(indexer)) if indexer.pool.is_some() => {
                "latent attention, pools of keys chosen by an indexer".into()
            }
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
        let chooses = matches!(&self.selection,
            Some(KeySelection::Indexer(indexer)) if indexer.query_norm.is_none());
        let is_handed = self.key_value_down.is_none();
        let is_scaled = self.query_latent_scale != 1.0;
        let is_offset = self.rope.as_ref().is_some_and(|rope| rope.offset != 0);
        let of_latent = self.gate.as_ref().is_some_and(|gate| gate.of_latent);
        first_of(&[
            (
                is_scaled && self.sees_raw_latent,
                "a factor on one of two forms of a latent",
            ),
            (
                is_scaled && !has_latent,
                "a factor on a latent of queries that have none",
            ),
            (
                chooses && !has_latent,
                "an indexer of a latent of queries that have none",
            ),
            (
                (of_latent || self.sees_raw_latent) && !has_latent,
                "a gate of a latent of queries that have none",
            ),
            (
                is_offset,
                "a rotation in the middle of the rotated features",
            ),
            (
                is_handed && (self.handed.is_none() || self.shared_key_norm.is_some()),
                "a latent of keys and values that no layer hands on as it is used",
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

    fn hands_on(&self) -> usize {
        self.handed.map_or(0, |handed| handed.all)
    }

    fn chosen_keys(&self) -> Option<usize> {
        self.selection.as_ref().map(KeySelection::top_k)
    }

    fn operations(&self) -> Operations {
        let chosen = match &self.selection {
            Some(KeySelection::Indexer(indexer)) => {
                2 * indexer.heads * indexer.head_dim / indexer.pools().size
            }
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
        let reach =
            |selection: &KeySelection| selection.top_k().saturating_mul(selection.pools().size);
        if self
            .selection
            .as_ref()
            .is_some_and(|own| reach(own) < longest)
        {
            return Some(super::mechanism::CHOICE_OF_KEYS);
        }
        let rope = self.rope.as_ref();
        rope.and_then(|rope| rope.turns_by_length(longest))
    }
}

fn weights_of(temperature: Option<HeadTemperature>, uses: &mut Uses) {
    if let Some(HeadTemperature { scale, bias }) = temperature {
        uses.weight(scale);
        uses.weight(bias);
    }
}

impl KeySelection {
    /// Keys or pools that a query may choose.
    pub fn top_k(&self) -> usize {
        match self {
            Self::Indexer(indexer) => indexer.top_k,
            Self::Previous { top_k, pools: _ } => *top_k,
        }
    }

    /// Which keys are chosen together.
    pub fn pools(&self) -> Pools {
        match self {
            Self::Indexer(indexer) => indexer.pools(),
            Self::Previous { top_k: _, pools } => *pools,
        }
    }
}

impl Indexer {
    fn weights(&self, uses: &mut Uses) {
        let Indexer {
            heads: _,
            head_dim: _,
            query,
            query_norm,
            head_temperature,
            key,
            key_norm,
            weights,
            rope: _,
            top_k: _,
            pool,
        } = self;
        uses.norm(query_norm.as_ref());
        uses.linear(query);
        weights_of(*head_temperature, uses);
        uses.linear(key);
        uses.norm(Some(key_norm));
        if let Some(KeyPool {
            pools: _,
            gate,
            bias,
        }) = pool
        {
            uses.linear(gate);
            uses.weight(*bias);
        }
        uses.linear(weights);
    }

    /// Which keys are chosen together.
    pub fn pools(&self) -> Pools {
        self.pool.as_ref().map_or(Pools::NONE, |pool| pool.pools)
    }
}

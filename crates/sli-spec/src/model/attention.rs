//! Softmax attention.

use serde::Serialize;

use super::feed_forward::Activation;
use super::layer::{Linear, Norm};
use crate::rope::Rope;
use crate::source::WeightIndex;

/// Multi-head, grouped-query or multi-query attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features of a query or key head.
    pub head_dim: usize,
    /// Features of a value head.
    pub value_dim: usize,
    /// `[heads * head_dim, hidden]`.
    pub query: Linear,
    /// Where keys and values come from.
    pub key_value: KeyValue,
    /// `[hidden, heads * value_dim]`.
    pub output: Linear,
    /// Limits q, k and v to `[-clip, clip]`, after the norms in front of the rotation.
    pub clip: Option<f64>,
    /// Norm of the queries.
    pub query_norm: Option<HeadNorm>,
    /// Norm of the keys.
    pub key_norm: Option<HeadNorm>,
    /// Norm of the values.
    pub value_norm: Option<HeadNorm>,
    /// How positions enter; empty: not at all.
    pub positions: Vec<Position>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on `q k`.
    pub scale: f64,
    /// `cap * tanh(logit / cap)` on the scaled logits.
    pub softcap: Option<f64>,
    /// Limits the scaled logits to `[-clamp, clamp]` (Aquila).
    pub clamp: Option<f64>,
    /// A learned logit per head that only enters the denominator `[heads]`.
    pub sinks: Option<WeightIndex>,
    /// Factor on the query by its position.
    pub query_temperature: Option<QueryTemperature>,
    /// Gate on the heads' outputs.
    pub gate: Option<OutputGate>,
    /// The first half of the heads less the second, on pairs of value heads.
    pub differential: Option<Differential>,
    /// A learned addend for every key, of which only the largest stay visible.
    pub dynamic_mask: Option<DynamicMask>,
    /// Norm of the concatenated heads in front of the output projection (BitNet).
    pub output_norm: Option<Norm>,
}

/// Where keys and values come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum KeyValue {
    /// Projections of the layer's own input.
    Own {
        /// `[kv_heads * head_dim, hidden]`.
        key: Linear,
        /// `[kv_heads * value_dim, hidden]`; absent: values are the keys as projected.
        value: Option<Linear>,
    },
    /// The finished keys and values of an earlier layer of the stack (0-based).
    OfLayer(usize),
}

/// Keys and values of a layer that outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedKeys {
    /// The layer (0-based).
    pub layer: usize,
    /// Columns of the keys.
    pub keys: usize,
    /// Columns of the values.
    pub values: usize,
}

/// A norm of queries, keys or values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadNorm {
    /// The norm; its weight has the features of its span.
    pub norm: Norm,
    /// What one row of it is.
    pub span: NormSpan,
    /// After the rotation instead of before.
    pub after_rotation: bool,
}

/// The features that are normalised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormSpan {
    /// One head; all heads share the weight `[head_dim]`.
    Head,
    /// One head; every head has its own weight `[heads * head_dim]` (Cohere).
    HeadOwnWeight,
    /// All heads together (OLMo 2).
    Full,
}

/// One way in which positions enter attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Position {
    /// Rotary embedding of queries and keys.
    Rope(Rope),
    /// A slope per head on the distance (Press et al. 2021).
    Alibi(Alibi),
    /// A learned addend per head and bucket of distances (Raffel et al. 2019).
    Buckets(RelativeBuckets),
}

/// Learned addends of the logits: of the bucket of the distance `key - query`, or, between tokens of
/// different types, of the pair of types (CPM-Ant).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RelativeBuckets {
    /// `[(buckets + types * types) * heads]`, a row of heads a bucket.
    pub table: WeightIndex,
    /// Buckets of distances, half of them for later keys.
    pub buckets: usize,
    /// Distance from which all share a bucket.
    pub max_distance: usize,
    /// Token types.
    pub types: usize,
}

impl RelativeBuckets {
    /// The bucket of a distance `key - query`: one each up to half of a direction's, then growing with
    /// the logarithm. Computed in f32, as the reference does.
    pub fn bucket(&self, distance: i64) -> usize {
        let half = self.buckets / 2;
        let exact = half / 2;
        let direction = if distance > 0 { half } else { 0 };
        let distance = distance.unsigned_abs() as usize;
        if distance < exact {
            return direction + distance;
        }
        let ratio = (distance as f32 / exact as f32).ln();
        let range = (self.max_distance as f64 / exact as f64).ln() as f32;
        let step = (ratio / range * (half - exact) as f32) as usize;
        direction + (exact + step).min(half - 1)
    }
}

/// Slopes of ALiBi, one a head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alibi {
    /// `bias = slope * (key position - query position)`.
    pub slopes: Vec<f64>,
    /// Falcon's: `bias = scale * slope * key position` with the attention's own scale, where the
    /// slope, the position and their product are rounded to bf16.
    pub rounded_to_bf16: bool,
}

/// Which keys a query at position `i` sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mask {
    /// All.
    Full,
    /// All but as many of a record's first tokens as it has padding tokens, which is where a batch
    /// that is padded on the left has them (CPM-Ant). Those see nothing themselves.
    FullButPadding(u32),
    /// `j <= i`.
    Causal,
    /// `j <= i`, and all of the record's context ([`crate::PositionIds::Blocks`]).
    CausalAfterContext,
    /// `i - window < j <= i`.
    CausalWindow(usize),
    /// `|i - j| <= distance`.
    Window(usize),
    /// `j <= i` within the same block of this many positions.
    CausalChunk(usize),
}

impl Mask {
    /// The mask of a decoder that looks ahead too (`is_causal: false`); `None`: no such thing is known.
    pub(crate) fn both_ways(self) -> Option<Self> {
        match self {
            Self::Causal => Some(Self::Full),
            // The reference's windows of decoders do not count the last position, these do.
            Self::CausalWindow(window) => Some(Self::Window(window)),
            Self::Full | Self::Window(_) => Some(self),
            Self::FullButPadding(_) | Self::CausalAfterContext | Self::CausalChunk(_) => None,
        }
    }
}

/// A factor on the query that depends on its position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum QueryTemperature {
    /// `1 + beta * ln(1 + floor((position + shift) / original))` (Llama 4, Ministral 3).
    Llama4 {
        /// Factor on the logarithm.
        beta: f64,
        /// Positions per step.
        original: f64,
        /// Added to the position.
        shift: f64,
    },
    /// `max(1, ln(position + 1) / ln(trained))` (Qwen, Baichuan-like logn scaling).
    LogN {
        /// Trained length.
        trained: f64,
    },
    /// `(1 + (position + 1) / original)^exponent` (Beam).
    Power {
        /// Positions per unit.
        original: f64,
        /// The exponent.
        exponent: f64,
    },
}

/// A gate on the attention output in front of its projection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputGate {
    /// `[heads, hidden]` or `[heads * value_dim, hidden]`, of the layer's (normed) input.
    pub projection: Linear,
    /// One gate a head instead of one a feature.
    pub per_head: bool,
    /// Applied to the gate.
    pub activation: Activation,
    /// Added to all features of a head before the activation `[heads]` (Beam).
    pub head_bias: Option<WeightIndex>,
}

/// Differential attention (Ye et al. 2024): every head sees two value heads side by side (`g` and
/// `g + kv_heads / 2`, for `g` modulo `kv_heads / 2`), and head `h` becomes
/// `gain * norm(head[h] - lambda * head[h + heads / 2])`, where
/// `lambda = exp(q1 k1) - exp(q2 k2) + initial`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differential {
    /// `[q1, k1, q2, k2]`, `[head_dim]` each.
    pub lambda: [WeightIndex; 4],
    /// Addend of lambda.
    pub initial: f64,
    /// Of `2 * value_dim` features of a head.
    pub norm: HeadNorm,
    /// After the norm.
    pub gain: f64,
}

/// Dynamic mask attention (Doge, 2024): `exp(decay * softplus(step v))` of every key and key head is
/// added to its logits, and of the keys that a query sees only the `kept` largest count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DynamicMask {
    /// `[kv_heads, kv_heads * value_dim]`, of the values.
    pub step: Linear,
    /// `[kv_heads]`.
    pub decay: WeightIndex,
    /// Keys that a query sees at most.
    pub kept: usize,
}

impl Attention {
    /// Softmax attention with the usual scale and nothing else; `[heads, kv_heads, head_dim]`.
    pub fn plain(
        [heads, kv_heads, head_dim]: [usize; 3],
        query: Linear,
        key_value: KeyValue,
        output: Linear,
        mask: Mask,
    ) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            query,
            key_value,
            output,
            clip: None,
            query_norm: None,
            key_norm: None,
            value_norm: None,
            positions: Vec::new(),
            mask,
            scale: (head_dim as f64).powf(-0.5),
            softcap: None,
            clamp: None,
            sinks: None,
            query_temperature: None,
            gate: None,
            differential: None,
            dynamic_mask: None,
            output_norm: None,
        }
    }
}

//! The description of a model: stacks of layers, layers of steps, steps of mixers.
//!
//! A [`Layer`]'s `leaves` are the only list of its weights, in the order of use; everything else
//! holds [`WeightIndex`]es into that list. Shapes are `[out, in]`; activations are `[tokens, features]`.

use std::collections::HashSet;

use serde::Serialize;

use crate::rope::Rope;
use crate::source::{Leaf, WeightIndex};

/// A whole model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The family that described it.
    pub family: &'static str,
    /// Prefix of the base model in tensor names (`model.`); a checkpoint of the bare base model
    /// lacks it.
    pub base_prefix: &'static str,
    /// Tensors that files of this family carry and that nothing needs (`*` matches any run).
    pub ignored: Vec<&'static str>,
    /// Number of token ids.
    pub vocab_size: usize,
    /// How long a record may be.
    pub length_limit: LengthLimit,
    /// First position id of a record.
    pub positions: PositionIds,
    /// Rows of the token table that run in front of every record (CPM-Ant). Results are of the
    /// record's own tokens only.
    pub prompt: Vec<u32>,
    /// Vision tower, projector, encoder, decoder: in order of execution.
    pub stacks: Vec<Stack>,
}

/// How long a record may be, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LengthLimit {
    /// Dynamic rope, ALiBi, relative buckets, recurrences.
    None,
    /// A learned position table has this many usable rows.
    Table(usize),
    /// Positions beyond this were not trained; they can be computed.
    Trained(usize),
}

/// How position ids follow from a record's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PositionIds {
    /// 0, 1, 2, ...
    Sequential,
    /// RoBERTa: `padding + 1 +` the number of non-padding tokens before; a padding token has
    /// position `padding`.
    AfterPadding {
        /// `pad_token_id`.
        padding: u32,
    },
    /// ChatGLM: what stands in front of the first `begin` is the context, which sees all of itself;
    /// the rest fills one mask of the context. Learned tables are not used; a rotation names its
    /// [`PositionAxis`](crate::rope::PositionAxis). A record without `begin`, or without a mask, has
    /// no positions.
    Blocks {
        /// The first token of the generated part.
        begin: u32,
        /// Masks: the first of these that the record has, at its first place.
        masks: [u32; 2],
    },
}

/// Layers that share one width and one sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stack {
    /// `decoder`, `encoder`, `vision`, ...: names the output files.
    pub name: &'static str,
    /// Features of the hidden state.
    pub hidden_size: usize,
    /// What enters the first layer.
    pub embedding: Embedding,
    /// The layers, in order of execution.
    pub layers: Vec<Layer>,
    /// What follows the last layer.
    pub head: Head,
}

/// Token ids to the input of the first layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// Token table `[vocab, width]`.
    pub tokens: WeightIndex,
    /// Features of a row of the token table (differs from the hidden size with `projection`).
    pub width: usize,
    /// Factor on the token embedding alone.
    pub scale: f64,
    /// Norm of the token embedding alone, before anything is added.
    pub token_norm: Option<Norm>,
    /// Added position embedding.
    pub positions: Option<PositionTable>,
    /// Token-type table `[types, width]`; type 0 where the record gives none.
    pub token_types: Option<TokenTypes>,
    /// Norm of the sum.
    pub norm: Option<Norm>,
    /// `[hidden, width]` after the norm (ALBERT, ELECTRA) .
    pub projection: Option<Linear>,
    /// `true`: positions are added after the projection (OPT-350m).
    pub positions_after_projection: bool,
    /// Further residual streams: `[hidden, hidden]` each, of the embedding, scaled to its magnitude
    /// (AltUp).
    pub streams: Vec<Linear>,
    /// Inputs of the layers beside the hidden state.
    pub layer_inputs: Option<LayerInputs>,
}

/// An input of its own for every layer, of the token and of its embedding (Gemma 3n):
/// `scale * (norm(projection_scale * projection(embedding)) + table_scale * table[token])`, in parts of
/// one layer each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerInputs {
    /// `[rows, layers * width]`.
    pub table: WeightIndex,
    /// Rows of the table.
    pub rows: usize,
    /// A token beyond the rows reads row 0 (Gemma 3n); else it is no token of the model (Gemma 4).
    pub beyond_is_first: bool,
    /// Factor on the table's rows.
    pub table_scale: f64,
    /// `[layers * width, hidden]`.
    pub projection: Linear,
    /// Factor on the projected embedding.
    pub projection_scale: f64,
    /// Norm of every layer's part `[width]`.
    pub norm: Norm,
    /// Factor on the sum.
    pub scale: f64,
    /// Features a layer.
    pub width: usize,
    /// Layers.
    pub layers: usize,
}

/// A table of token-type embeddings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenTypes {
    /// `[types, width]`, added to the token embedding.
    pub weight: WeightIndex,
    /// Number of types.
    pub types: usize,
    /// Where a token's type comes from.
    pub rule: TypeRule,
}

/// Where token types come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TypeRule {
    /// The record; 0 where it gives none.
    Given,
    /// The token: 0 for the prompt and for padding, else this one (CPM-Ant).
    OfToken {
        /// The padding token.
        padding: u32,
        /// Type of every other token of a record.
        other: u32,
    },
}

/// Position embeddings that are added to the token embedding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum PositionTable {
    /// Learned `[rows, width]`; position `p` reads row `p + offset`.
    Learned {
        /// The table.
        weight: WeightIndex,
        /// Rows in front of position 0.
        offset: usize,
        /// Rows of the table.
        rows: usize,
    },
    /// Computed sines and cosines.
    Sinusoidal(Sinusoidal),
}

/// A fixed sinusoidal table (Vaswani et al. 2017): `frequency[i] = 10000^(-i / denominator)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sinusoidal {
    /// Added to the position before the angle is taken.
    pub offset: usize,
    /// Sine and cosine alternate (`false`: all sines, then all cosines).
    pub interleaved: bool,
    /// Denominator of the exponent: `width / 2` (Vaswani) or `width / 2 - 1` (tensor2tensor).
    pub denominator: f64,
    /// The row (position and offset) that is zero: the padding token's, in fairseq's tables.
    pub zero_row: Option<usize>,
}

/// One layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Layer {
    /// Prefix of its tensor names.
    pub prefix: String,
    /// Its weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// What it does.
    pub steps: Vec<Step>,
}

/// One residual step:
/// `y = post(sum_b gain_b * post_b(mixer_b(pre_b(pre(read)))))`, then `write`.
///
/// One branch with `pre` is pre-norm; [`Write::AddNorm`] is post-norm (BERT); `pre` and `post` is a
/// sandwich (Gemma 2); two branches are a parallel residual (Cohere, GPT-NeoX).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Where the input comes from.
    pub read: Slot,
    /// Norm in front of all branches.
    pub pre: Option<Norm>,
    /// The mixers; their outputs are summed.
    pub branches: Vec<Branch>,
    /// Norm of the sum.
    pub post: Option<Norm>,
    /// What becomes of the sum.
    pub write: Write,
}

/// One mixer of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// Norm of its input, after the step's own.
    pub pre: Option<Norm>,
    /// The mixer.
    pub mixer: Mixer,
    /// Norm of its output.
    pub post: Option<Norm>,
    /// Factor on its output.
    pub gain: Gain,
}

/// A buffer of `[tokens, hidden]` that outlives a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Slot {
    /// The hidden state.
    Hidden,
    /// A further buffer, by number.
    Stash(u8),
}

/// A factor on a branch or a residual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Gain {
    /// 1.
    One,
    /// A constant.
    Constant(f64),
    /// A learned factor per feature `[hidden]`, or one for all `[1]`.
    Vector(WeightIndex),
}

/// What becomes of a step's sum `y`; `r` is the hidden state before the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Write {
    /// `h = r + y`.
    Add,
    /// `h = gain * r + y`.
    AddScaled(Gain),
    /// `h = norm(gain * r + y)` (post-norm: BERT, openai-gpt).
    AddNorm(Norm, Gain),
    /// The slot becomes `y`.
    Set(Slot),
    /// The slot is increased by `y`.
    AddTo(Slot),
}

/// A normalisation over the last axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Norm {
    /// Which.
    pub kind: NormKind,
    /// Factor per feature.
    pub weight: Option<WeightIndex>,
    /// Addend per feature.
    pub bias: Option<WeightIndex>,
    /// Added to the variance (or mean square).
    pub epsilon: f64,
}

/// The kinds of [`Norm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`.
    Rms,
    /// `(x - mean) / sqrt(var + eps)`.
    Layer,
    /// `x / sqrt(sum(x^2) + eps)`.
    L2,
}

/// `y = W x + b`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: WeightIndex,
    /// `[out]`.
    pub bias: Option<WeightIndex>,
    /// Output features.
    pub out_features: usize,
    /// Input features.
    pub in_features: usize,
}

/// What a branch computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mixer {
    /// Multi-head attention.
    Attention(Box<Attention>),
    /// Multi-head latent attention (DeepSeek-V2).
    LatentAttention(Box<LatentAttention>),
    /// Feed-forward network.
    FeedForward(FeedForward),
    /// Mixture of experts.
    MixtureOfExperts(Box<MixtureOfExperts>),
    /// Attention with projections that are experts.
    MixtureOfAttention(Box<MixtureOfAttention>),
    /// One linear map (Nemotron-NAS, in the place of a whole sublayer).
    Linear(Linear),
    /// A feed-forward network of which only the largest gates count.
    SparseFeedForward(SparseFeedForward),
    /// `up(down(x))`.
    LowRank(LowRank),
    /// The layer's own input enters.
    LayerInput(LayerInput),
    /// All residual streams from all (AltUp); what it computes is no output but the streams.
    Streams(Streams),
    /// The slot's content, unchanged.
    Identity,
}

/// A gated network whose gates lose `mean + deviations * standard deviation` of their row and are cut
/// at 0 before the activation (Gemma 3n).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SparseFeedForward {
    /// The network.
    pub network: FeedForward,
    /// How far above the mean a gate has to be.
    pub deviations: f64,
}

/// A product of two small matrices (LAuReL).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LowRank {
    /// `[rank, hidden]`.
    pub down: Linear,
    /// `[hidden, rank]`.
    pub up: Linear,
}

/// `projection(activation(gate x) * input)` with the layer's part of [`LayerInputs`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerInput {
    /// `[width, hidden]`.
    pub gate: Linear,
    /// On the gate.
    pub activation: Activation,
    /// `[hidden, width]`.
    pub projection: Linear,
}

/// One half of AltUp (Baykal et al. 2023) on `streams` streams: the hidden state and the first stashes.
/// With `m = tanh(router(norm(x) / hidden))`, x the active stream or the slot that was computed from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Streams {
    /// Number of streams.
    pub streams: usize,
    /// The active one.
    pub active: usize,
    /// Norm in front of the router.
    pub norm: Norm,
    /// `[streams, hidden]`.
    pub router: Linear,
    /// Which half.
    pub update: StreamUpdate,
}

/// The halves of AltUp.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StreamUpdate {
    /// `stream_j += sum_i c[j, i] * stream_i` with `c = coefficients(m)` `[streams, streams]`.
    Predict {
        /// `[streams * streams, streams]`.
        coefficients: Linear,
    },
    /// `stream_j += (1 + coefficients(m)_j) * (computed - stream_active)`.
    Correct {
        /// `[streams, streams]`.
        coefficients: Linear,
        /// What the layer made of the active stream.
        computed: Slot,
    },
}

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
    /// `j <= i`, and all of the record's context ([`PositionIds::Blocks`]).
    CausalAfterContext,
    /// `i - window < j <= i`.
    CausalWindow(usize),
    /// `|i - j| <= distance`.
    Window(usize),
    /// `j <= i` within the same block of this many positions.
    CausalChunk(usize),
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

/// `down(activation(gate x) * up x)` or `down(activation(up x))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedForward {
    /// `[intermediate, hidden]`, where gated.
    pub gate: Option<Linear>,
    /// `[intermediate, hidden]`.
    pub up: Linear,
    /// `[hidden, intermediate]`.
    pub down: Linear,
    /// On the gate, or on `up` where there is none.
    pub activation: Activation,
    /// Takes the place of `activation`, where there is one.
    pub learned_activation: Option<Xielu>,
    /// Norm in front of `down` (BitNet).
    pub inner_norm: Option<Norm>,
    /// Replaces the gated activation (gpt-oss).
    pub clamped: Option<ClampedGate>,
}

/// `g * sigmoid(sharpness * g) * (u + 1)` with `g = min(gate x, limit)` and `u = up x` limited to
/// `[-limit, limit]` (gpt-oss).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClampedGate {
    /// Limit of gate and `up`.
    pub limit: f64,
    /// Factor inside the sigmoid.
    pub sharpness: f64,
}

/// The activation xIELU (Huang and Schlag 2024), by the reference's names of its scalars `[1]`: with
/// `p = softplus(alpha_p)` and `n = beta + softplus(alpha_n)`,
/// `p x^2 + beta x` above 0, else `n (expm1(min(x, eps)) - x) + beta x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Xielu {
    /// Of positive inputs.
    pub alpha_p: WeightIndex,
    /// Of negative inputs.
    pub alpha_n: WeightIndex,
    /// Slope at 0; a stored constant.
    pub beta: WeightIndex,
    /// A little below 0; a stored constant.
    pub eps: WeightIndex,
}

/// Mixture of experts: every token goes to `top_k` of them. Expert weights are leaves of shape
/// `[experts, out, in]`, their addends of shape `[experts, out]`; an expert that no token chose is
/// not read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureOfExperts {
    /// Number of experts with weights.
    pub experts: usize,
    /// Experts behind those that return their input (LongCat).
    pub identity_experts: usize,
    /// How tokens choose.
    pub router: Router,
    /// Norm of the experts' input, which the router does not see (Gemma 4).
    pub expert_norm: Option<Norm>,
    /// The experts' network; its weights have a leading expert axis.
    pub expert: FeedForward,
    /// Always-on experts as one network.
    pub shared: Option<FeedForward>,
    /// `[1, hidden]`: sigmoid gate on the shared network's output.
    pub shared_gate: Option<Linear>,
    /// Factor on the sum of the chosen and the always-on experts.
    pub output_scale: f64,
    /// Added to the sum `[hidden]` (JetMoe).
    pub output_bias: Option<WeightIndex>,
}

/// Attention whose query and output projections are experts (JetMoe): a token's queries come from
/// `top_k` experts, each with its own heads, all over the same keys and values; the weighted outputs
/// of the same experts are summed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureOfAttention {
    /// Number of experts.
    pub experts: usize,
    /// How tokens choose.
    pub router: Router,
    /// Heads of one expert, which are also the key/value heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// `[experts, heads * head_dim, hidden]`.
    pub query: Linear,
    /// `[heads * head_dim, hidden]`.
    pub key: Linear,
    /// `[heads * head_dim, hidden]`.
    pub value: Linear,
    /// `[experts, hidden, heads * head_dim]`.
    pub output: Linear,
    /// Added to the sum `[hidden]`.
    pub output_bias: WeightIndex,
    /// Rotation of queries and keys.
    pub rope: Option<Rope>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on `q k`.
    pub scale: f64,
}

/// How a token chooses its experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Router {
    /// Norm of the router's own input (Gemma 4).
    pub norm: Option<Norm>,
    /// `[experts, hidden]`; `[2 * keys, hidden]` with product keys.
    pub projection: Linear,
    /// Factor on the logits.
    pub logit_scale: f64,
    /// `cap * tanh(logit / cap)`.
    pub softcap: Option<f64>,
    /// Logits to scores.
    pub score: RouterScore,
    /// Experts per token.
    pub top_k: usize,
    /// Added to the scores for the choice only `[experts]`.
    pub choice_bias: Option<WeightIndex>,
    /// Limits the choice to some groups of experts.
    pub groups: Option<RouterGroups>,
    /// What the chosen scores are divided by.
    pub renormalize: Renormalize,
    /// Factor on the weights.
    pub scale: f64,
    /// Each expert's own factor on its weight `[experts]` (Gemma 4).
    pub expert_scale: Option<WeightIndex>,
    /// The weight multiplies the expert's input instead of its output (Llama 4).
    pub weighs_input: bool,
}

impl Router {
    /// The `top_k` best of these scores, nothing else.
    pub fn plain(projection: Linear, score: RouterScore, top_k: usize) -> Self {
        Self {
            norm: None,
            projection,
            logit_scale: 1.0,
            softcap: None,
            score,
            top_k,
            choice_bias: None,
            groups: None,
            renormalize: Renormalize::No,
            scale: 1.0,
            expert_scale: None,
            weighs_input: false,
        }
    }
}

/// Logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum RouterScore {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// Logits choose; softmax over the chosen ones.
    SoftmaxOfTopK,
    /// Product keys (Doge, after Lample et al. 2019): expert `i * keys + j` has the sum of logit `i` of
    /// one half and logit `j` of the other; softmax over the chosen sums. The halves of token `t` of a
    /// record of `n` are the rows `t` and `n + t` of its `[n, 2 * keys]` logits seen as
    /// `[2 * n, keys]`, as the reference has it.
    ProductKeys(usize),
    /// Logits choose; sigmoid of each chosen one.
    SigmoidOfTopK,
    /// One expert after another; the weight of each is its share of the softmax over the experts
    /// that were not chosen before and whose logit is near the best of them (SparseMixer, Liu et al.
    /// 2023): `(best - logit) / max(|logit|, best) <= 2 * jitter`.
    SparseMixer {
        /// How near.
        jitter: f64,
    },
}

/// What the scores of the chosen experts are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Renormalize {
    /// Nothing.
    No,
    /// Their sum and this.
    Sum {
        /// Added to the sum.
        plus: f64,
    },
    /// Their sum, at least this.
    SumAtLeast(f64),
    /// Their p-norm (DBRX).
    Norm {
        /// The exponent.
        p: f64,
    },
}

/// Group-limited choice (DeepSeek).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RouterGroups {
    /// Number of groups.
    pub count: usize,
    /// Groups a token may use.
    pub chosen: usize,
    /// A group's score is the sum of its best this many scores (1: the maximum).
    pub best: usize,
}

/// Elementwise activations, by the names of transformers' `ACT2FN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Activation {
    /// `gelu`: with the error function.
    Gelu,
    /// `gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`, `gelu_accurate`: with tanh.
    GeluTanh,
    /// `quick_gelu`: `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `relu`.
    Relu,
    /// `relu2`: squared.
    Relu2,
    /// `relu6`.
    Relu6,
    /// `silu`, `swish`.
    Silu,
    /// `sigmoid`.
    Sigmoid,
    /// `tanh`.
    Tanh,
    /// `softplus`.
    Softplus,
    /// `mish`.
    Mish,
    /// `leaky_relu`: slope 0.01.
    LeakyRelu,
    /// `linear`.
    Linear,
}

/// What follows the last layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Head {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// Projections of the further residual streams `[hidden, hidden]`, scaled to the magnitude of the
    /// first; their mean with it enters the final norm.
    pub streams: Vec<Linear>,
    /// Final norm.
    pub norm: Option<Norm>,
    /// Projection behind the norm that is a part of the stack itself: logits, pooler and pooled
    /// embeddings start from it (OPT with narrow embeddings).
    pub output: Option<Linear>,
    /// Logits, where the model has them.
    pub logits: Option<LogitsHead>,
    /// The pooled first token, where the model has it.
    pub pooler: Option<Pooler>,
}

/// Hidden state to logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitsHead {
    /// What the logits at a position predict.
    pub predicts: Predicts,
    /// Dense layer, activation and norm in front of the projection (masked LM).
    pub transform: Option<HeadTransform>,
    /// `[vocab, hidden]`.
    pub projection: Linear,
    /// Every row of the projection is divided by its Euclidean length (Baichuan 2).
    pub normalized_rows: bool,
    /// Factor on the logits.
    pub scale: f64,
    /// `cap * tanh(logit / cap)`, after the scale.
    pub softcap: Option<f64>,
}

/// What the logits at a position predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Predicts {
    /// The next token.
    Next,
    /// The token itself, where it was masked.
    Masked,
}

/// `norm(activation(dense(h)))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadTransform {
    /// `[out, hidden]`.
    pub dense: Linear,
    /// After the dense layer.
    pub activation: Activation,
    /// After the activation.
    pub norm: Option<Norm>,
}

/// `activation(dense(h[0]))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pooler {
    /// `[hidden, hidden]`.
    pub dense: Linear,
    /// After the dense layer.
    pub activation: Activation,
}

impl ModelSpec {
    /// Token ids from here on are not the model's: the vocabulary, or the shorter table of the
    /// layers' own inputs.
    pub fn usable_tokens(&self) -> usize {
        let inputs = self.stacks.iter().filter_map(|stack| {
            let inputs = stack.embedding.layer_inputs.as_ref();
            inputs.filter(|inputs| !inputs.beyond_is_first)
        });
        let rows = inputs.map(|inputs| inputs.rows);
        rows.fold(self.vocab_size, usize::min)
    }

    /// The stack whose end carries the logits and the pooled output: the last one.
    ///
    /// # Panics
    /// If the description has no stack, which no family produces.
    pub fn output_stack(&self) -> &Stack {
        &self.stacks[self.stacks.len() - 1]
    }

    /// Number of parameters, a tied weight counted once. `present` tells whether an optional part
    /// (`pooler`, `lm_head`) is there.
    pub fn parameters(&self, present: impl Fn(&str) -> bool) -> u64 {
        let mut seen = HashSet::new();
        self.leaves()
            .filter(|leaf| !leaf.constant && leaf.optional.is_none_or(&present))
            .filter(|leaf| seen.insert(&leaf.source))
            .fold(0, |sum, leaf| sum.saturating_add(leaf.elements()))
    }

    /// Every leaf of the model with the place it belongs to.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.stacks.iter().flat_map(|stack| {
            stack
                .embedding
                .leaves
                .iter()
                .chain(stack.layers.iter().flat_map(|layer| &layer.leaves))
                .chain(&stack.head.leaves)
        })
    }
}

/// How a record divides under [`PositionIds::Blocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Tokens in front of the generated part.
    pub context: usize,
    /// Position of the mask that the generated part fills.
    pub mask: usize,
}

impl PositionIds {
    /// How a record divides; an error says what it lacks.
    pub fn blocks(self, tokens: &[u32]) -> Result<Option<Blocks>, String> {
        let Self::Blocks { begin, masks } = self else {
            return Ok(None);
        };
        if tokens.is_empty() {
            return Ok(None);
        }
        let place = |wanted: u32| tokens.iter().position(|&token| token == wanted);
        let context = place(begin)
            .ok_or_else(|| format!("token {begin}, which begins the generated part, is missing"))?;
        let mask = masks
            .into_iter()
            .find_map(place)
            .ok_or_else(|| format!("neither mask token ({} or {}) is there", masks[0], masks[1]))?;
        Ok(Some(Blocks { context, mask }))
    }
}

impl Embedding {
    /// A token table and nothing else.
    pub fn of_tokens(tokens: WeightIndex, width: usize, leaves: Vec<Leaf>) -> Self {
        Self {
            leaves,
            tokens,
            width,
            scale: 1.0,
            token_norm: None,
            positions: None,
            token_types: None,
            norm: None,
            projection: None,
            positions_after_projection: false,
            streams: Vec::new(),
            layer_inputs: None,
        }
    }
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

impl Activation {
    /// By its name in a configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast"
            | "gelu_accurate" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "relu" => Self::Relu,
            "relu2" => Self::Relu2,
            "relu6" => Self::Relu6,
            "silu" | "swish" => Self::Silu,
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "mish" => Self::Mish,
            "leaky_relu" => Self::LeakyRelu,
            "linear" => Self::Linear,
            _ => return None,
        })
    }
}

impl Stack {
    /// Residual streams: the hidden state and the stashes that go beside it.
    pub fn streams(&self) -> usize {
        1 + self.embedding.streams.len()
    }

    /// Layers whose keys and values later layers use, with their widths.
    pub fn shared_keys(&self) -> Vec<SharedKeys> {
        let attentions = || {
            let layers = self.layers.iter().enumerate();
            layers.flat_map(|(index, layer)| {
                let branches = layer.steps.iter().flat_map(|step| &step.branches);
                branches.filter_map(move |branch| match &branch.mixer {
                    Mixer::Attention(attention) => Some((index, attention)),
                    _ => None,
                })
            })
        };
        let used = |layer| {
            attentions().any(|(_, attention)| attention.key_value == KeyValue::OfLayer(layer))
        };
        attentions()
            .filter(|&(layer, _)| used(layer))
            .map(|(layer, attention)| SharedKeys {
                layer,
                keys: attention.kv_heads * attention.head_dim,
                values: attention.kv_heads * attention.value_dim,
            })
            .collect()
    }

    /// Whether no token sees a later one.
    pub fn is_causal(&self) -> bool {
        let mixers = self.layers.iter().flat_map(|layer| &layer.steps);
        mixers.flat_map(|step| &step.branches).all(|branch| {
            let mask = match &branch.mixer {
                Mixer::Attention(attention) => attention.mask,
                Mixer::LatentAttention(attention) => attention.mask,
                Mixer::MixtureOfAttention(attention) => attention.mask,
                Mixer::FeedForward(_)
                | Mixer::MixtureOfExperts(_)
                | Mixer::SparseFeedForward(_)
                | Mixer::LowRank(_)
                | Mixer::LayerInput(_)
                | Mixer::Streams(_)
                | Mixer::Linear(_)
                | Mixer::Identity => {
                    return true;
                }
            };
            match mask {
                Mask::Causal | Mask::CausalWindow(_) | Mask::CausalChunk(_) => true,
                Mask::Full
                | Mask::FullButPadding(_)
                | Mask::Window(_)
                | Mask::CausalAfterContext => false,
            }
        })
    }
}

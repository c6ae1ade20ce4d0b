//! What enters the first layer.

use serde::Serialize;

use super::transform::is_default;
use super::{InputKind, LookedUp, TokenInput};
use crate::parts::{Linear, Norm, Slot};
use crate::source::{Leaf, WeightIndex};

/// Token ids to the input of the first layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// Token table `[vocab, width]`; absent: rows are made of what is looked up.
    pub tokens: Option<WeightIndex>,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Features of a row of the token table (differs from the hidden size with `projection`).
    pub width: usize,
    /// Factor on the token embedding alone.
    pub scale: f64,
    /// Tokens whose input is a vector of their own `[width]`, not scaled (T5Gemma 2: the end of a picture; Ovis 2: what stands
    /// around pictures). In front of pictures they are for records that have some.
    pub own_vectors: Vec<(u32, WeightIndex)>,
    /// Rows of an earlier stack in the place of a token's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scattered: Option<Scattered>,
    /// What stands for masked tokens, and by what the others are multiplied.
    pub token_dropout: Option<TokenDropout>,
    /// Norm of the token embedding alone, before anything is added.
    pub token_norm: Option<Norm>,
    /// Added position embedding.
    pub positions: Option<PositionTable>,
    /// Token-type table `[types, width]`; type 0 where the record gives none.
    pub token_types: Option<TokenTypes>,
    /// What records may bring along for each of their tokens.
    pub inputs: Vec<TokenInput>,
    /// Rows of tables by those numbers.
    pub looked_up: Option<LookedUp>,
    /// Rows that every token gets.
    pub constant_rows: Vec<ConstantRow>,
    /// Norm of the sum.
    pub norm: Option<Norm>,
    /// `[hidden, width]` after the norm (ALBERT, ELECTRA).
    pub projection: Option<Linear>,
    /// `true`: the projection is of the token embedding alone, in front of everything that is added and the norm
    /// (OPT-350m, MobileBERT).
    pub projection_first: bool,
    /// The projection `[hidden, 3 * width]` is of the embeddings of the next token, the token itself and the one before
    /// it, zeros beyond the ends of a record (MobileBERT).
    pub trigrams: bool,
    /// A token that records may not have: the reference takes it for padding and hides it.
    pub refused_token: Option<u32>,
    /// Rows of the stack's prompt `[prompt, hidden]`, where they are no rows of the token table; nothing is added to them.
    pub prompt: Option<WeightIndex>,
    /// Further residual streams: `[hidden, hidden]` each, of the embedding, scaled to its magnitude
    /// (AltUp).
    pub streams: Vec<Linear>,
    /// Further residual streams that begin as the hidden state itself (hyper-connections).
    pub copies: usize,
    /// Inputs of the layers beside the hidden state.
    pub layer_inputs: Option<LayerInputs>,
    /// Features of n-grams, in the place of these.
    pub ngrams: Option<NgramTables>,
    /// The layers start from something else than the embedding.
    pub start: Option<StartState>,
}

/// The rows that a record has in an earlier stack, in their order, are the embeddings of a token, as many as the record has
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Scattered {
    /// Which stack.
    pub stack: usize,
    /// The token that stands for them.
    pub token: u32,
    /// Tokens have positions of time, row and column that follow from them.
    pub has_positions: bool,
    /// What layers get of a table beside the hidden state is the row of this token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs_of: Option<u32>,
    /// They stand at the tokens that this input of the record marks, in the place of a token's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marks: Option<&'static str>,
    /// They are scaled as the embeddings of tokens are.
    #[serde(skip_serializing_if = "is_default")]
    pub is_scaled: bool,
}

/// The embedding goes to a slot too (`NeoMME`), and the layers may start from its sum with a vector (HRM).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StartState {
    /// Where the embedding goes.
    pub kept: Slot,
    /// `[hidden]`.
    pub addend: Option<WeightIndex>,
}

/// An input of its own for every layer, of the token and of its embedding (Gemma 3n):
/// `scale * (norm(projection_scale * projection(embedding)) + table_scale * table[token])`, in parts of
/// one layer each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerInputs {
    /// `[rows, layers * width]`; absent: the inputs are of the embedding alone.
    pub table: Option<WeightIndex>,
    /// Rows of the table.
    pub rows: usize,
    /// A token beyond the rows reads row 0 (Gemma 3n); else it is no token of the model (Gemma 4).
    pub beyond_is_first: bool,
    /// Factor on the table's rows.
    pub table_scale: f64,
    /// What is made of the embedding; absent: the inputs are those of the table alone.
    pub projected: Option<ProjectedInputs>,
    /// Factor on the sum.
    pub scale: f64,
    /// Features a layer.
    pub width: usize,
    /// Layers.
    pub layers: usize,
}

/// Features of the n-grams that end in a token, of 2 tokens and more, looked up by hashes (Qwen4-Exp): with the token `s` in front of
/// it, `t_s`, `xor_(s < n) t_s multipliers[s]` modulo a table's size is a row for each of `heads` tables of every `n`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NgramTables {
    /// Tokens of the longest.
    pub longest: usize,
    /// Tables for each number of tokens.
    pub heads: usize,
    /// Features of a table's rows.
    pub width: usize,
    /// What stands in front of the record, and in place of everything in front of a token of this id.
    pub stop: u32,
    /// Those of the layers that have any.
    pub layers: Vec<NgramTable>,
}

/// The tables of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NgramTable {
    /// All of them, one below the other.
    pub weight: WeightIndex,
    /// Factors on the tokens, the nearest first.
    pub multipliers: Vec<u64>,
    /// The first row and the size of every table.
    pub tables: Vec<[u64; 2]>,
}

impl NgramTables {
    /// Features of a layer.
    pub fn columns(&self) -> usize {
        (self.longest - 1) * self.heads * self.width
    }
}

impl Embedding {
    /// Columns of what every token brings along for the layers.
    pub fn layer_columns(&self) -> usize {
        let inputs = self.layer_inputs.as_ref();
        let ngrams = self.ngrams.as_ref();
        inputs.map_or(0, |inputs| inputs.layers * inputs.width)
            + ngrams.map_or(0, |ngrams| ngrams.layers.len() * ngrams.columns())
    }
}

/// What inputs of the layers have of the embedding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProjectedInputs {
    /// `[layers * width, hidden]`.
    pub projection: Linear,
    /// Factor on the projected embedding.
    pub scale: f64,
    /// Norm of every layer's part `[width]`.
    pub norm: Norm,
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

/// As if masked tokens were dropped (ESM): they are zero, and the others times `kept / (1 - masked)`, where `masked` is
/// the part of a record's tokens that are masks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenDropout {
    /// The mask.
    pub mask: u32,
    /// The part of tokens that were no masks in training.
    pub kept: f64,
}

/// A row of a table that is added to every token's embedding: what stands for an input that records do not have (the
/// task of ERNIE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConstantRow {
    /// `[rows, width]`.
    pub weight: WeightIndex,
    /// The row.
    pub row: usize,
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
        /// In its place where the checkpoint lacks it.
        otherwise: Option<Sinusoidal>,
    },
    /// Learned `[rows, width]`, which all positions of a record share out: what lies between two rows is a mixture of both.
    Stretched {
        /// The table.
        weight: WeightIndex,
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
    /// Factor on the sines and cosines.
    pub scale: f64,
}

impl Embedding {
    /// Why it depends on more of a record than a row's own token.
    pub fn depends_on_record(&self) -> Option<&'static str> {
        let neighbours = self.trigrams;
        let brought = self.inputs.iter();
        let mut brought = brought.filter(|input| input.kind != InputKind::Positions);
        let brought = brought.next().is_some();
        let stretched = matches!(self.positions, Some(PositionTable::Stretched { .. }));
        self.token_dropout
            .map(|_| "what embeds a token depends on all masks of its record")
            .or(neighbours.then_some("what embeds a token depends on the tokens beside it"))
            .or(brought.then_some("tokens have more than their ids"))
            .or(stretched.then_some("positions are parts of a record's length"))
    }

    /// Numbers that a token brings along.
    pub fn input_columns(&self) -> usize {
        self.inputs.iter().map(|input| input.columns).sum()
    }

    /// A token table and nothing else.
    pub fn of_tokens(
        tokens: Option<WeightIndex>,
        [vocab_size, width]: [usize; 2],
        leaves: Vec<Leaf>,
    ) -> Self {
        Self {
            leaves,
            tokens,
            vocab_size,
            width,
            scale: 1.0,
            token_dropout: None,
            token_norm: None,
            positions: None,
            token_types: None,
            inputs: Vec::new(),
            looked_up: None,
            constant_rows: Vec::new(),
            norm: None,
            projection: None,
            projection_first: false,
            trigrams: false,
            refused_token: None,
            prompt: None,
            own_vectors: Vec::new(),
            scattered: None,
            streams: Vec::new(),
            copies: 0,
            layer_inputs: None,
            ngrams: None,
            start: None,
        }
    }
}

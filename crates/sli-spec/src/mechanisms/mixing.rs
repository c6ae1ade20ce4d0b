//! What queries, keys and values of a row take of the projections of earlier rows, in front of an attention.

use serde::Serialize;

use super::{StateSpec, Uses};
use crate::parts::{Convolution, Linear};
use crate::source::WeightIndex;

/// Rows that are mixed along the record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mixing {
    /// A convolution of every column of queries, keys and values, which stand one behind the other (Mamba-2 with
    /// attention).
    Convolution(Convolution),
    /// Compressed convolutional attention.
    Compressed(Box<CompressedMixing>),
}

/// Compressed convolutional attention (Figliolia et al. 2025). Queries and keys, one behind the other, pass a convolution
/// of every column and one of every head; the halves of what a query and its key were before are added: to a query, and
/// to a key the mean of its queries' ones. Both are then of length one, and a key is multiplied by its head's factor. The
/// second half of the values is of the row before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompressedMixing {
    /// Of every column of queries and keys.
    pub columns: Convolution,
    /// Of every head of queries, then of keys, behind it: `[head_dim, head_dim * kernel]`.
    pub heads: Vec<Linear>,
    /// Rows of the latter.
    pub kernel: usize,
    /// Factors of key heads `[kv_heads]`.
    pub key_scale: WeightIndex,
    /// Added to the values `[kv_heads * value_dim]`.
    pub value_bias: Option<WeightIndex>,
}

impl CompressedMixing {
    /// Rows that both convolutions see together.
    pub fn rows(&self) -> usize {
        self.columns.kernel + self.kernel - 1
    }

    /// Columns of what the convolution of heads multiplies.
    pub fn spread(&self) -> usize {
        self.columns.columns * self.kernel
    }
}

impl Mixing {
    /// Collects its weights.
    pub(super) fn weights(&self, uses: &mut Uses) {
        match self {
            Self::Convolution(convolution) => uses.convolution(convolution),
            Self::Compressed(compressed) => {
                let CompressedMixing {
                    columns,
                    heads,
                    kernel: _,
                    key_scale,
                    value_bias,
                } = compressed.as_ref();
                uses.convolution(columns);
                for linear in heads {
                    uses.linear(linear);
                }
                uses.weight(*key_scale);
                uses.optional(*value_bias);
            }
        }
    }

    /// Whether the row itself is to be added to the sums.
    pub(super) fn adds_rows(&self) -> bool {
        let convolution = match self {
            Self::Convolution(convolution) => convolution,
            Self::Compressed(compressed) => &compressed.columns,
        };
        convolution.with_row.is_some()
    }

    /// What it is called.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Convolution(_) => ", convolution of queries, keys and values",
            Self::Compressed(_) => ", compressed convolutional",
        }
    }

    /// What it needs of earlier rows; `values`: columns of the values.
    pub(super) fn states(&self, values: usize) -> Vec<StateSpec> {
        match self {
            Self::Convolution(convolution) => vec![convolution.state()],
            Self::Compressed(compressed) => vec![
                StateSpec::Window {
                    rows: compressed.rows() - 1,
                    columns: compressed.spread(),
                },
                StateSpec::Window {
                    rows: 1,
                    columns: values,
                },
            ],
        }
    }
}

//! What records may bring along for each of their tokens, beside them: boxes on a page, places in a document's tree,
//! sounds and shapes of characters.

use serde::Serialize;

use super::HeadTransform;
use crate::parts::Norm;
use crate::source::WeightIndex;

/// Numbers that a record may have for every token. All those of a model stand side by side, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TokenInput {
    /// The key in a line, and the argument of the reference's class.
    pub name: &'static str,
    /// Numbers of a token.
    pub columns: usize,
    /// What they are.
    pub kind: InputKind,
}

/// What the numbers of an input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum InputKind {
    /// Rows of tables.
    Ids {
        /// Rows that the tables have.
        below: usize,
        /// What stands where a record gives none.
        otherwise: u32,
    },
    /// `x0, y0, x1, y1`, rows of tables; all 0 where a record gives none.
    Boxes {
        /// Rows that the tables have.
        below: usize,
        /// Widths and heights are rows of tables too, so they are not negative.
        ordered: bool,
    },
    /// The corners of a box as bits of f32, `x0, y0, x1, y0, x1, y1, x0, y1`, or of four numbers `x0, y0, x1, y1`;
    /// a record must have them.
    Corners,
    /// A 0 or 1: whether all see the token, and it sees all.
    Marks {
        /// Where a record says nothing, its first token is marked; else none is.
        first: bool,
    },
    /// `x0, y0, x1, y1` as bits of f32, as parts of the page's width and height; a record must have them.
    Fractions,
    /// Time, row and column that rotations turn by; the token's number where a record gives none.
    Positions,
    /// The first of the rows of its pictures that it sees, and the one behind the last; both 0: it sees none.
    Seen {
        /// The token that stands for a picture: those behind it see it where the record's pictures are prepared here.
        placeholder: Option<u32>,
    },
}

/// Rows of tables by numbers of the record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LookedUp {
    /// What is looked up; rows that go to the same columns are summed, in this order.
    pub tables: Vec<InputTable>,
    /// Columns of all of them.
    pub width: usize,
    /// What they pass through.
    pub layers: Vec<HeadTransform>,
    /// What becomes of them.
    pub becomes: Becomes,
}

/// A table that is looked up by an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct InputTable {
    /// `[rows, width]`.
    pub weight: WeightIndex,
    /// The first column that its rows go to.
    pub at: usize,
    /// Which row.
    pub row: InputRow,
}

/// Which row of a table a token has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum InputRow {
    /// The number in this column of the inputs.
    Column(usize),
    /// One column less another, 0 where it would be less.
    Difference([usize; 2]),
    /// `(token + 1) * prime` modulo the number of rows (CANINE).
    Hashed {
        /// The prime.
        prime: u32,
        /// Rows of the table.
        rows: u32,
    },
    /// The part of so many rows, less one, that the f32 in this column says, between 0 and 1.
    Fraction {
        /// The column of the inputs.
        column: usize,
        /// Rows of the table.
        rows: usize,
    },
}

/// What becomes of rows that are looked up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Becomes {
    /// They are added to the embedding, in front of its norm.
    Added,
    /// They stand behind the columns of the token's own row, in front of the projection.
    Beside,
    /// With a row by position they are a stream beside the hidden state, in the first buffer.
    Stream {
        /// `[rows, width]`, by position.
        positions: WeightIndex,
        /// Of the sum.
        norm: Norm,
    },
}

impl InputRow {
    /// The part of so many rows, less one, that the f32 of these bits says. Computed in f32, as the reference does.
    pub fn fraction(bits: u32, rows: usize) -> u32 {
        (f32::from_bits(bits).clamp(0.0, 1.0) * (rows - 1) as f32) as u32
    }
}

impl InputKind {
    /// Whether a record must have it: the reference's class refuses to run without.
    pub fn is_required(self) -> bool {
        match self {
            Self::Corners | Self::Fractions => true,
            Self::Ids { .. }
            | Self::Boxes { .. }
            | Self::Marks { .. }
            | Self::Positions
            | Self::Seen { .. } => false,
        }
    }
}

impl TokenInput {
    /// Which tokens are global (Longformer, LED).
    pub fn global_tokens(first: bool) -> Self {
        Self {
            name: "global_attention_mask",
            columns: 1,
            kind: InputKind::Marks { first },
        }
    }

    /// What stands in every column of the token at a position where a record gives none.
    pub fn otherwise(self, position: usize) -> u32 {
        match self.kind {
            InputKind::Ids {
                below: _,
                otherwise,
            } => otherwise,
            InputKind::Boxes { .. }
            | InputKind::Corners
            | InputKind::Fractions
            | InputKind::Seen { .. } => 0,
            InputKind::Marks { first } => u32::from(first && position == 0),
            InputKind::Positions => position as u32,
        }
    }

    /// What is wrong with the numbers of one token.
    pub fn wrong(self, numbers: &[u32]) -> Option<String> {
        let beyond = |below: usize| {
            let found = numbers.iter().find(|&&number| number as usize >= below);
            found.map(|number| format!("{number}, and the model has rows for less than {below}"))
        };
        match self.kind {
            InputKind::Ids {
                below,
                otherwise: _,
            } => beyond(below),
            InputKind::Boxes { below, ordered } => beyond(below).or_else(|| match numbers {
                &[x0, y0, x1, y1] if ordered && (x1 < x0 || y1 < y0) => Some(format!(
                    "a box of {x0}, {y0}, {x1}, {y1}, which ends before it begins"
                )),
                _ => None,
            }),
            InputKind::Corners | InputKind::Fractions => {
                let values = numbers.iter().map(|&bits| f32::from_bits(bits));
                let found = values.into_iter().find(|value| !value.is_finite());
                found.map(|value| format!("{value}, which is no place"))
            }
            InputKind::Positions | InputKind::Seen { .. } => None,
            InputKind::Marks { first: _ } => {
                let found = numbers.iter().find(|&&mark| mark > 1);
                found.map(|mark| format!("{mark}, which is no 0 or 1"))
            }
        }
    }
}

//! Stacks whose rows are no tokens: how many a record has, and what they are made of.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::pictures::{PictureRows, PlaceTable};
use super::transform::{HeadTransform, is_default};
use crate::parts::{Activation, DenseConvolution, Norm};
use crate::source::{Leaf, WeightIndex};

/// How many rows a stack has of a record with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowRule {
    /// As many of every record.
    Fixed(usize),
    /// One for so many tokens; what is left over has none.
    Parts(usize),
    /// What is left of the tokens when they were halved so often.
    Halved {
        /// How often.
        times: usize,
        /// How.
        halving: Halving,
        /// The reference looks for vectors of distances in a table that short records outgrow.
        shifts: bool,
    },
    /// As follows from the places of a record's patches.
    Pictures(PictureRows),
    /// One, which is made of that of the token that is chosen.
    Chosen(TokenChoice),
    /// Those that its pictures have, one for each view, or the one of its text.
    Either,
}

/// Which token stands for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenChoice {
    /// The first.
    First,
    /// The last.
    Last,
    /// The first of this id, or the first of all where there is none.
    OfId(u32),
    /// The first of the largest id.
    Largest,
}

impl TokenChoice {
    /// Its position; 0 where there is no token.
    pub fn position(self, tokens: &[u32]) -> usize {
        let found = match self {
            Self::First => None,
            Self::Last => tokens.len().checked_sub(1),
            Self::OfId(id) => tokens.iter().position(|&token| token == id),
            Self::Largest => {
                let largest = tokens.iter().max();
                tokens.iter().position(|token| Some(token) == largest)
            }
        };
        found.unwrap_or(0)
    }
}

/// Rows by twos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halving {
    /// The first row stays by itself.
    pub first_apart: bool,
    /// Then the last row is left out.
    pub truncates: bool,
}

impl Halving {
    /// Whether so many rows become fewer.
    pub fn is_due(self, rows: usize) -> bool {
        rows > 1 + usize::from(self.first_apart)
    }

    /// Rows that are left of so many.
    pub fn rows(self, rows: usize) -> usize {
        if !self.is_due(rows) {
            return rows;
        }
        (rows + usize::from(self.first_apart && !self.truncates)).div_ceil(2)
    }

    /// Those of so many rows that a row which is left is made of.
    pub fn of(self, row: usize, rows: usize) -> Range<usize> {
        if !self.is_due(rows) || (self.first_apart && row == 0) {
            return row..row + 1;
        }
        let first = 2 * row - usize::from(self.first_apart);
        let end = rows - usize::from(self.first_apart && self.truncates);
        first..end.min(first + 2)
    }
}

impl Halving {
    /// Whether the reference's relative attention fails on records of so many tokens. It goes on to halve positions of
    /// rows that stay as they are, and its table of distances ends at twice the number of tokens.
    fn outgrows(self, times: usize, tokens: usize) -> bool {
        let whole = |number: usize| number as i64;
        let first = |times: usize| {
            if self.first_apart {
                1 - (1 << times)
            } else {
                0
            }
        };
        let farthest = 2 * whole(tokens);
        let fits = |far: i64, step: i64, near: i64| {
            let last = far - (far - near) / step * step;
            far < farthest && last >= -farthest
        };
        let (mut rows, mut places) = (tokens, tokens);
        for times in 1..=times {
            let before = whole(places - 1);
            places = if self.first_apart {
                let others = places - 1 - usize::from(self.truncates && places > 1);
                1 + others.div_ceil(2)
            } else {
                places.div_ceil(2)
            };
            let (step, half) = (1_i64 << times, 1_i64 << (times - 1));
            let shift = first(times) - first(times - 1);
            let pooling = [shift + whole(places) * step, half, shift - half * before];
            let own = [whole(places) * step, step, -step * whole(places - 1)];
            if [pooling, own]
                .into_iter()
                .any(|[far, step, near]| !fits(far, step, near))
            {
                return true;
            }
            rows = self.rows(rows);
            if rows != places {
                return true;
            }
        }
        false
    }
}

impl RowRule {
    /// Rows of a record of so many tokens.
    pub fn rows(self, tokens: usize) -> usize {
        match self {
            _ if tokens == 0 => 0,
            Self::Fixed(rows) => rows,
            Self::Parts(size) => tokens / size,
            // What is known without the places: there are no more.
            Self::Pictures(_) | Self::Either => tokens,
            Self::Chosen(_) => 1,
            Self::Halved { times, halving, .. } => {
                (0..times).fold(tokens, |rows, _| halving.rows(rows))
            }
        }
    }

    /// The token whose kind a row of a record of so many tokens has.
    pub fn token(self, row: usize, tokens: usize) -> usize {
        match self {
            Self::Fixed(_) | Self::Pictures(_) | Self::Chosen(_) | Self::Either => 0,
            Self::Parts(size) => row * size,
            Self::Halved { times, halving, .. } => {
                let lengths = (0..times).scan(tokens, |rows, _| {
                    let before = *rows;
                    *rows = halving.rows(before);
                    Some(before)
                });
                let lengths: Vec<usize> = lengths.collect();
                let earlier = lengths.into_iter().rev();
                earlier.fold(row, |row, rows| halving.of(row, rows).start)
            }
        }
    }

    /// Why a record of so many tokens has none of the rows, if it is so.
    pub fn refused(self, tokens: usize) -> Option<String> {
        match self {
            _ if tokens == 0 => None,
            Self::Fixed(_) | Self::Pictures(_) | Self::Chosen(_) | Self::Either => None,
            Self::Parts(size) => {
                (tokens < size).then(|| format!("{tokens} tokens, the model needs {size} at least"))
            }
            Self::Halved {
                times,
                halving,
                shifts,
            } => (shifts && halving.outgrows(times, tokens)).then(|| {
                format!("{tokens} tokens, too few for the reference's distances between what is left of them")
            }),
        }
    }
}

/// Rows that are made of the ends of earlier stacks, or are the same for every record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resampled {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// What they are made of.
    pub rule: Resampling,
    /// Norm of the rows.
    pub norm: Option<Norm>,
    /// What they pass through then.
    pub layers: Vec<HeadTransform>,
    /// Behind the norm.
    #[serde(skip_serializing_if = "is_linear")]
    pub activation: Activation,
    /// Places that are added to them in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed: Option<PlacedRows>,
    /// Sines and cosines that are added to them in the end, of every view those of a grid of so many rows and columns, line by
    /// line: with quarters of the features, sines and cosines of the column, then of the row, at the speeds
    /// `10000^(-feature / quarter)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waves: Option<[usize; 2]>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_linear(activation: &Activation) -> bool {
    *activation == Activation::Linear
}

/// Places of rows, of which every view has those of one grid, line by line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlacedRows {
    /// Their table.
    pub table: PlaceTable,
    /// Rows and columns of the grid.
    pub grid: [usize; 2],
    /// The rows without their places stand behind those with them, as further features.
    pub beside: bool,
}

/// Tokens of a second text of the record, what it asks of its pictures, each with a row by its place in that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AskedRows {
    /// The tensor `[views, tokens]` of their ids.
    pub name: &'static str,
    /// The tensor of ones for tokens that are none of padding, as large; records may lack it.
    pub mask: &'static str,
    /// `[vocabulary, width]`.
    pub tokens: WeightIndex,
    /// Number of ids.
    pub vocab_size: usize,
    /// `[longest, width]`, by place.
    pub positions: WeightIndex,
    /// Most tokens of a text, padding included.
    pub longest: usize,
}

/// What rows are made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Resampling {
    /// The rows of a table, by position.
    Table {
        /// `[rows, width]`.
        weight: WeightIndex,
        /// Rows of the table.
        rows: usize,
        /// What stands behind them, where the record asks something of its pictures.
        #[serde(skip_serializing_if = "Option::is_none")]
        asked: Option<AskedRows>,
    },
    /// The first row of an end, and a convolution along it without its last row (CANINE).
    Strided {
        /// Which stack.
        stack: usize,
        /// Its stride is its kernel.
        convolution: DenseConvolution,
    },
    /// A convolution along the rows of an end with those of a shorter one beside them, each of which stands beside so
    /// many: its second row beside the first ones, its last row also beside those that are left (CANINE).
    Repeated {
        /// The stack with as many rows.
        stack: usize,
        /// The shorter one.
        shorter: usize,
        /// How often a row of it is used.
        times: usize,
        /// Of stride 1.
        convolution: DenseConvolution,
    },
    /// Means, or the largest numbers, of the rows of an end by twos (Funnel).
    Halved {
        /// Which stack.
        stack: usize,
        /// How.
        halving: Halving,
        /// The largest numbers.
        largest: bool,
    },
    /// The rows of an end, each plus the row of a shorter one that it became a part of, if it did (Funnel).
    Spread {
        /// The stack with as many rows.
        stack: usize,
        /// The shorter one.
        shorter: usize,
        /// Rows for one of it.
        times: usize,
        /// How it became shorter.
        halving: Halving,
    },
    /// The rows of an end that the places of a record's patches say, `parts` of them side by side.
    Gathered {
        /// Which stack.
        stack: usize,
        /// The first of the features of its end, and how many.
        columns: [usize; 2],
        /// How many stand side by side.
        parts: usize,
        /// How their features stand.
        #[serde(skip_serializing_if = "is_default")]
        joining: Joining,
        /// What stands behind all else in the place of rows that are made of none, by its number: `[hidden]` each.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        vectors: Vec<WeightIndex>,
        /// What becomes of their features in front of the norm.
        #[serde(skip_serializing_if = "Option::is_none")]
        standard: Option<Standard>,
    },
    /// The rows of that one of two ends which has any of a record.
    Either {
        /// Which stacks.
        stacks: [usize; 2],
    },
}

/// `(scale * x - bias) * factor`, feature by feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Standard {
    /// Factor on all features.
    pub scale: f64,
    /// `[width]`.
    pub bias: WeightIndex,
    /// `[width]`.
    pub factor: WeightIndex,
}

/// What becomes of rows that are gathered together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Joining {
    /// All features of the first, then all of the next.
    #[default]
    Beside,
    /// The same, and the norm is of each of them.
    EachNormed,
    /// The first feature of all of them, then the next of all.
    ByTurns,
    /// Their mean stands in the place of all.
    Mean,
    /// Half of them are shares of the others, as bits, whose mixture stands in the place of all.
    Mixed,
    /// There is one: the features of its end, then by turns those of so many layers that were kept beside it.
    KeptByTurns(usize),
}

impl Resampled {
    /// What a rule makes, and nothing more.
    pub fn plain(rule: Resampling) -> Self {
        Self {
            leaves: Vec::new(),
            rule,
            norm: None,
            layers: Vec::new(),
            activation: Activation::Linear,
            placed: None,
            waves: None,
        }
    }

    /// The first rows of a table of so many.
    pub fn table(weight: WeightIndex, rows: usize) -> Self {
        Self::plain(Resampling::Table {
            weight,
            rows,
            asked: None,
        })
    }

    /// What the record asks of its pictures, where that is read.
    pub fn asked(&self) -> Option<AskedRows> {
        match self.rule {
            Resampling::Table { asked, .. } => asked,
            _ => None,
        }
    }

    /// The stacks whose ends are read.
    pub fn sources(&self) -> Vec<usize> {
        match &self.rule {
            Resampling::Table { .. } => Vec::new(),
            Resampling::Strided { stack, .. }
            | Resampling::Halved { stack, .. }
            | Resampling::Gathered { stack, .. } => vec![*stack],
            Resampling::Repeated { stack, shorter, .. }
            | Resampling::Spread { stack, shorter, .. } => vec![*stack, *shorter],
            Resampling::Either { stacks } => stacks.to_vec(),
        }
    }

    /// What stands in the place of rows that are made of none, by its number.
    pub fn vectors(&self) -> &[WeightIndex] {
        match &self.rule {
            Resampling::Gathered { vectors, .. } => vectors,
            _ => &[],
        }
    }

    /// What becomes of features in front of the norm.
    pub fn standard(&self) -> Option<Standard> {
        match &self.rule {
            Resampling::Gathered { standard, .. } => *standard,
            _ => None,
        }
    }

    /// The convolution that the rows come of.
    pub fn convolution(&self) -> Option<&DenseConvolution> {
        match &self.rule {
            Resampling::Strided { convolution, .. } | Resampling::Repeated { convolution, .. } => {
                Some(convolution)
            }
            Resampling::Table { .. }
            | Resampling::Halved { .. }
            | Resampling::Spread { .. }
            | Resampling::Gathered { .. }
            | Resampling::Either { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Halving, RowRule};

    const APART: Halving = Halving {
        first_apart: true,
        truncates: true,
    };

    #[test]
    fn rows_are_halved_around_the_first() {
        let of = |rows| {
            let all = 0..APART.rows(rows);
            all.map(|row| APART.of(row, rows)).collect::<Vec<_>>()
        };
        assert_eq!(of(2), [0..1, 1..2]);
        assert_eq!(of(5), [0..1, 1..3, 3..4]);
        assert_eq!(of(6), [0..1, 1..3, 3..5]);
        let kept = Halving {
            truncates: false,
            ..APART
        };
        assert_eq!(kept.rows(4), 3);
        assert_eq!(kept.of(2, 4), 3..4);
        let plain = Halving {
            first_apart: false,
            truncates: true,
        };
        assert_eq!([1, 2, 5].map(|rows| plain.rows(rows)), [1, 1, 3]);
        assert_eq!(plain.of(2, 5), 4..5);
    }

    #[test]
    fn rows_follow_from_tokens() {
        let halved = RowRule::Halved {
            times: 2,
            halving: APART,
            shifts: true,
        };
        assert_eq!(
            [0, 1, 9, 10].map(|tokens| halved.rows(tokens)),
            [0, 1, 3, 3]
        );
        assert_eq!([0, 1, 2].map(|row| halved.token(row, 10)), [0, 1, 5]);
        let fails = |tokens: &usize| halved.refused(*tokens).is_some();
        assert_eq!((1..40).filter(fails).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let parts = RowRule::Parts(4);
        assert_eq!([3, 4, 11].map(|tokens| parts.rows(tokens)), [0, 1, 2]);
        assert!(parts.refused(3).is_some() && parts.refused(4).is_none());
        assert_eq!([0, 7].map(|tokens| RowRule::Fixed(8).rows(tokens)), [0, 8]);
    }
}

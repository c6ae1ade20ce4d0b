//! Products of queries and keys with vectors of distances: disentangled attention (He et al. 2021), and the relative
//! attention of Transformer-XL (Dai et al. 2019).

use serde::Serialize;

use super::{Linear, Norm};
use crate::source::WeightIndex;

/// Addends of the logits of query `i` and key `j`: `scale * (q_i * keys(r) + k_j * queries(r))`, where `r` is the vector of
/// the distance `i - j`, and either product may be left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DistanceVectors {
    /// The vectors.
    pub table: DistanceTable,
    /// Features of a vector.
    pub width: usize,
    /// Norm of the vectors.
    pub norm: Option<Norm>,
    /// What the queries meet.
    pub keys: Option<DistanceKeys>,
    /// What the keys meet `[heads * head_dim, width]`.
    pub queries: Option<Linear>,
    /// Biases of the queries.
    pub query_biases: QueryBiases,
    /// Products with vectors of two kinds of pairs of tokens.
    pub segments: Option<Segments>,
    /// Factor on the products.
    pub scale: f64,
    /// Which distances share a vector.
    pub rule: DistanceRule,
    /// Where rows are, where they stand for several tokens.
    pub places: Option<RowPlaces>,
}

/// Vectors as queries meet them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum DistanceKeys {
    /// Projected `[heads * head_dim, width]`.
    Projected(Linear),
    /// As they are: as wide as a head, the same for all heads (SpeechT5).
    Plain,
}

/// Biases of queries, of which there may be another one in each product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum QueryBiases {
    /// What the queries have.
    Own,
    /// The one that a query has, and the one that it has where it meets the vectors instead (Transformer-XL).
    Instead([WeightIndex; 2]),
    /// Added to the queries where they meet the keys, and where they meet the vectors (FastConformer).
    Added([WeightIndex; 2]),
}

impl QueryBiases {
    /// This one where queries meet vectors, in the place of their own where they have one.
    pub fn instead(of: Option<WeightIndex>, bias: WeightIndex) -> Self {
        of.map_or(Self::Own, |own| Self::Instead([own, bias]))
    }
}

/// Where rows are that stand for several tokens (Funnel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowPlaces {
    /// Tokens from one query to the next.
    pub stride: usize,
    /// The first row has no place and no kind: its products, and those with it, are left out.
    pub first_apart: bool,
}

impl RowPlaces {
    /// How many keys there are for a query, tokens from one key to the next, and how far the first query is behind the
    /// first key. Keys are queries, or rows of which queries are made by twos.
    pub fn steps(self, halved: bool) -> [i64; 3] {
        let stride = self.stride as i64;
        match (halved, self.first_apart) {
            (false, _) => [1, stride, 0],
            (true, false) => [2, stride / 2, 0],
            (true, true) => [2, stride / 2, -stride / 2],
        }
    }
}

/// Where the vectors of distances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum DistanceTable {
    /// Learned, `[2 * span * width]`: row `span` is that of distance 0.
    Learned {
        /// The table.
        weight: WeightIndex,
        /// Distances in each direction.
        span: usize,
    },
    /// Sines, then cosines, of the distance times `10000^(-2 i / width)`.
    Sines {
        /// Distances beyond this are it.
        farthest: Option<usize>,
    },
}

/// Products of a query with one of two vectors: whether the key is of the same segment, or of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Segments {
    /// `[2 * heads * head_dim]`: of the same, of another.
    pub vectors: WeightIndex,
    /// The bias that a query has in these products instead of its own ([`QueryBiases::Instead`]).
    pub bias: WeightIndex,
    /// Tokens of this kind are of the same segment as every other.
    pub neutral: Option<u32>,
}

/// Which distances share a vector, beside all those that are beyond the table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum DistanceRule {
    /// None.
    Each,
    /// One each up to `middle`, then growing with the logarithm.
    Log {
        /// Half of the vectors of a direction.
        middle: usize,
        /// `(longest - 1) / middle`.
        ratio: f64,
    },
}

impl DistanceRule {
    /// The vector of a distance `query - key`, counted from that of distance 0. Computed in f32, as the reference does.
    fn place(self, distance: i64) -> i64 {
        match self {
            Self::Each => distance,
            Self::Log { middle, ratio } => {
                let far = distance.unsigned_abs();
                if far <= middle as u64 {
                    return distance;
                }
                let steps = (far as f32 / middle as f32).ln() / (ratio as f32).ln();
                let place = (steps * (middle - 1) as f32).ceil() as i64 + middle as i64;
                place * distance.signum()
            }
        }
    }
}

impl DistanceVectors {
    /// Vectors of this width, and no products with them yet.
    pub fn new(table: DistanceTable, width: usize, scale: f64) -> Self {
        Self {
            table,
            width,
            norm: None,
            keys: None,
            queries: None,
            query_biases: QueryBiases::Own,
            segments: None,
            scale,
            rule: DistanceRule::Each,
            places: None,
        }
    }

    /// What projects the vectors.
    pub fn projections(&self) -> impl Iterator<Item = &Linear> + Clone {
        let keys = match &self.keys {
            Some(DistanceKeys::Projected(keys)) => Some(keys),
            Some(DistanceKeys::Plain) | None => None,
        };
        keys.into_iter().chain(&self.queries)
    }

    /// The vector of a distance `query - key`, counted from that of distance 0.
    pub fn place(&self, distance: i64) -> i64 {
        let place = self.rule.place(distance);
        match self.table {
            DistanceTable::Learned { weight: _, span } => {
                let span = span as i64;
                place.clamp(-span, span - 1)
            }
            DistanceTable::Sines { farthest } => {
                let farthest = farthest.map_or(i64::MAX, |farthest| farthest as i64);
                place.clamp(-farthest, farthest)
            }
        }
    }

    /// Vectors that records of at most `longest` tokens may need.
    pub fn vectors(&self, longest: usize) -> usize {
        match self.table {
            DistanceTable::Learned { weight: _, span } => 2 * span,
            // Keys of another stack may be twice as many.
            DistanceTable::Sines { .. } if self.places.is_some() => 5 * longest,
            DistanceTable::Sines { farthest } => 2 * farthest.unwrap_or(longest).min(longest) + 1,
        }
    }

    /// Products that a query and a key enter.
    pub(crate) fn products(&self) -> usize {
        usize::from(self.keys.is_some()) + usize::from(self.queries.is_some())
    }
}

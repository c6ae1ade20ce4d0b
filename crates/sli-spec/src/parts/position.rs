//! How positions enter attention.

use serde::Serialize;

use super::distance::DistanceVectors;
use super::profiles::DistanceProfiles;
use super::rope::Rope;
use crate::model::Place;
use crate::source::WeightIndex;

/// One way in which positions enter attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Position {
    /// Rotary embedding of queries and keys.
    Rope(Rope),
    /// A slope per head on the distance (Press et al. 2021).
    Alibi(Alibi),
    /// A learned addend per head and bucket of distances (Raffel et al. 2019).
    Buckets(RelativeBuckets),
    /// Products with vectors of distances (He et al. 2021).
    Vectors(Box<DistanceVectors>),
    /// Mixtures of learned profiles over the distance.
    Profiles(Box<DistanceProfiles>),
    /// Few blocks of keys, in longer records (Zaheer et al. 2020).
    SparseBlocks(SparseBlocks),
    /// Learned addends by how far tokens, and their boxes on a page, are apart (LayoutLMv3).
    Boxes(BoxBuckets),
    /// Products of queries with projected sines of how far corners of boxes are apart (BROS).
    Corners(CornerSines),
    /// Products of queries with vectors of how many rows and columns of patches a key is apart (SAM).
    Axes(AxisDistances),
}

impl Position {
    /// In the table of architectures.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Rope(rope) => rope.label(),
            Self::Alibi(_) => "alibi",
            Self::Buckets(_) => "relative buckets",
            Self::Vectors(_) => "products with vectors of distances",
            Self::Profiles(_) => "learned profiles over the distance",
            Self::SparseBlocks(_) => "none in attention, which is sparse in longer records",
            Self::Boxes(_) => "buckets of distances on a page",
            Self::Corners(_) => "sines of distances on a page",
            Self::Axes(_) => "products with vectors of rows and columns apart",
        }
    }

    /// Why a record's rows run as a whole, where they must.
    pub(crate) fn of_whole_records(&self) -> Option<&'static str> {
        match self {
            Self::Rope(_) | Self::Alibi(_) | Self::Buckets(_) | Self::Profiles(_) => None,
            Self::Vectors(_) => {
                Some("queries and keys of whole records are multiplied with vectors of distances")
            }
            Self::SparseBlocks(_) => Some("the last block of a record's keys is seen by all of it"),
            Self::Boxes(_) | Self::Corners(_) => {
                Some("where tokens are on a page is known of whole records")
            }
            Self::Axes(_) => Some("pictures are seen whole"),
        }
    }

    /// Why results depend on the length of a record, in records of at most `longest` tokens.
    pub(crate) fn depends_on_length(&self, longest: usize) -> Option<&'static str> {
        match self {
            Self::Rope(rope) => rope.turns_by_length(longest),
            Self::Buckets(_) => Some("addends are looked up record by record"),
            Self::Alibi(_)
            | Self::Vectors(_)
            | Self::Profiles(_)
            | Self::SparseBlocks(_)
            | Self::Boxes(_)
            | Self::Corners(_)
            | Self::Axes(_) => self.of_whole_records(),
        }
    }

    /// Whether it adds to the logits.
    pub(crate) fn is_addend(&self) -> bool {
        self.rope().is_none()
    }

    /// Whether it is one of places on a page.
    pub(crate) fn is_of_page(&self) -> bool {
        matches!(self, Self::Boxes(_) | Self::Corners(_))
    }

    /// The rotation that it is.
    pub fn rope(&self) -> Option<&Rope> {
        let Self::Rope(rope) = self else { return None };
        Some(rope)
    }

    /// The slopes that it is.
    pub fn alibi(&self) -> Option<&Alibi> {
        let Self::Alibi(alibi) = self else {
            return None;
        };
        Some(alibi)
    }

    /// The addends by distance that it is.
    pub fn buckets(&self) -> Option<&RelativeBuckets> {
        let Self::Buckets(buckets) = self else {
            return None;
        };
        Some(buckets)
    }

    /// The vectors of distances that it is products with.
    pub fn vectors(&self) -> Option<&DistanceVectors> {
        let Self::Vectors(vectors) = self else {
            return None;
        };
        Some(vectors)
    }

    /// The profiles over the distance that it mixes.
    pub fn profiles(&self) -> Option<&DistanceProfiles> {
        let Self::Profiles(profiles) = self else {
            return None;
        };
        Some(profiles)
    }

    /// The sines of corners that it is products with.
    pub fn corners(&self) -> Option<CornerSines> {
        let Self::Corners(corners) = self else {
            return None;
        };
        Some(*corners)
    }

    /// The vectors of rows and columns that it is products with.
    pub fn axes(&self) -> Option<AxisDistances> {
        let Self::Axes(axes) = self else { return None };
        Some(*axes)
    }
}

/// Learned addends of the logits: of the bucket of the distance `key - query`, or, between tokens of
/// different types, of the pair of types (CPM-Ant).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RelativeBuckets {
    /// `[(buckets + types * types) * heads]`, a row of heads a bucket.
    pub table: WeightIndex,
    /// Buckets of distances.
    pub buckets: usize,
    /// Half of the buckets are for later keys; else those share the bucket of distance 0.
    pub looks_ahead: bool,
    /// Distance from which all share a bucket.
    pub max_distance: usize,
    /// Token types; 0: distances are all there is.
    pub types: usize,
}

impl RelativeBuckets {
    /// The bucket of a distance `key - query`: one each up to half of a direction's, then growing with
    /// the logarithm. Computed in f32, as the reference does.
    pub fn bucket(&self, distance: i64) -> usize {
        if self.looks_ahead {
            return both_ways(distance, self.buckets, self.max_distance);
        }
        if distance > 0 {
            return 0;
        }
        one_way(distance, self.buckets, self.max_distance)
    }
}

/// One of `buckets`, of which half are for distances above 0.
fn both_ways(distance: i64, buckets: usize, max_distance: usize) -> usize {
    let half = buckets / 2;
    let direction = if distance > 0 { half } else { 0 };
    direction + one_way(distance, half, max_distance)
}

/// One of `buckets`, whatever the sign.
fn one_way(distance: i64, buckets: usize, max_distance: usize) -> usize {
    let exact = buckets / 2;
    let distance = distance.unsigned_abs() as usize;
    if distance < exact {
        return distance;
    }
    let ratio = (distance as f32 / exact as f32).ln();
    let range = (max_distance as f64 / exact as f64).ln() as f32;
    let step = (ratio / range * (buckets - exact) as f32) as usize;
    (exact + step).min(buckets - 1)
}

/// Addends of the logits: `scale` times the sum of the terms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BoxBuckets {
    /// What is summed.
    pub terms: Vec<BoxTerm>,
    /// Factor on the sum.
    pub scale: f64,
}

/// A learned addend per head and bucket of the distance `key - query`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BoxTerm {
    /// `[heads * buckets]`, a row of buckets a head.
    pub table: WeightIndex,
    /// It is a row of heads a bucket.
    pub by_bucket: bool,
    /// What is apart.
    pub apart: Apart,
    /// Buckets of distances.
    pub buckets: usize,
    /// Distance from which all share a bucket.
    pub max_distance: usize,
}

/// What of two tokens is apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Apart {
    /// The tokens themselves.
    Tokens,
    /// The numbers in this column of the inputs.
    Column(usize),
    /// The middle between two columns of the inputs, which are f32, times a factor; what is less than one is cut off.
    Middle {
        /// The columns.
        of: [usize; 2],
        /// The factor.
        scale: f64,
    },
}

impl Apart {
    /// The distance `key - query` of tokens at these places of a record, with these numbers.
    pub fn distance<'a>(self, query: usize, key: usize, own: impl Fn(usize) -> &'a [u32]) -> i64 {
        match self {
            Self::Tokens => key as i64 - query as i64,
            Self::Column(column) => i64::from(own(key)[column]) - i64::from(own(query)[column]),
            Self::Middle { of, scale } => {
                let middle = |own: &[u32]| {
                    let [one, other] = of.map(|column| f32::from_bits(own[column]));
                    f32::midpoint(one, other)
                };
                ((middle(own(key)) - middle(own(query))) * scale as f32) as i64
            }
        }
    }
}

impl BoxTerm {
    /// The bucket of a distance `key - query`.
    pub fn bucket(&self, distance: i64) -> usize {
        both_ways(distance, self.buckets, self.max_distance)
    }
}

/// Addends of the logits of query `i` and key `j`: `q_i * projection(s)`, where `s` has, for each coordinate in turn, the
/// sines and then the cosines of `(b_j - b_i) * 10000^(-2 f / width)`; added in front of the attention's scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CornerSines {
    /// `[head_dim * coordinates * 2 * frequencies]`: a row of sines and cosines for each feature of a head.
    pub projection: WeightIndex,
    /// Coordinates, from the first column of the inputs on.
    pub coordinates: usize,
    /// Frequencies.
    pub frequencies: usize,
    /// Factor on the coordinates.
    pub scale: f64,
}

impl CornerSines {
    /// Sines and cosines of a pair.
    pub fn features(&self) -> usize {
        2 * self.coordinates * self.frequencies
    }
}

/// Addends of the logits of query `i` and key `j`: products of `q_i`, without the attention's scale, with the vectors of how many
/// rows and columns they are apart. Where a grid does not divide a view, what is missing of its last ones is rows of zeros in
/// front of the projections, which are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AxisDistances {
    /// `[(2 * side - 1) * head_dim]` of rows and of columns, the key that is farthest behind first; absent: nothing is added.
    pub vectors: Option<[WeightIndex; 2]>,
    /// Rows and columns that see each other.
    pub grid: [usize; 2],
    /// Rows and columns of a view.
    pub view: [usize; 2],
}

impl AxisDistances {
    /// Features of a key that say its row and column.
    pub fn features(&self) -> usize {
        self.vectors.map_or(0, |_| self.grid.iter().sum())
    }

    /// Columns of so many for every patch, where rows of zeros have them too.
    pub fn filled(&self, columns: usize) -> usize {
        let whole = |axis: usize| self.view[axis].next_multiple_of(self.grid[axis]);
        let patches = self.view.iter().product::<usize>().max(1);
        (columns * whole(0) * whole(1)).div_ceil(patches)
    }

    /// The view, and the first row and column of those that see a place.
    pub fn corner(&self, place: &Place) -> [usize; 3] {
        let [high, across] = self.grid;
        let first = |at: u32, side: usize| at as usize / side * side;
        [
            place.view as usize,
            first(place.row, high),
            first(place.column, across),
        ]
    }

    /// Rows and columns of what is missing of those that see a place.
    pub fn missing(&self, place: &Place) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [_, top, left] = self.corner(place);
        let ([high, across], [rows, columns]) = (self.grid, self.view);
        let all =
            (top..top + high).flat_map(move |row| (left..left + across).map(move |at| [row, at]));
        all.filter(move |[row, column]| *row >= rows || *column >= columns)
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
    /// `bias = -slope * |key position - query position|` (Jina).
    pub both_ways: bool,
}

/// Which blocks of keys a query sees in records of more than [`Self::from`] tokens: its own, the ones beside it, the first and the
/// last one; queries of these two see all. The keys of the first one count `1 + random` times: its random blocks are all
/// that one, where the reference draws none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SparseBlocks {
    /// Tokens of a block.
    pub block: usize,
    /// Random blocks.
    pub random: usize,
}

impl SparseBlocks {
    /// Records of up to so many tokens see all of themselves.
    pub fn from(self) -> usize {
        (5 + 2 * self.random).saturating_mul(self.block)
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
    /// `1 + alpha * max(0, ln((position + 1) / floor))` (Inkling).
    Log {
        /// Factor on the logarithm.
        alpha: f64,
        /// Positions up to here have none.
        floor: f64,
    },
    /// `(1 + (position + 1) / original)^exponent` (Beam).
    Power {
        /// Positions per unit.
        original: f64,
        /// The exponent.
        exponent: f64,
    },
}

/// A learned factor on the queries of each head: `scale * ln(position + 1) + bias` (Mistral Large 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeadTemperature {
    /// `[heads]`.
    pub scale: WeightIndex,
    /// `[heads]`.
    pub bias: WeightIndex,
}

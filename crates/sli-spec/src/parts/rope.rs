//! Rotary position embedding: which features rotate, and how fast.
//!
//! Pure arithmetic on numbers of the configuration, after transformers' `modeling_rope_utils` (`ROPE_INIT_FUNCTIONS`): what the reference computes in
//! f32 tensors is computed in f32 here, what it computes in Python floats in f64.

use std::f64::consts::PI;

use half::f16;
use serde::Serialize;

use super::LengthLimit;
use crate::source::Leaf;

/// Rotation of queries and keys of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Features of a head that are rotated.
    pub dims: usize,
    /// Features over which the exponents run: `dims`, or one less where a part of the head came out
    /// odd.
    pub span: usize,
    /// First rotated feature within a head.
    pub offset: usize,
    /// Pairs are `(2i, 2i + 1)` (GPT-J) instead of `(i, i + dims / 2)`.
    pub interleaved: bool,
    /// Pairs turn backwards (nanochat).
    pub reversed: bool,
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
    /// What it turns by.
    pub axis: PositionAxis,
}

/// Numbers of the rotations of a stack that a checkpoint may have, in place of those that follow from the configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredTurns {
    /// Where they are stored, if they are.
    pub leaf: Leaf,
    /// What they are.
    pub form: TurnsForm,
    /// Them, as read of the checkpoint; of a description alone none.
    #[serde(skip)]
    pub values: Vec<f32>,
}

/// What is stored of rotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TurnsForm {
    /// An angle of each pair of features (ESM).
    Frequencies,
    /// A number for each pair, whose exponential the frequencies of the configuration are multiplied by (Mistral Large 4).
    LogFactors,
    /// A row for each position: sines of all pairs, then cosines (RoFormer).
    SinesThenCosines,
}

/// One of the numbers that place a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum PositionAxis {
    /// The token's number in its record.
    #[default]
    Token,
    /// The number of the token in front of the generated part, there of the mask that it fills
    /// ([`crate::PositionIds::Blocks`]).
    Context,
    /// 0 in front of the generated part, 1, 2, ... within it.
    Block,
    /// Several numbers, each of which some of the pairs turn by.
    Coordinates(Pairs),
}

/// Which pairs turn by which coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Pairs {
    /// The first half by the row in a picture, the other by the column, at the same speeds.
    Halves,
    /// The first half by the row, the other by the column: of all speeds those by turns (Pixtral).
    HalvesByTurns,
    /// The first half by the column, the other by the row, counted from 1, at the same speeds (Llama 4).
    ColumnsFirst,
    /// The same, counted from 0 (Step 3.7).
    ColumnsThenRows,
    /// As many by the time as by the row and by the column, at the same speeds (MiniMax-M3).
    Thirds,
    /// Of each half of a head its halves: those of the first by the column, those of the second by the row, at the same
    /// speeds (Gemma 4).
    ColumnsApart,
    /// By turns column and row, at the same speeds (Kimi).
    ColumnsByTurns,
    /// The first half by the row, the other by the column, as where the middle of a patch is in the picture, from -1 to 1,
    /// times two pi.
    Centres,
    /// So many by the time, then by the row, then by the column.
    Chunks([u16; 3]),
    /// By turns time, row and column, as long as rows and columns have pairs left of so many; the rest by the time.
    ByTurns([u16; 3]),
}

impl Pairs {
    /// Where rows and columns of patches are counted from.
    pub fn first(self) -> u32 {
        match self {
            Self::ColumnsFirst => 1,
            Self::Halves
            | Self::HalvesByTurns
            | Self::ColumnsByTurns
            | Self::ColumnsThenRows
            | Self::Thirds
            | Self::ColumnsApart
            | Self::Centres
            | Self::Chunks(_)
            | Self::ByTurns(_) => 0,
        }
    }

    /// Of a pair among so many: the coordinate (0: time, 1: row, 2: column), and the pair whose speed it has.
    pub fn of(self, pair: usize, pairs: usize) -> (usize, usize) {
        match self {
            Self::Halves | Self::Centres if pair < pairs / 2 => (1, pair),
            Self::Halves | Self::Centres => (2, pair - pairs / 2),
            Self::HalvesByTurns if pair < pairs / 2 => (1, 2 * pair),
            Self::HalvesByTurns => (2, 2 * (pair - pairs / 2) + 1),
            Self::ColumnsFirst | Self::ColumnsThenRows | Self::ColumnsApart if pair < pairs / 2 => {
                (2, pair)
            }
            Self::ColumnsFirst | Self::ColumnsThenRows | Self::ColumnsApart => {
                (1, pair - pairs / 2)
            }
            Self::Thirds => (pair / (pairs / 3).max(1), pair % (pairs / 3).max(1)),
            Self::ColumnsByTurns => (2 - pair % 2, pair / 2),
            Self::Chunks([time, row, _]) => {
                let (time, row) = (usize::from(time), usize::from(row));
                let axis = usize::from(pair >= time) + usize::from(pair >= time + row);
                (axis, pair)
            }
            Self::ByTurns(counts) => {
                let axis = pair % 3;
                let is_own = axis > 0 && pair < 3 * usize::from(counts[axis]);
                (if is_own { axis } else { 0 }, pair)
            }
        }
    }
}

/// The rope types of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RopeScaling {
    /// `theta^(-2i / dims)`.
    Default,
    /// The same, rounded to f16 (ChatGLM).
    Half,
    /// Frequencies divided by `factor` (position interpolation).
    Linear {
        /// Extension of the context.
        factor: f64,
    },
    /// The base grows with the record once it is longer than `trained` (NTK-aware, "dynamic").
    Dynamic {
        /// Extension of the context.
        factor: f64,
        /// `max_position_embeddings`.
        trained: usize,
    },
    /// The base grows in steps: `theta * alpha^(dims / (dims - 2))` with
    /// `alpha = max(1, 2^ceil(log2(length / base_length) + 1) - 1)` (Qwen 1, TeleChat).
    SteppedNtk {
        /// Length of the first step.
        base_length: usize,
        /// Shorter records count as this long, and sine and cosine of longer ones are multiplied by
        /// `1 + ln(length / trained) / 10`.
        trained: Option<usize>,
    },
    /// Low frequencies interpolated, high ones kept, a ramp between (Peng et al. 2023).
    Yarn {
        /// Extension of the context.
        factor: f64,
        /// Length before the extension.
        original: f64,
        /// Factor on sine and cosine.
        attention_factor: f64,
        /// Rotations within `original` above which a frequency is kept.
        beta_fast: f64,
        /// Rotations within `original` below which a frequency is interpolated.
        beta_slow: f64,
        /// The ends of the ramp are rounded to whole features.
        truncate: bool,
    },
    /// A factor per frequency, one list for short records and one for long (Ding et al. 2024).
    LongRope {
        /// For records of at most `original` tokens.
        short: Vec<f64>,
        /// For longer ones.
        long: Vec<f64>,
        /// Length before the extension.
        original: usize,
        /// Factor on sine and cosine, for short records.
        attention_factor: f64,
        /// Factor on sine and cosine, for long records.
        long_attention_factor: f64,
    },
    /// By wavelength: long ones divided by `factor`, short ones kept, blended between (Llama 3.1).
    Llama3 {
        /// Extension of the context.
        factor: f64,
        /// `original / low` is the wavelength from which all of `factor` applies.
        low: f64,
        /// `original / high` is the wavelength up to which nothing changes.
        high: f64,
        /// Length before the extension.
        original: f64,
    },
    /// Exponents over the whole head, of which the first `rotated` pairs turn (Gemma 4).
    Proportional {
        /// Divisor of the frequencies.
        factor: f64,
        /// Pairs that turn; the others have frequency 0.
        rotated: usize,
    },
}

/// Frequencies and amplitude of one rotation.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeFrequencies {
    /// `dims / 2` angles per position.
    pub inverse: Vec<f32>,
    /// Factor on sine and cosine.
    pub attention_factor: f32,
}

impl Rope {
    /// The usual frequencies of the first `span` features, rotate-half.
    pub fn plain(span: usize, theta: f64) -> Self {
        Self {
            dims: span.next_multiple_of(2),
            span,
            offset: 0,
            interleaved: false,
            reversed: false,
            axis: PositionAxis::Token,
            theta,
            scaling: RopeScaling::Default,
        }
    }

    /// Whether a record's length changes its frequencies (dynamic, longrope): then records that
    /// share a prefix do not share its keys.
    pub fn depends_on_length(&self) -> bool {
        matches!(
            self.scaling,
            RopeScaling::Dynamic { .. }
                | RopeScaling::SteppedNtk { .. }
                | RopeScaling::LongRope { .. }
        )
    }

    /// Records whose lengths map to the same class share one table; `length` in tokens.
    pub fn length_class(&self, length: usize) -> usize {
        match self.scaling {
            RopeScaling::Dynamic { trained, .. }
            | RopeScaling::SteppedNtk {
                trained: Some(trained),
                ..
            } => length.max(trained),
            RopeScaling::SteppedNtk {
                base_length,
                trained: None,
            } => self.stepped_alpha(length, base_length) as usize,
            RopeScaling::LongRope { original, .. } => usize::from(length > original),
            _ => 0,
        }
    }

    /// Why its angles depend on the length of the whole record, in records of at most `longest` tokens.
    pub fn turns_by_length(&self, longest: usize) -> Option<&'static str> {
        let same = self.length_class(1) == self.length_class(longest);
        (!same).then_some("rotations depend on a record's length")
    }

    /// In the table of architectures.
    pub(crate) fn label(&self) -> &'static str {
        if self.interleaved {
            "rope (interleaved)"
        } else {
            "rope"
        }
    }

    /// How long a record may be, given `max_position_embeddings`.
    pub fn length_limit(&self, max_position_embeddings: usize) -> LengthLimit {
        let max = max_position_embeddings as f64;
        LengthLimit::Trained(match self.scaling {
            RopeScaling::Dynamic { .. } | RopeScaling::SteppedNtk { .. } => {
                return LengthLimit::None;
            }
            RopeScaling::Linear { factor } => (max * factor) as usize,
            RopeScaling::Yarn {
                factor, original, ..
            } => max.max(original * factor) as usize,
            _ => max_position_embeddings,
        })
    }

    /// The frequencies for a record of `length` tokens that is run in one forward pass.
    pub fn frequencies(&self, length: usize) -> RopeFrequencies {
        let (mut inverse, attention_factor) = match &self.scaling {
            RopeScaling::Default => (
                self.powers(self.theta as f32, self.span, self.dims / 2),
                1.0,
            ),
            RopeScaling::Half => {
                let powers = self.powers(self.theta as f32, self.dims, self.dims / 2);
                let rounded = powers
                    .into_iter()
                    .map(|power| f16::from_f32(power).to_f32());
                (rounded.collect(), 1.0)
            }
            RopeScaling::Linear { factor } => (self.divided(*factor, self.dims / 2), 1.0),
            RopeScaling::Proportional { factor, rotated } => {
                let mut inverse = self.divided(*factor, *rotated);
                inverse.resize(self.dims / 2, 0.0);
                (inverse, 1.0)
            }
            RopeScaling::Dynamic { factor, trained } => {
                (self.dynamic(*factor, *trained, length), 1.0)
            }
            RopeScaling::SteppedNtk {
                base_length,
                trained,
            } => self.stepped(*base_length, *trained, length),
            RopeScaling::Yarn {
                attention_factor, ..
            } => (self.yarn(), *attention_factor),
            RopeScaling::LongRope {
                short,
                long,
                original,
                attention_factor,
                long_attention_factor,
            } => {
                let (factors, attention_factor) = if length > *original {
                    (long, long_attention_factor)
                } else {
                    (short, attention_factor)
                };
                (self.long_rope(factors), *attention_factor)
            }
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => (self.llama3(*factor, *low, *high, *original), 1.0),
        };
        if self.reversed {
            for frequency in &mut inverse {
                *frequency = -*frequency;
            }
        }
        RopeFrequencies {
            inverse,
            attention_factor: attention_factor as f32,
        }
    }

    /// `1 / base^(2i / dims)` of the first `count` pairs.
    fn powers(&self, base: f32, dims: usize, count: usize) -> Vec<f32> {
        self.bases(base, dims, count)
            .into_iter()
            .map(|power| 1.0 / power)
            .collect()
    }

    /// `base^(2i / dims)` of the first `count` pairs.
    #[expect(clippy::unused_self, reason = "reads as a part of the rotation")]
    fn bases(&self, base: f32, dims: usize, count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| base.powf((2 * i) as f32 / dims as f32))
            .collect()
    }

    fn divided(&self, factor: f64, count: usize) -> Vec<f32> {
        let powers = self.powers(self.theta as f32, self.span, count);
        powers
            .into_iter()
            .map(|inverse| inverse / factor as f32)
            .collect()
    }

    /// The base of a long record is a 0-dimensional f32 tensor in the reference.
    fn dynamic(&self, factor: f64, trained: usize, length: usize) -> Vec<f32> {
        let mut base = self.theta as f32;
        if length > trained {
            let exponent = self.span as f64 / (self.span as f64 - 2.0);
            let stretch = (factor as f32 * length as f32) / trained as f32 - (factor - 1.0) as f32;
            base *= stretch.powf(exponent as f32);
        }
        self.powers(base, self.span, self.dims / 2)
    }

    /// How much the base of a record of this length has grown.
    #[expect(clippy::unused_self, reason = "reads as a part of the rotation")]
    fn stepped_alpha(&self, length: usize, base_length: usize) -> f64 {
        let steps = (length as f64 / base_length as f64).log2() + 1.0;
        (2_f64.powf(steps.ceil()) - 1.0).max(1.0)
    }

    fn stepped(
        &self,
        base_length: usize,
        trained: Option<usize>,
        length: usize,
    ) -> (Vec<f32>, f64) {
        let counted = trained.map_or(length, |trained| length.max(trained));
        let exponent = self.dims as f64 / (self.dims as f64 - 2.0);
        let base = self.theta * self.stepped_alpha(counted, base_length).powf(exponent);
        let magnitude = match trained {
            Some(trained) if length > trained => 0.1 * (length as f64 / trained as f64).ln() + 1.0,
            _ => 1.0,
        };
        (
            self.powers(base as f32, self.dims, self.dims / 2),
            magnitude,
        )
    }

    fn yarn(&self) -> Vec<f32> {
        let RopeScaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } = self.scaling
        else {
            return Vec::new();
        };
        let dims = self.span as f64;
        let feature_of = |rotations: f64| {
            dims * (original / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (feature_of(beta_fast), feature_of(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        let powers = self.bases(self.theta as f32, self.span, self.dims / 2);
        let blend = |(i, power): (usize, f32)| {
            let i = i.min(self.span / 2 - 1);
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            (1.0 / (factor as f32 * power)) * (1.0 - kept) + (1.0 / power) * kept
        };
        powers.into_iter().enumerate().map(blend).collect()
    }

    fn long_rope(&self, factors: &[f64]) -> Vec<f32> {
        let powers = self.bases(self.theta as f32, self.span, self.dims / 2);
        powers
            .iter()
            .zip(factors)
            .map(|(power, &factor)| 1.0 / (factor as f32 * power))
            .collect()
    }

    fn llama3(&self, factor: f64, low: f64, high: f64, original: f64) -> Vec<f32> {
        let (longest, shortest) = ((original / low) as f32, (original / high) as f32);
        let blend = |inverse: f32| {
            let wavelength = (2.0 * PI) as f32 / inverse;
            if wavelength > longest {
                inverse / factor as f32
            } else if wavelength < shortest {
                inverse
            } else {
                let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
                (1.0 - smooth) * inverse / factor as f32 + smooth * inverse
            }
        };
        let powers = self.powers(self.theta as f32, self.span, self.dims / 2);
        powers.into_iter().map(blend).collect()
    }
}

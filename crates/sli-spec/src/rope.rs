//! Rotary position embedding: which features rotate, and how fast.
//!
//! Pure arithmetic on the configuration's numbers, after transformers' `modeling_rope_utils`
//! (`ROPE_INIT_FUNCTIONS`): frequencies are computed in f32 as the reference does.

use serde::Serialize;

/// Rotation of queries and keys of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Features of a head that are rotated.
    pub dims: usize,
    /// First rotated feature within a head.
    pub offset: usize,
    /// Pairs are `(2i, 2i + 1)` (GPT-J) instead of `(i, i + dims / 2)`.
    pub interleaved: bool,
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// The rope types of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RopeScaling {
    /// `theta^(-2i / dims)`.
    Default,
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
    /// Whether a record's length changes its frequencies (dynamic, longrope): then records that
    /// share a prefix do not share its keys.
    pub fn depends_on_length(&self) -> bool {
        match self.scaling {
            RopeScaling::Default => false,
        }
    }

    /// Records whose lengths map to the same class share one table; `length` in tokens.
    pub fn length_class(&self, _length: usize) -> usize {
        match self.scaling {
            RopeScaling::Default => 0,
        }
    }

    /// The frequencies for a record of `length` tokens.
    pub fn frequencies(&self, _length: usize) -> RopeFrequencies {
        let inverse = (0..self.dims / 2)
            .map(|i| 1.0 / (self.theta as f32).powf(2.0 * i as f32 / self.dims as f32))
            .collect();
        RopeFrequencies { inverse, attention_factor: 1.0 }
    }
}

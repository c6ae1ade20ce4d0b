//! Addends of the logits that queries mix of learned profiles over the distance (Inkling).

use serde::Serialize;

use super::{HeadNorm, Linear};
use crate::source::WeightIndex;

/// The logit of query `i` and key `j` in head `h` gets `sum_r mix_i[h, r] * profiles[r, i - j]`; nothing where the distance is
/// `extent` or more. A query's temperature is one of its mix as well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DistanceProfiles {
    /// What a query mixes by `[heads * rank, hidden]`.
    pub mix: Linear,
    /// Norm of what a head mixes by.
    pub norm: Option<HeadNorm>,
    /// `[rank * extent]`: one profile after the other, from distance 0 on.
    pub profiles: WeightIndex,
    /// Profiles.
    pub rank: usize,
    /// Distances that they have.
    pub extent: usize,
}

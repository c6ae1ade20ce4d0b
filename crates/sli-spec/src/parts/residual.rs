//! Where steps read and write, and by what they are multiplied.

use serde::Serialize;

use crate::source::WeightIndex;

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

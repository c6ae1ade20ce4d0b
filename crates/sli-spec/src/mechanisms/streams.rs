//! All residual streams from all.

use serde::Serialize;

use super::{Mechanism, Uses};
use crate::parts::{Linear, Norm, Slot};

/// One half of AltUp (Baykal et al. 2023) on `streams` streams: the hidden state and the first stashes.
/// With `m = tanh(router(norm(x) / hidden))`, x the active stream or the slot that was computed from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Streams {
    /// Number of streams.
    pub streams: usize,
    /// The active one.
    pub active: usize,
    /// Norm in front of the router.
    pub norm: Norm,
    /// `[streams, hidden]`.
    pub router: Linear,
    /// Which half.
    pub update: StreamUpdate,
}

/// The halves of AltUp.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StreamUpdate {
    /// `stream_j += sum_i c[j, i] * stream_i` with `c = coefficients(m)` `[streams, streams]`.
    Predict {
        /// `[streams * streams, streams]`.
        coefficients: Linear,
    },
    /// `stream_j += (1 + coefficients(m)_j) * (computed - stream_active)`.
    Correct {
        /// `[streams, streams]`.
        coefficients: Linear,
        /// What the layer made of the active stream.
        computed: Slot,
    },
}

impl Mechanism for Streams {
    fn weights(&self, uses: &mut Uses) {
        let Streams {
            streams: _,
            active: _,
            norm,
            router,
            update,
        } = self;
        uses.norm(Some(norm));
        uses.linear(router);
        match update {
            StreamUpdate::Predict { coefficients }
            | StreamUpdate::Correct {
                coefficients,
                computed: _,
            } => uses.linear(coefficients),
        }
    }

    fn label(&self) -> String {
        "update of all residual streams".into()
    }

    fn summary(&self) -> String {
        format!("update of {} residual streams", self.streams)
    }

    fn is_in_place(&self) -> bool {
        true
    }
}

//! A convolution of every feature by itself, over a row and its neighbours on both sides, with norms of fixed statistics.

use serde::Serialize;

use super::{Mechanism, Operations, Uses};
use crate::parts::{Cut, Mask, StoredNorm};
use crate::source::WeightIndex;

/// `norm(convolution(x)) + added(x) - taken(x)` (the token mixers of MobileCLIP).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NormedConvolution {
    /// `[features * kernel]`, those of a feature side by side.
    pub weight: WeightIndex,
    /// Features of a row.
    pub features: usize,
    /// Rows that count, the row in their middle.
    pub kernel: usize,
    /// Of what comes out.
    pub norm: StoredNorm,
    /// Of the row itself: what is added, and what is taken away.
    pub own: Option<[StoredNorm; 2]>,
}

impl Mechanism for NormedConvolution {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            weight,
            features: _,
            kernel: _,
            norm,
            own,
        } = self;
        uses.weight(*weight);
        for norm in std::iter::once(norm).chain(own.iter().flatten()) {
            uses.stored_norm(norm);
        }
    }

    fn label(&self) -> String {
        "convolution of every feature, both directions".into()
    }

    fn summary(&self) -> String {
        format!("convolution of every feature over {} rows", self.kernel)
    }

    fn contradiction(&self) -> Option<&'static str> {
        (self.kernel.is_multiple_of(2)).then_some("a convolution without a row in its middle")
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask::Window(self.kernel / 2))
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("a convolution sees the rows behind it")
    }

    fn operations(&self) -> Operations {
        Operations {
            of_row: (2 * self.features * (self.kernel + 2)) as f64,
            ..Operations::default()
        }
    }
}

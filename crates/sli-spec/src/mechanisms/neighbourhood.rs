//! A convolution over all features of a row and its neighbours on both sides.

use serde::Serialize;

use super::{Mechanism, Uses};
use crate::parts::{Activation, Cut, Linear, Mask};

/// `activation(W [x[i - reach], .., x[i + reach]] + b)`, zeros beyond the ends of a record (DeBERTa-v2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbourhood {
    /// `[out, features * kernel]`: the `kernel = 2 * reach + 1` weights of a feature side by side.
    pub projection: Linear,
    /// Neighbours on each side.
    pub reach: usize,
    /// Of the sums.
    pub activation: Activation,
}

impl Mechanism for Neighbourhood {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            projection,
            reach: _,
            activation: _,
        } = self;
        uses.linear(projection);
    }

    fn label(&self) -> String {
        "convolution, both directions".into()
    }

    fn summary(&self) -> String {
        format!("convolution over {} rows", 2 * self.reach + 1)
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask::Window(self.reach))
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("a convolution sees the rows behind it")
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        self.projection.in_features
    }
}

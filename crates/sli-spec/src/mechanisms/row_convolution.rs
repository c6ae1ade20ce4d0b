//! A convolution over the last rows, by itself.

use serde::Serialize;

use super::{Mechanism, Operations, StateSpec, Uses};
use crate::parts::Convolution;

/// The convolution of its input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowConvolution {
    /// Of all features.
    pub convolution: Convolution,
}

impl Mechanism for RowConvolution {
    fn weights(&self, uses: &mut Uses) {
        let Self { convolution } = self;
        uses.convolution(convolution);
    }

    fn label(&self) -> String {
        "convolution of a sublayer's output".into()
    }

    fn summary(&self) -> String {
        format!("convolution ({} rows)", self.convolution.kernel)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["convolution"]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![self.convolution.state()]
    }

    fn operations(&self) -> Operations {
        Operations {
            of_row: (2 * self.convolution.columns * self.convolution.kernel) as f64,
            ..Operations::default()
        }
    }
}

//! The convolution of a conformer: over a row and its neighbours on both sides, each column by itself.

use serde::Serialize;

use super::{Mechanism, Operations, Site, Uses};
use crate::parts::{Activation, Cut, Linear, Mask, StoredNorm};
use crate::source::WeightIndex;

/// `output(activation(norm(convolution(a * sigmoid(b)))))`, where `a | b = input x`; zeros stand beyond the ends of a record
/// (Gulati et al. 2020).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConformerConvolution {
    /// `[2 * columns, hidden]`.
    pub input: Linear,
    /// `[columns * rows]`: of a column its rows.
    pub kernel: WeightIndex,
    /// Rows of the kernel: an odd number.
    pub rows: usize,
    /// `[columns]`.
    pub bias: Option<WeightIndex>,
    /// Columns.
    pub columns: usize,
    /// Behind the convolution.
    pub norm: StoredNorm,
    /// Behind the norm.
    pub activation: Activation,
    /// `[hidden, columns]`.
    pub output: Linear,
}

impl Mechanism for ConformerConvolution {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            input,
            kernel,
            rows: _,
            bias,
            columns: _,
            norm,
            activation: _,
            output,
        } = self;
        uses.linear(input);
        uses.weight(*kernel);
        uses.optional(*bias);
        uses.stored_norm(norm);
        uses.linear(output);
    }

    fn label(&self) -> String {
        "gated convolution, both directions".into()
    }

    fn summary(&self) -> String {
        format!("gated convolution over {} rows", self.rows)
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask::Window(self.rows / 2))
    }

    fn contradiction(&self) -> Option<&'static str> {
        self.rows
            .is_multiple_of(2)
            .then_some("a convolution of an even number of rows")
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("a convolution sees the rows behind it")
    }

    fn operations(&self) -> Operations {
        Operations {
            of_row: (2 * self.columns * self.rows) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        self.input.out_features
    }
}

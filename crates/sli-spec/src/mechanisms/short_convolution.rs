//! A gated convolution over the last few rows.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::{Convolution, Linear};

/// The short convolution of LFM2 (2025): with `b | c | v = input x`, `output (c * convolution (b * v))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShortConvolution {
    /// `[3 * columns, hidden]`.
    pub input: Linear,
    /// Of `b * v`.
    pub convolution: Convolution,
    /// `[hidden, columns]`.
    pub output: Linear,
}

impl Mechanism for ShortConvolution {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            input,
            convolution,
            output,
        } = self;
        uses.linear(input);
        uses.convolution(convolution);
        uses.linear(output);
    }

    fn label(&self) -> String {
        "short convolution, gated".into()
    }

    fn summary(&self) -> String {
        let Convolution {
            columns, kernel, ..
        } = self.convolution;
        format!("short convolution ({columns} columns, {kernel} rows)")
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
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

    fn columns_between(&self, _hidden: usize) -> usize {
        self.input.out_features
    }
}

//! Features of n-grams enter a residual stream.

use serde::Serialize;

use super::contradiction::first_of;
use super::{Mechanism, StateSpec, Uses};
use crate::parts::{Convolution, Cut, Linear, Norm};

/// What a residual stream `x` takes of the features `e` of the n-grams that end in its token (Qwen4-Exp): with
/// `g = norm(key e) . norm(x) / sqrt(hidden)`, `v = sigmoid(sign(g) sqrt(|g|)) * (value e)`, it is
/// `v + activation(convolution(norm(v)))`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NgramInput {
    /// Where the features stand among the inputs of the layers, by the number of layers in front that have any.
    pub number: usize,
    /// `[hidden, features]`.
    pub key: Linear,
    /// Of it.
    pub key_norm: Norm,
    /// Of the stream.
    pub query_norm: Norm,
    /// `[hidden, features]`.
    pub value: Linear,
    /// In front of the convolution.
    pub value_norm: Norm,
    /// Of the columns of all streams, of which this one's follow those of so many others.
    pub convolution: Convolution,
    /// The stream's number.
    pub stream: usize,
    /// Rows from one that is convolved to the next.
    pub dilation: usize,
}

impl NgramInput {
    /// Rows in front of a row that its convolution sees.
    pub fn reach(&self) -> usize {
        (self.convolution.kernel - 1) * self.dilation
    }
}

impl Mechanism for NgramInput {
    fn weights(&self, uses: &mut Uses) {
        let NgramInput {
            number: _,
            key,
            key_norm,
            query_norm,
            value,
            value_norm,
            convolution,
            stream: _,
            dilation: _,
        } = self;
        uses.linear(key);
        uses.norm(Some(key_norm));
        uses.norm(Some(query_norm));
        uses.linear(value);
        uses.norm(Some(value_norm));
        uses.convolution(convolution);
    }

    fn label(&self) -> String {
        "features of n-grams".into()
    }

    fn summary(&self) -> String {
        self.label()
    }

    fn contradiction(&self) -> Option<&'static str> {
        let hidden = self.key.out_features;
        let of_streams = self.convolution.columns;
        first_of(&[(
            of_streams < (self.stream + 1) * hidden || self.value.out_features != hidden,
            "a convolution of columns that are not there",
        )])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::Window {
            rows: self.reach(),
            columns: self.key.out_features,
        }]
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("features of a record's n-grams enter the layers")
    }
}

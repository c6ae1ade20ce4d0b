//! Attention whose weights are how likely the hashes of a query and a key are the same.

use serde::Serialize;

use super::{Mechanism, Operations, Site, Uses, ValueConvolution};
use crate::parts::{Cut, Linear, Mask};

/// YOSO in its expectation (Zeng et al. 2021): of a head, with queries and keys of length 1, the sum of all values
/// times `(1 - acos(q k) / pi)^exponent`, divided by its length; then perhaps a convolution of the values is added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BernoulliAttention {
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Queries, keys and values `[heads * head_dim, hidden]`.
    pub projections: [Linear; 3],
    /// `[hidden, heads * head_dim]`.
    pub output: Linear,
    /// Bits of a hash.
    pub exponent: usize,
    /// What is added to the heads' outputs.
    pub convolution: Option<ValueConvolution>,
}

impl Mechanism for BernoulliAttention {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            heads: _,
            head_dim: _,
            projections,
            output,
            exponent: _,
            convolution,
        } = self;
        for projection in projections {
            uses.linear(projection);
        }
        if let Some(ValueConvolution { weight, kernel: _ }) = convolution {
            uses.weight(*weight);
        }
        uses.linear(output);
    }

    fn label(&self) -> String {
        "attention: multi-head, full, by the expectation of equal hashes".into()
    }

    fn summary(&self) -> String {
        format!(
            "attention by equal hashes ({} heads of {})",
            self.heads, self.head_dim
        )
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Attention)
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask::Full)
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("the weights of a query are of all keys of its record")
    }

    fn operations(&self) -> Operations {
        let wide = self.heads * self.head_dim;
        let kernel = self.convolution.map_or(0, |own| own.kernel);
        Operations {
            of_row: (2 * kernel * wide) as f64,
            // An arc and a power cost about as much as thirty operations.
            of_pair: (4 * wide + 30 * self.heads) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        4 * self.heads * self.head_dim
    }
}

//! Attention to the rows around, and to sums of blocks of rows.

use serde::Serialize;

use super::contradiction::first_of;
use super::{Attention, Keys, Mechanism, Operations, Site, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, Linear, Mask, Norm, Position, RelativeBuckets};

/// Transient-global attention (Guo et al. 2021). Behind the keys of a window stand those of `norm(sum of block)`: the input of each
/// block of `block` rows summed, the last block with what is left over. The sums are gone behind the layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransientGlobal {
    /// What a row sees of those around it. Its projections are those of the sums too.
    pub attention: Attention,
    /// Rows of a block.
    pub block: usize,
    /// Of the sums.
    pub norm: Norm,
    /// Addends by distance between blocks.
    pub buckets: RelativeBuckets,
}

const OF_WHOLE_RECORDS: &str = "every row sees sums of blocks of its whole record";

impl TransientGlobal {
    /// Sums that come of a record, at most, of so many columns each, as columns of its rows.
    pub fn columns_of_sums(&self, columns: usize) -> usize {
        columns.div_ceil(self.block)
    }
}

impl Mechanism for TransientGlobal {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            attention,
            block: _,
            norm,
            buckets,
        } = self;
        uses.norm(Some(norm));
        uses.weight(buckets.table);
        attention.weights(uses);
    }

    fn label(&self) -> String {
        format!("{}, and sums of blocks", self.attention.label())
    }

    fn summary(&self) -> String {
        let block = self.block;
        format!(
            "{}, and sums of blocks of {block}",
            self.attention.summary()
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let own = first_of(&[
            (
                !self.attention.is_plain(),
                "more of an attention to sums than projections",
            ),
            (
                !matches!(&self.attention.positions[..], [Position::Buckets(own)] if own.types == 0)
                    || self.buckets.types > 0,
                "other positions of sums than addends by distance",
            ),
            (self.block == 0, "sums of no rows"),
        ]);
        self.attention.contradiction().or(own)
    }

    fn site(&self) -> Option<Site> {
        self.attention.site()
    }

    fn mask(&self) -> Option<Mask> {
        self.attention.mask()
    }

    fn ropes(&self) -> Vec<&Rope> {
        self.attention.ropes()
    }

    fn positions(&self) -> Vec<&'static str> {
        self.attention.positions()
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        vec![(&self.norm, "of sums of blocks")]
    }

    fn keys(&self) -> Option<Keys> {
        self.attention.keys()
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere(OF_WHOLE_RECORDS)
    }

    fn operations(&self) -> Operations {
        let own = self.attention.operations();
        let Some((key, value)) = self.attention.own_key_value() else {
            return own;
        };
        let product = |linear: &Linear| 2 * linear.in_features * linear.out_features;
        let of_sums = (product(key) + product(value)).div_ceil(self.block);
        Operations {
            of_row: own.of_row + of_sums as f64,
            ..own
        }
    }

    fn columns_between(&self, hidden: usize) -> usize {
        self.attention.columns_between(hidden)
    }

    fn depends_on_length(&self, _longest: usize) -> Option<&'static str> {
        Some(OF_WHOLE_RECORDS)
    }
}

//! Attention to few blocks of keys (`BigBird`): the others are masked, and the first one counts several times.

use sli_kernels::BiasSite;
use sli_spec::SparseBlocks;

use crate::exec::Rows;

/// The addends of a chunk of whole records.
pub(super) struct Addends {
    rule: SparseBlocks,
    /// Tokens of each record.
    lengths: Vec<usize>,
    /// Logarithm of how often the keys of the first block count.
    of_first: f32,
}

impl Addends {
    pub fn new(rule: SparseBlocks, rows: Rows<'_>) -> Self {
        let segments = rows.batch.segments(rows.chunk).own;
        Self {
            rule,
            lengths: segments.iter().map(|segment| segment.k.len()).collect(),
            of_first: (1.0 + rule.random as f32).ln(),
        }
    }

    /// Adds to the logits of one query and some keys.
    pub fn add(&self, site: &BiasSite, logits: &mut [f32]) {
        let length = self.lengths[site.segment];
        if length <= self.rule.from() {
            return;
        }
        let block = self.rule.block;
        let (own, last) = (site.query / block, (length - 1) / block);
        if own == 0 || own == last {
            return;
        }
        for (key, logit) in site.keys.clone().zip(logits) {
            match key / block {
                0 => *logit += self.of_first,
                other if other == last || other.abs_diff(own) <= 1 => {}
                _ => *logit = f32::NEG_INFINITY,
            }
        }
    }
}

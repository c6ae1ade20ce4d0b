//! Learned addends of the logits by distance and by kind of token (T5, CPM-Ant).

use std::ops::Range;

use sli_kernels::BiasSite;
use sli_spec::{Attention, Mask, RelativeBuckets};

use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Vector};

/// The addends of a chunk whose records share no rows.
pub(super) struct Addends<'a> {
    /// `[buckets + types * types, heads]`.
    table: Vector,
    heads: usize,
    buckets: usize,
    kinds: usize,
    /// The bucket of every distance `key - query`, from `-longest` on.
    bucket_of: Vec<usize>,
    longest: usize,
    /// Of every row of the batch; none: all have type 0.
    types: Option<&'a [u32]>,
    sequences: Vec<Sequence>,
}

struct Sequence {
    /// First row of the batch.
    start: usize,
    /// Positions that neither see nor are seen.
    hidden: Range<usize>,
}

impl<'a> Addends<'a> {
    pub fn new(
        layer: &BoundLayer<'_>,
        rule: &RelativeBuckets,
        attention: &Attention,
        rows: Rows<'a>,
    ) -> Result<Self, EngineError> {
        let batch = rows.batch;
        let branches = batch.branches_of(rows.chunk);
        let longest = branches.iter().map(ExactSizeIterator::len).max();
        let length = batch.piece().map(|piece| piece.length);
        let longest = length.or(longest).unwrap_or(0);
        let distances = -(longest as i64)..=longest as i64;
        let sequence = |branch: Range<usize>| {
            let own = (branch.start + batch.lead()).min(branch.end)..branch.end;
            let padding = match attention.mask {
                Mask::FullButPadding(padding) => {
                    let own = batch.tokens[own].iter();
                    own.filter(|&&token| token == padding).count()
                }
                _ => 0,
            };
            Sequence {
                start: branch.start,
                hidden: batch.lead()..batch.lead() + padding,
            }
        };
        Ok(Self {
            table: layer.vector(rule.table)?,
            heads: attention.heads,
            buckets: rule.buckets,
            kinds: rule.types,
            bucket_of: distances.map(|distance| rule.bucket(distance)).collect(),
            longest,
            types: batch.token_types.as_deref(),
            sequences: branches.into_iter().map(sequence).collect(),
        })
    }

    /// Adds to the logits of one query and some keys.
    pub fn add(&self, site: &BiasSite, logits: &mut [f32]) {
        let table = &*self.table;
        let sequence = &self.sequences[site.segment];
        let kind = |position: usize| {
            let types = self.types;
            types.map_or(0, |types| types[sequence.start + position] as usize)
        };
        let own = kind(site.query);
        let blind = sequence.hidden.contains(&site.query);
        for (key, logit) in site.keys.clone().zip(logits) {
            if blind || sequence.hidden.contains(&key) {
                *logit = f32::NEG_INFINITY;
                continue;
            }
            let other = kind(key);
            let row = if other == own {
                self.bucket_of[self.longest + key - site.query]
            } else {
                self.buckets + own * self.kinds + other
            };
            *logit += table[row * self.heads + site.head];
        }
    }
}

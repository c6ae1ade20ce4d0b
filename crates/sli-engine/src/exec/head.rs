//! What follows the last layer: final norm, pooling, and logits a tile of the vocabulary at a time.
//!
//! `[tokens, vocab]` is never held: every tile updates a running log-sum-exp, the targets' logits
//! and the best `k`, and is dropped.

use std::ops::Range;

use sli_checkpoint::BoundLeaf;
use sli_kernels::{Compute, LseState, Mat, MatRef, PackedKind, PackedWeights, Store, TopK};
use sli_spec::{Handed, Head, LogitsHead, Merge, WeightIndex};

use super::batch::Batch;
use super::linear::{tile_rows, tiles};
use super::target::Target;
use super::{BoundLayer, Slots};
use crate::error::EngineError;
use crate::mixers::stream_attention;
use crate::weights::load;
use crate::weights::stream::Piece;

/// Rows of logits that are computed at a time.
pub(crate) const HEAD_ROWS: usize = 512;

/// Rows of the projection whose lengths are computed at a time, where they are normalised.
pub(crate) const LENGTH_ROWS: usize = 128;

/// Columns of logits that are computed at a time, at most: a multiple of 1024.
pub(crate) const HEAD_COLUMNS: usize = 4096;

/// Tiles of the vocabulary start at multiples of this many columns.
const TILE: usize = 1024;

/// What is wanted of the logits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The tokens whose probabilities are asked for, by row.
    pub targets: Option<Vec<Target>>,
    /// How many of the best.
    pub top_k: Option<usize>,
    /// The logarithm of the sum of their exponentials.
    pub log_sum_exp: bool,
}

/// What was computed from the logits, a row each.
#[derive(Default)]
pub(crate) struct LogitResults {
    /// Logits of the targets, by place; as many places as rows, and one more.
    pub target: Vec<f32>,
    /// `ln(sum(exp(logits)))`.
    pub log_sum_exp: Vec<f64>,
    /// The best `k`.
    pub top: Option<TopK>,
}

/// Receives the logits themselves: columns `first..` of some rows.
pub(crate) type LogitSink<'a> = dyn FnMut(usize, usize, MatRef<'_>) -> Result<(), EngineError> + 'a;

/// The tiles that the projection to logits passes by in.
pub(crate) fn vocabulary_tiles(
    leaf: &BoundLeaf,
    compute: Compute,
    tile_bytes: u64,
) -> Vec<Range<usize>> {
    let vocab = leaf.rows();
    let tile = tile_rows(load::packed_bytes(leaf, vocab, compute), vocab, tile_bytes);
    tiles(vocab, (tile / TILE * TILE).clamp(TILE, HEAD_COLUMNS))
}

impl BoundLayer<'_> {
    /// One of the residual streams, where there are several.
    pub fn merge(&self, head: &Head, slots: &Slots) -> Result<Option<Mat>, EngineError> {
        let hidden = &slots.hidden;
        let first = || {
            let mut sum = Mat::new(hidden.rows(), hidden.cols());
            self.kernels.add(hidden.view(), 1.0, sum.view_mut());
            sum
        };
        let mean = |mut sum: Mat, count: usize| {
            let factor = 1.0 / count as f32;
            self.kernels.scale_in_place(factor, sum.view_mut());
            Some(sum)
        };
        match &head.streams {
            Merge::One => Ok(None),
            Merge::Mean(count) => {
                let mut sum = first();
                for stream in slots.streams(*count).into_iter().skip(1) {
                    self.kernels.add(stream.view(), 1.0, sum.view_mut());
                }
                Ok(mean(sum, *count))
            }
            Merge::Attended(attention) => {
                let mut merged = Mat::new(hidden.rows(), hidden.cols());
                let streams = attention.streams.iter();
                let streams: Vec<_> = streams.map(|&slot| slots.get(slot).view()).collect();
                stream_attention::attend(attention, self, &streams, vec![merged.view_mut()])?;
                Ok(Some(merged))
            }
            Merge::Weighed(weights) => self.mixture(weights, slots).map(Some),
            Merge::Gated(mean) => self.gated_mixture(mean, slots).map(Some),
            Merge::Projected(others) => {
                let mut sum = first();
                let mut projected = Mat::new(hidden.rows(), hidden.cols());
                for (linear, stream) in others.iter().zip(&slots.stashes) {
                    self.linear(stream.view(), linear, projected.view_mut())?;
                    self.kernels
                        .match_magnitudes(hidden.view(), projected.view_mut());
                    self.kernels.add(projected.view(), 1.0, sum.view_mut());
                }
                Ok(mean(sum, others.len() + 1))
            }
        }
    }

    /// The normed end of the stack, where there is a final norm.
    pub fn final_norm(&self, head: &Head, hidden: &Mat) -> Result<Option<Mat>, EngineError> {
        let Some(norm) = &head.norm else {
            return Ok(None);
        };
        let mut normed = Mat::new(hidden.rows(), hidden.cols());
        self.norm(norm, hidden.view(), normed.view_mut())?;
        Ok(Some(normed))
    }

    /// The projected end of the stack, where it has a projection of its own.
    pub fn output(&self, head: &Head, x: &Mat) -> Result<Option<Mat>, EngineError> {
        let Some(linear) = &head.output else {
            return Ok(None);
        };
        let mut projected = Mat::new(x.rows(), linear.out_features);
        self.linear(x.view(), linear, projected.view_mut())?;
        Ok(Some(projected))
    }

    /// The normed end as later stacks read it.
    pub fn hand_on(
        &self,
        handed: &Handed,
        batch: &Batch,
        mut end: Mat,
    ) -> Result<Mat, EngineError> {
        self.add_positions(handed.positions.as_ref(), batch, &mut end)?;
        let Some(linear) = &handed.projection else {
            return Ok(end);
        };
        let mut projected = Mat::new(end.rows(), linear.out_features);
        self.linear(end.view(), linear, projected.view_mut())?;
        Ok(projected)
    }

    /// The Euclidean length of every row of a matrix, at least 1e-12 (as `normalize` of torch).
    fn row_lengths(&self, matrix: WeightIndex, rows: usize) -> Result<Vec<f32>, EngineError> {
        let columns = self.leaf(matrix).shape.last().copied().unwrap_or(0);
        let mut values = Mat::default();
        let mut lengths = Vec::with_capacity(rows);
        for start in (0..rows).step_by(LENGTH_ROWS) {
            let ids: Vec<u32> = (start..(start + LENGTH_ROWS).min(rows))
                .map(|id| id as u32)
                .collect();
            values.reset(ids.len(), columns);
            self.gather(matrix, &ids, &mut values, false)?;
            for row in 0..ids.len() {
                let square = |sum: f64, value: &f32| sum + f64::from(*value).powi(2);
                let square = values.row(row).iter().fold(0.0, square);
                lengths.push(square.sqrt().max(1e-12) as f32);
            }
        }
        Ok(lengths)
    }

    /// Runs the head on all rows of a super-batch.
    pub fn logits(
        &self,
        logits: &LogitsHead,
        x: MatRef<'_>,
        wanted: &Wanted,
        tile_bytes: u64,
        mut sink: Option<&mut LogitSink<'_>>,
    ) -> Result<LogitResults, EngineError> {
        let rows = x.rows();
        let mut transformed: Option<Mat> = None;
        for transform in &logits.transforms {
            let x = transformed.as_ref().map_or(x, Mat::view);
            transformed = Some(self.transformed(transform, x)?);
        }
        let x = transformed.as_ref().map_or(x, Mat::view);
        let mut results = LogitResults {
            // A token without logits is never predicted.
            target: vec![f32::NEG_INFINITY; wanted.targets.as_ref().map_or(0, |_| rows + 1)],
            log_sum_exp: Vec::new(),
            top: wanted.top_k.map(|k| TopK::new(rows, k)),
        };
        let states = if wanted.log_sum_exp { rows } else { 0 };
        let mut states = vec![LseState::default(); states];
        let bias = self.owned(logits.projection.bias)?;
        let compute = self.kernels.compute();
        let leaf = self.bound(logits.projection.weight);
        let vocab = leaf.rows();
        let tiles = vocabulary_tiles(leaf, compute, tile_bytes);
        let key = self.key(logits.projection.weight);
        let groups: Vec<_> = tiles
            .iter()
            .map(|rows| {
                vec![Piece {
                    key,
                    leaf,
                    slice: 0,
                    rows: rows.clone(),
                }]
            })
            .collect();
        let lengths = logits
            .normalized_rows
            .then(|| self.row_lengths(logits.projection.weight, vocab))
            .transpose()?;
        let mut block = Mat::default();
        let mut consume = |index: usize, packed: &PackedWeights| -> Result<(), EngineError> {
            let columns = tiles[index].clone();
            let bias = bias.as_ref().map(|bias| &bias[columns.clone()]);
            for start in (0..rows).step_by(HEAD_ROWS) {
                let range = start..(start + HEAD_ROWS).min(rows);
                block.reset(range.len(), columns.len());
                let x = x.rows_range(range.clone());
                self.kernels
                    .gemm(x, packed, bias, Store::Set, block.view_mut());
                if !self.kernels.all_finite(block.view()) {
                    let stack = &self.model.spec.stacks[self.stack].name;
                    let place = format!("{stack} head (logits)");
                    return Err(EngineError::Overflow { place });
                }
                if let Some(lengths) = &lengths {
                    let lengths = &lengths[columns.clone()];
                    for row in 0..block.rows() {
                        let logits = block.row_mut(row).iter_mut().zip(lengths);
                        logits.for_each(|(logit, length)| *logit /= length);
                    }
                }
                if logits.scale != 1.0 {
                    self.kernels
                        .scale_in_place(logits.scale as f32, block.view_mut());
                }
                if let Some(cap) = logits.softcap {
                    self.kernels.softcap_in_place(cap as f32, block.view_mut());
                }
                if wanted.log_sum_exp {
                    self.kernels
                        .update_lse(block.view(), &mut states[range.clone()]);
                }
                if let Some(top) = &mut results.top {
                    self.kernels
                        .top_k(block.view(), range.start, columns.start, top);
                }
                if let Some(targets) = &wanted.targets {
                    let before =
                        |row: usize| targets.partition_point(|target| (target.row as usize) < row);
                    for target in &targets[before(range.start)..before(range.end)] {
                        let token = target.token as usize;
                        if columns.contains(&token) {
                            let row = block.row(target.row as usize - range.start);
                            results.target[target.place as usize] = row[token - columns.start];
                        }
                    }
                }
                if let Some(sink) = sink.as_mut() {
                    sink(range.start, columns.start, block.view())?;
                }
            }
            Ok(())
        };
        match self.store.kept_head() {
            Some(kept) if kept.len() == tiles.len() => {
                let mut all = kept.iter().enumerate();
                all.try_for_each(|(index, packed)| consume(index, packed))?;
            }
            Some(mut kept) => {
                kept.clear();
                self.stream(&groups, |index, packed| {
                    consume(index, &packed[0])?;
                    let none = PackedWeights::new(0, 0, PackedKind::F32);
                    kept.push(std::mem::replace(&mut packed[0], none));
                    Ok(())
                })?;
            }
            None => self.stream(&groups, |index, packed| consume(index, &packed[0]))?,
        }
        results.log_sum_exp = states.iter().map(LseState::log_sum_exp).collect();
        Ok(results)
    }
}

//! `--take lens`: what the model would say if it ended earlier. The final norm and the head are put on the hidden states
//! of boundaries between layers (nostalgebraist's logit lens).
//!
//! How far such a distribution is from the last one is known only at the end, so the states of a super-batch wait for it in
//! the work folder. The head then runs on rows of several boundaries beside the same rows of the last: a block of logits
//! has both, and no more than a block is held.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sli_kernels::{Mat, MatRef};
use sli_spec::{Head, Merge, ModelSpec};

use crate::divergence::Divergence;
use crate::error::EngineError;
use crate::exec::BoundLayer;
use crate::exec::batch::Batch;
use crate::exec::head::{HEAD_ROWS, LogitResults, Wanted};
use crate::exec::target::Target;
use crate::expansion;
use crate::journal::OutputFolder;
use crate::results::{LensRow, LensSink, ResultsError};
use crate::take::{BoundaryKind, LayerSelection, TakeError};
use crate::token_scores::Scores;

/// Matrices whose rows are in a block of the head together: the last one, and those of some boundaries.
pub(crate) const TOGETHER: usize = 4;

/// Rows of each of them in such a block.
const PART: usize = HEAD_ROWS / TOGETHER;

/// Rows that one thread looks at together.
const STRIP: usize = 8;

/// The boundaries of the last stack that are looked at.
pub(crate) fn layers(
    spec: &ModelSpec,
    selection: &LayerSelection,
) -> Result<Vec<usize>, TakeError> {
    let stack = spec.output_stack();
    let boundaries = selection.resolve(&[(stack.name, stack.layers.len(), false)])?;
    let layers = boundaries
        .iter()
        .filter_map(|boundary| match boundary.kind {
            BoundaryKind::Layer(layer) => Some(layer),
            BoundaryKind::Norm => None,
        });
    Ok(layers.collect())
}

/// How often the head runs for some boundaries.
pub(crate) fn groups(layers: &[usize]) -> usize {
    layers.len().div_ceil(TOGETHER - 1)
}

/// Why the head of a model is put on one state only.
pub(crate) fn obstacle(head: &Head) -> Option<&'static str> {
    match head.streams {
        Merge::One => None,
        Merge::Mean(_)
        | Merge::Attended(_)
        | Merge::Projected(_)
        | Merge::Weighed(_)
        | Merge::Gated(_) => {
            Some("the model has several residual streams, which its end makes one of")
        }
    }
}

/// Bytes that a row takes while the head runs: the rows side by side, the state that was saved, sums, the best tokens.
pub(crate) fn row_bytes(hidden: usize, k: usize) -> u64 {
    let rows = (TOGETHER + 2) * hidden * size_of::<f32>();
    let sums = (TOGETHER - 1) * (size_of::<Divergence>() + 32);
    (rows + sums + TOGETHER * (16 * k + 96)) as u64
}

/// What is looked at.
pub(crate) struct Lens {
    k: usize,
    layers: Vec<usize>,
    sink: LensSink,
    /// Of a record whose pieces come one by one, by layer.
    open: BTreeMap<usize, Open>,
}

/// What there is so far of a record.
#[derive(Default)]
struct Open {
    scores: Scores,
    entropy: Vec<f32>,
    divergence: Vec<f32>,
    best: Vec<(f32, u32)>,
    log_sum_exp: Vec<f64>,
}

impl Lens {
    /// Starts, or goes on with, the table.
    pub fn open(k: usize, layers: Vec<usize>, folder: &OutputFolder) -> Result<Self, ResultsError> {
        let numbers: Vec<u32> = layers.iter().map(|&layer| layer as u32).collect();
        Ok(Self {
            k,
            sink: LensSink::open(folder, &numbers)?,
            layers,
            open: BTreeMap::new(),
        })
    }

    /// Whether the states at a boundary are looked at.
    pub fn wants(&self, layer: usize) -> bool {
        self.layers.contains(&layer)
    }

    /// Writes the table.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        self.sink.finish(folder)
    }

    /// Looks at the states of a part; `last` is the end of the stack, and `load` reads those of a boundary.
    pub fn look(
        &mut self,
        (layer, head): (&BoundLayer<'_>, &Head),
        batch: &Batch,
        last: &Mat,
        tile_bytes: u64,
        mut load: impl FnMut(usize) -> Result<Mat, EngineError>,
    ) -> Result<(), EngineError> {
        let rows = last.rows();
        let Some(logits) = &head.logits else {
            return Ok(());
        };
        let end = ended(layer, head, last)?;
        let end = end.as_ref().unwrap_or(last);
        let layers = self.layers.clone();
        for group in layers.chunks(TOGETHER - 1) {
            let mut side_by_side = Mat::new(TOGETHER * rows, end.cols());
            lay(end, 0, &mut side_by_side);
            for (member, &number) in (1..).zip(group) {
                let state = load(number)?;
                let state = ended(layer, head, &state)?.unwrap_or(state);
                lay(&state, member, &mut side_by_side);
            }
            let mut seen = Seen::new(rows, group.len());
            let targets = batch.targets();
            let wanted = Wanted {
                targets: None,
                top_k: Some(self.k),
                log_sum_exp: true,
            };
            let mut see = |start: usize, column: usize, block: MatRef<'_>| {
                seen.add(layer, &targets, (start, column), block);
                Ok(())
            };
            let x = side_by_side.view();
            let results = layer.logits(logits, x, &wanted, tile_bytes, Some(&mut see))?;
            for (member, &number) in (1..).zip(group) {
                self.push(batch, number, &seen.of(member, &results))?;
            }
        }
        Ok(())
    }

    /// Hands on what was seen of a boundary, record by record.
    fn push(&mut self, batch: &Batch, layer: usize, seen: &OfLayer<'_>) -> Result<(), EngineError> {
        let open = self.open.entry(layer).or_default();
        for record in &batch.records {
            let runs = batch.path(record);
            open.scores.add(batch, record, &runs, &seen.results);
            open.entropy
                .extend(expansion::values(&seen.entropy, 1, &runs));
            open.divergence
                .extend(expansion::values(&seen.divergence, 1, &runs));
            for row in runs.iter().cloned().flatten() {
                open.best.extend_from_slice(seen.best(row));
                open.log_sum_exp.push(seen.results.log_sum_exp[row]);
            }
            if !record.ends() {
                continue;
            }
            let whole = std::mem::take(open);
            let width = whole.best.len() / whole.log_sum_exp.len().max(1);
            let best = whole.best.chunks(width.max(1)).zip(&whole.log_sum_exp);
            let top_logprobs: Vec<f32> = best
                .flat_map(|(best, sum)| {
                    best.iter()
                        .map(move |(logit, _)| (f64::from(*logit) - sum) as f32)
                })
                .collect();
            let top_ids: Vec<u32> = whole.best.iter().map(|(_, id)| *id).collect();
            self.sink.push(&LensRow {
                record: record.name(),
                layer: layer as u32,
                unscored: whole.scores.tokens.len() - whole.scores.logprobs.len(),
                logprobs: &whole.scores.logprobs,
                entropy: &whole.entropy,
                kl: &whole.divergence,
                width,
                top_ids: &top_ids,
                top_logprobs: &top_logprobs,
            })?;
        }
        Ok(())
    }
}

/// The state as the projection to logits gets it, where that is another one.
fn ended(layer: &BoundLayer<'_>, head: &Head, state: &Mat) -> Result<Option<Mat>, EngineError> {
    let normed = layer.final_norm(head, state)?;
    let projected = layer.output(head, normed.as_ref().unwrap_or(state))?;
    Ok(projected.or(normed))
}

/// Where a row of one of the matrices is among those side by side.
fn place(row: usize, member: usize, rows: usize) -> usize {
    let begin = row / PART * PART;
    let here = PART.min(rows - begin);
    begin * TOGETHER + member * here + row - begin
}

/// Copies the rows of a matrix to their places.
fn lay(x: &Mat, member: usize, to: &mut Mat) {
    for row in 0..x.rows() {
        to.row_mut(place(row, member, x.rows()))
            .copy_from_slice(x.row(row));
    }
}

/// What is seen of the blocks of logits.
struct Seen {
    rows: usize,
    members: usize,
    /// By row and member.
    sums: Vec<Divergence>,
    /// Logits of the targets by member and place, one place more than rows.
    targets: Vec<f32>,
}

/// What was seen of one boundary.
struct OfLayer<'a> {
    results: LogitResults,
    entropy: Vec<f32>,
    divergence: Vec<f32>,
    member: usize,
    all: &'a LogitResults,
}

impl OfLayer<'_> {
    /// The best tokens of a row.
    fn best(&self, row: usize) -> &[(f32, u32)] {
        let rows = self.entropy.len();
        let top = self.all.top.as_ref();
        top.map_or(&[], |top| top.row(place(row, self.member, rows)))
    }
}

impl Seen {
    fn new(rows: usize, members: usize) -> Self {
        Self {
            rows,
            members,
            sums: vec![Divergence::default(); rows * members],
            targets: vec![0.0; (rows + 1) * members],
        }
    }

    /// A block of logits, of the same rows of all matrices.
    fn add(
        &mut self,
        layer: &BoundLayer<'_>,
        targets: &[Target],
        (start, column): (usize, usize),
        block: MatRef<'_>,
    ) {
        let here = block.rows() / TOGETHER;
        let (first, members) = (start / TOGETHER, self.members);
        let before = |row: usize| targets.partition_point(|target| (target.row as usize) < row);
        for target in &targets[before(first)..before(first + here)] {
            let Some(token) = (target.token as usize).checked_sub(column) else {
                continue;
            };
            for member in 1..=members {
                let row = block.row(member * here + target.row as usize - first);
                if let Some(logit) = row.get(token) {
                    let place = (member - 1) * (self.rows + 1) + target.place as usize;
                    self.targets[place] = *logit;
                }
            }
        }
        let own = &mut self.sums[first * members..(first + here) * members];
        let strips: Vec<Mutex<&mut [Divergence]>> =
            own.chunks_mut(STRIP * members).map(Mutex::new).collect();
        layer.kernels.parallel_rows(strips.len(), 1, |range| {
            for (index, strip) in range.clone().zip(&strips[range]) {
                let mut strip = strip.lock().unwrap_or_else(PoisonError::into_inner);
                for (row, sums) in (index * STRIP..).zip(strip.chunks_mut(members)) {
                    for (member, sum) in (1..).zip(sums) {
                        sum.add(block.row(row), block.row(member * here + row));
                    }
                }
            }
        });
    }

    /// What was seen of one of the boundaries.
    fn of<'a>(&self, member: usize, all: &'a LogitResults) -> OfLayer<'a> {
        let sums = self.sums.iter().skip(member - 1).step_by(self.members);
        let (entropy, divergence) = sums
            .map(|sum| (sum.entropy() as f32, sum.value() as f32))
            .unzip();
        let targets = &self.targets[(member - 1) * (self.rows + 1)..][..=self.rows];
        let log_sum_exp = (0..self.rows).map(|row| all.log_sum_exp[place(row, member, self.rows)]);
        OfLayer {
            results: LogitResults {
                target: targets.to_vec(),
                log_sum_exp: log_sum_exp.collect(),
                top: None,
            },
            entropy,
            divergence,
            member,
            all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_place_of_its_own_in_its_block() {
        for rows in [1, PART - 1, PART, PART + 1, 3 * PART + 5] {
            let mut places = Vec::new();
            for member in 0..TOGETHER {
                for row in 0..rows {
                    let own = place(row, member, rows);
                    assert_eq!(own / HEAD_ROWS, row / PART, "{row} of {rows}");
                    places.push(own);
                }
            }
            places.sort_unstable();
            assert!(places.into_iter().eq(0..TOGETHER * rows));
        }
    }
}

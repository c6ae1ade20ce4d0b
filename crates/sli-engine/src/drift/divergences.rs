//! How far the distributions over the vocabulary are from the reference's, whose logits are in its trace.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sli_kernels::{LseState, Mat, MatRef, TopK};
use sli_spec::{LogitsHead, Predicts};

use super::reference::stretches;
use super::totals::Diverged;
use super::{is_led, of_reference};
use crate::divergence::Divergence;
use crate::error::EngineError;
use crate::exec::BoundLayer;
use crate::exec::batch::Batch;
use crate::exec::head::{LogitResults, Wanted};
use crate::exec::target::Target;
use crate::journal::OutputFolder;
use crate::results::{DivergenceRow, DivergenceSink, ResultsError, TensorRows};
use crate::stats::{RowStats, SiteStats};
use crate::token_scores::Scores;

/// Rows that one thread looks at together.
const STRIP: usize = 8;

/// The divergences of all records.
pub(super) struct Divergences {
    sink: DivergenceSink,
    /// Whether the distributions are of the tokens that follow.
    scores: bool,
    open: Open,
    all: Totals,
}

/// What there is so far of a record whose pieces come one by one.
#[derive(Default)]
struct Open {
    own: Scores,
    reference: Scores,
    divergences: Vec<f32>,
    best: Vec<u32>,
    reference_best: Vec<u32>,
    /// Of the same record, led.
    led: Vec<f32>,
}

/// What is added up of all records.
#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    divergences: SiteStats,
    led: SiteStats,
    positions: u64,
    agreed: u64,
    agreed_led: u64,
    scored: u64,
    /// Sums of log-probabilities: of the model, of the reference.
    logprobs: [f64; 2],
}

/// What is seen of blocks of logits.
struct Seen<'a> {
    reference: &'a TensorRows,
    /// Record and token of every row.
    places: Vec<(usize, usize)>,
    block: Mat,
    sums: Vec<Divergence>,
    states: Vec<LseState>,
    best: TopK,
    targets: Vec<f32>,
}

impl Divergences {
    /// Bytes that are held for each row while the head runs: sums, two best tokens, two targets, a place.
    pub const ROW_BYTES: u64 =
        (size_of::<Divergence>() + 2 * size_of::<LseState>() + 2 * 16 + 2 * 4 + 32) as u64;

    /// Starts, or goes on with what was saved; `None`: that is damaged.
    pub fn open(
        logits: &LogitsHead,
        folder: &OutputFolder,
        saved: Option<Vec<u8>>,
    ) -> Result<Option<Self>, ResultsError> {
        let scores = match logits.predicts {
            Predicts::Next => true,
            Predicts::Masked => false,
        };
        let all = match saved {
            None => Some(Totals::default()),
            Some(bytes) => Totals::from_bytes(&bytes),
        };
        let sink = DivergenceSink::open(folder, scores)?;
        Ok(all.map(|all| Self {
            sink,
            scores,
            open: Open::default(),
            all,
        }))
    }

    /// For a checkpoint.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.all.to_bytes()
    }

    /// Puts the head on the rows of a batch.
    pub fn look(
        &mut self,
        reference: &TensorRows,
        (layer, logits): (&BoundLayer<'_>, &LogitsHead),
        (batch, x): (&Batch, &Mat),
        tile_bytes: u64,
    ) -> Result<(), EngineError> {
        let targets = batch.targets();
        let mut seen = Seen::new(reference, batch);
        let wanted = Wanted {
            targets: Some(targets.clone()),
            top_k: Some(1),
            log_sum_exp: true,
        };
        let mut see = |row: usize, column: usize, block: MatRef<'_>| {
            Ok(seen.add(layer, &targets, (row, column), block)?)
        };
        let results = layer.logits(logits, x.view(), &wanted, tile_bytes, Some(&mut see))?;
        let Seen {
            sums,
            states,
            best: reference_best,
            targets,
            ..
        } = seen;
        let of_reference = LogitResults {
            target: targets,
            log_sum_exp: states.iter().map(LseState::log_sum_exp).collect(),
            top: None,
        };
        let Some(best) = &results.top else {
            return Ok(());
        };
        let first = |top: &TopK, row: usize| top.row(row).first().map_or(0, |&(_, id)| id);
        for (number, record) in (batch.first_record..).zip(&batch.records) {
            let runs = batch.path(record);
            let open = &mut self.open;
            for row in runs.iter().cloned().flatten() {
                let divergence = sums[row].value() as f32;
                let ids = [first(best, row), first(&reference_best, row)];
                let agrees = u64::from(ids[0] == ids[1]);
                if is_led(number) {
                    open.led.push(divergence);
                    self.all.agreed_led += agrees;
                    continue;
                }
                open.divergences.push(divergence);
                open.best.push(ids[0]);
                open.reference_best.push(ids[1]);
                self.all.agreed += agrees;
            }
            if is_led(number) {
                if record.ends() {
                    let led = std::mem::take(&mut open.led);
                    fold(&mut self.all.led, record.row, &led);
                }
                continue;
            }
            if self.scores {
                open.own.add(batch, record, &runs, &results);
                open.reference.add(batch, record, &runs, &of_reference);
            }
            if record.ends() {
                let open = std::mem::take(&mut self.open);
                self.all.add(record.row, &open);
                self.sink.push(&DivergenceRow {
                    record: record.name(),
                    unscored: open.own.tokens.len() - open.own.logprobs.len(),
                    kl: &open.divergences,
                    top_ids: &open.best,
                    reference_top_ids: &open.reference_best,
                    logprobs: &open.own.logprobs,
                    reference_logprobs: &open.reference.logprobs,
                })?;
            }
        }
        Ok(())
    }

    /// Writes the table.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<Diverged, ResultsError> {
        self.sink.finish(folder)?;
        let all = &self.all;
        let share = |agreed: u64| agreed as f64 / all.positions.max(1) as f64;
        let perplexity = |sum: f64| (all.scored > 0).then(|| (-sum / all.scored as f64).exp());
        Ok(Diverged {
            positions: all.positions,
            kl: statistics(&all.divergences),
            kl_of_head: statistics(&all.led),
            top1_agreement: share(all.agreed),
            top1_agreement_of_head: share(all.agreed_led),
            perplexity: perplexity(all.logprobs[0]),
            reference_perplexity: perplexity(all.logprobs[1]),
        })
    }
}

/// The statistics that say something of values that are never below zero.
fn statistics(stats: &SiteStats) -> BTreeMap<&'static str, f64> {
    const TOLD: [&str; 7] = [
        "mean", "variance", "max", "q0.5", "q0.95", "q0.99", "q0.999",
    ];
    let all = stats.finish().into_iter();
    all.filter(|(name, _)| TOLD.contains(name)).collect()
}

/// Takes the values of a record.
fn fold(stats: &mut SiteStats, row: u64, values: &[f32]) {
    if !values.is_empty() {
        stats.fold(row, &RowStats::of(values));
        stats.fold_histogram(values);
    }
}

impl Totals {
    fn add(&mut self, row: u64, open: &Open) {
        fold(&mut self.divergences, row, &open.divergences);
        self.positions += open.divergences.len() as u64;
        self.scored += open.own.logprobs.len() as u64;
        let all = [&open.own, &open.reference];
        for (sum, scores) in self.logprobs.iter_mut().zip(all) {
            let logprobs = scores.logprobs.iter();
            *sum += logprobs.map(|&logprob| f64::from(logprob)).sum::<f64>();
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let [own, reference] = self.logprobs.map(f64::to_bits);
        let numbers = [
            self.positions,
            self.agreed,
            self.agreed_led,
            self.scored,
            own,
            reference,
        ];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        for stats in [&self.divergences, &self.led] {
            let stats = stats.to_bytes();
            bytes.extend((stats.len() as u64).to_le_bytes());
            bytes.extend(stats);
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let numbers = [(); 6].map(|()| number(&mut bytes));
        let [positions, agreed, agreed_led, scored, own, reference] = numbers;
        let mut stats = || {
            let length = usize::try_from(number(&mut bytes)?).ok()?;
            let (stats, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            SiteStats::from_bytes(stats)
        };
        let all = Self {
            divergences: stats()?,
            led: stats()?,
            positions: positions?,
            agreed: agreed?,
            agreed_led: agreed_led?,
            scored: scored?,
            logprobs: [own?, reference?].map(f64::from_bits),
        };
        bytes.is_empty().then_some(all)
    }
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (raw, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*raw))
}

impl<'a> Seen<'a> {
    fn new(reference: &'a TensorRows, batch: &Batch) -> Self {
        let rows = batch.rows();
        let mut places = vec![(0, 0); rows];
        for stretch in stretches(batch, usize::MAX) {
            let record = of_reference(stretch.number);
            for (row, token) in stretch.rows.zip(stretch.token..) {
                places[row] = (record, token);
            }
        }
        Self {
            reference,
            places,
            block: Mat::default(),
            sums: vec![Divergence::default(); rows],
            states: vec![LseState::default(); rows],
            best: TopK::new(rows, 1),
            targets: vec![0.0; rows + 1],
        }
    }

    /// Columns from `column` on of the rows from `start` on.
    fn add(
        &mut self,
        layer: &BoundLayer<'_>,
        targets: &[Target],
        (start, column): (usize, usize),
        own: MatRef<'_>,
    ) -> Result<(), ResultsError> {
        let rows = start..start + own.rows();
        let columns = column..column + own.cols();
        self.block.reset(own.rows(), own.cols());
        for (row, &(record, token)) in self.places[rows.clone()].iter().enumerate() {
            let into = self.block.row_mut(row);
            self.reference
                .read_columns(record, token, columns.clone(), into)?;
        }
        let (kernels, block) = (layer.kernels, self.block.view());
        kernels.update_lse(block, &mut self.states[rows.clone()]);
        kernels.top_k(block, start, column, &mut self.best);
        let before = |row: usize| targets.partition_point(|target| (target.row as usize) < row);
        for target in &targets[before(rows.start)..before(rows.end)] {
            let token = target.token as usize;
            if columns.contains(&token) {
                let row = block.row(target.row as usize - start);
                self.targets[target.place as usize] = row[token - column];
            }
        }
        let sums = self.sums[rows].chunks_mut(STRIP).map(Mutex::new);
        let strips: Vec<Mutex<&mut [Divergence]>> = sums.collect();
        kernels.parallel_rows(strips.len(), 1, |range| {
            for (index, strip) in range.clone().zip(&strips[range]) {
                let mut strip = strip.lock().unwrap_or_else(PoisonError::into_inner);
                for (row, sum) in (index * STRIP..).zip(strip.iter_mut()) {
                    sum.add(block.row(row), own.row(row));
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_go_on_from_a_checkpoint_with_the_same_bits() {
        let mut all = Totals {
            agreed: 3,
            ..Totals::default()
        };
        let open = Open {
            divergences: vec![0.5, 0.25, 0.0],
            own: Scores {
                tokens: vec![1, 2, 3],
                logprobs: vec![-1.5, -0.25],
            },
            ..Open::default()
        };
        all.add(4, &open);
        let bytes = all.to_bytes();
        assert_eq!(Totals::from_bytes(&bytes), Some(all));
        for length in 0..bytes.len() {
            assert_eq!(Totals::from_bytes(&bytes[..length]), None, "{length}");
        }
    }
}

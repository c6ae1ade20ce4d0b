//! What a run reads from the checkpoint: every read that the sweep will do, counted as the reader does it.

use std::collections::BTreeSet;
use std::ops::Range;

use sli_checkpoint::BoundLeaf;
use sli_spec::{InputRow, Leaf, NgramTable, PositionTable, Resampling, Step};

use super::division::Division;
use super::ends::{end_keys, logits_leaf};
use super::phases::{Grain, Phase, is_expert};
use super::planner::Planner;
use super::work::{choice, head_work, needs_logits};
use crate::error::EngineError;
use crate::exec::head::{LENGTH_ROWS, vocabulary_tiles};
use crate::exec::linear::{tile_rows, tiles};
use crate::model::Model;
use crate::portion::Portion;
use crate::records::RecordSpool;
use crate::settings::Settings;
use crate::weights::load::{self, STAGING_BYTES};
use crate::weights::{LeafKey, Section};

/// Tokens whose rows of the tables are looked up one by one; what further ones need is extrapolated.
const LOOKED_UP: u64 = 1 << 24;

/// Bytes of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bytes {
    /// With experts chosen evenly, independently of one another.
    pub expected: f64,
    /// With every expert chosen by somebody.
    pub most: f64,
    /// Of those expected, experts.
    pub experts: f64,
    /// Of those expected, what else is read while it is used: tiles of matrices, the projection to logits.
    pub tiles: f64,
}

impl Bytes {
    fn add(&mut self, bytes: u64, times: usize) {
        let bytes = bytes as f64 * times as f64;
        self.expected += bytes;
        self.most += bytes;
    }

    fn add_tiles(&mut self, bytes: u64, times: usize) {
        self.add(bytes, times);
        self.tiles += bytes as f64 * times as f64;
    }
}

/// How the work is divided.
#[derive(Clone, Copy)]
pub(crate) struct Ways<'a> {
    pub division: Division<'a>,
    pub grain: Grain,
    pub phases: &'a [Phase],
    /// Rows of one pass over the weights.
    pub pass: usize,
    /// Rows in memory together.
    pub rows: usize,
    pub tile: u64,
    /// The projection to logits stays in memory.
    pub keeps_head: bool,
}

impl Planner<'_> {
    /// Bytes that a run reads which divides the work in these ways.
    pub(super) fn reads(&self, ways: Ways<'_>) -> Result<Bytes, EngineError> {
        let passes = ways.division.ranges(0..self.records.len(), ways.pass);
        let parts: Vec<Portion> = passes
            .iter()
            .flat_map(|pass| ways.division.portions(pass.clone(), ways.rows))
            .collect();
        let mut bytes = Bytes::default();
        let times = match ways.grain {
            Grain::Model => 1,
            Grain::Layer | Grain::Step | Grain::Tile => passes.len(),
        };
        for phase in ways.phases {
            bytes.add(self.scheduled_reads(&phase.scheduled), times);
            self.passing_reads(phase, ways, &parts, &mut bytes);
        }
        for stack in 0..self.model.spec.stacks.len() {
            for part in [Section::Embedding, Section::Head] {
                let keys = end_keys(self.model, stack, part);
                bytes.add(self.scheduled_reads(&keys), times);
            }
        }
        bytes.add_tiles(
            self.head_reads(ways.tile),
            if ways.keeps_head {
                1
            } else {
                parts.len() * head_work(&self.model.spec, &self.settings.takes)[0]
            },
        );
        let tables = self.table_reads(&parts)?;
        bytes.expected += tables;
        bytes.most += tables;
        Ok(bytes)
    }

    /// Leaves that the store reads.
    fn scheduled_reads(&self, keys: &[LeafKey]) -> u64 {
        let leaves = keys.iter().map(|key| key.bound(self.model));
        leaves.map(|leaf| read_in_steps(leaf, 0..leaf.rows())).sum()
    }

    /// What passes by while a phase runs: experts that were chosen, and all matrices where the grain
    /// is a tile.
    fn passing_reads(&self, phase: &Phase, ways: Ways<'_>, parts: &[Portion], bytes: &mut Bytes) {
        let layer = &self.model.spec.stacks[phase.stack].layers[phase.layer];
        let compute = self.settings.compute;
        for step in &layer.steps[phase.steps.clone()] {
            let mut seen = BTreeSet::new();
            let weights = step.weights().into_iter();
            for weight in weights.filter(|weight| seen.insert(weight.0)) {
                let leaf: &Leaf = &layer.leaves[weight.0 as usize];
                let is_scheduled = phase.scheduled.iter().any(|key| key.leaf == weight);
                if is_scheduled {
                    continue;
                }
                let key = LeafKey {
                    stack: phase.stack,
                    part: Section::Layer(phase.layer),
                    leaf: weight,
                };
                let bound = key.bound(self.model);
                if is_expert(leaf) {
                    let all = bound.total_bytes() as f64;
                    let shares = parts
                        .iter()
                        .map(|part| share_hit(step, ways.division.rows_of(part)));
                    let expected = all * shares.sum::<f64>();
                    bytes.expected += expected;
                    bytes.experts += expected;
                    bytes.most += all * parts.len() as f64;
                    continue;
                }
                let rows = bound.rows();
                let packed = load::packed_bytes(bound, rows, compute);
                let tiles = tiles(rows, tile_rows(packed, rows, ways.tile));
                let read = tiles.into_iter().map(|rows| read_in_steps(bound, rows));
                bytes.add_tiles(read.sum(), parts.len());
            }
        }
    }

    /// The projection to logits, once.
    fn head_reads(&self, tile: u64) -> u64 {
        let Some(leaf) = head_leaf(self.model, self.settings) else {
            return 0;
        };
        let tiles = vocabulary_tiles(leaf, self.settings.compute, tile);
        let reads = tiles.into_iter().map(|rows| read_in_steps(leaf, rows));
        reads.sum()
    }

    /// Rows of tables, for all parts.
    fn table_reads(&self, parts: &[Portion]) -> Result<f64, EngineError> {
        let mut bytes = 0.0;
        for (stack, description) in self.model.spec.stacks.iter().enumerate() {
            let leaf = |weight| {
                let part = Section::Embedding;
                let key = LeafKey {
                    stack,
                    part,
                    leaf: weight,
                };
                key.bound(self.model)
            };
            let records = self.records.of(description.sequence);
            let embedding = description.input.embedding();
            if let Some(embedding) = embedding {
                let tokens = embedding.tokens.map(|tokens| (leaf(tokens), usize::MAX));
                let mut by_token: Vec<_> = tokens.into_iter().collect();
                if let Some(inputs) = &embedding.layer_inputs {
                    by_token.extend(inputs.table.map(|table| (leaf(table), inputs.rows)));
                }
                let lead = description.prompt.len();
                bytes += Self::reads_by_token((records, lead), &by_token, parts)?;
                if let Some(ngrams) = &embedding.ngrams {
                    // A row of each table for every token, as good as never the same.
                    let rows =
                        |table: &NgramTable| leaf(table.weight).row_bytes() * table.tables.len();
                    let of_token = ngrams.layers.iter().map(rows).sum::<usize>();
                    bytes += records.token_start(records.len()) as f64 * of_token as f64;
                }
            }
            if let Some(types) = embedding.and_then(|embedding| embedding.token_types.as_ref()) {
                let leaf = leaf(types.weight);
                let kinds = if records.has_token_types() {
                    leaf.rows()
                } else {
                    1
                };
                bytes += (kinds * leaf.row_bytes() * parts.len()) as f64;
            }
            if let Some(looked_up) = embedding.and_then(|embedding| embedding.looked_up.as_ref()) {
                for table in &looked_up.tables {
                    let leaf = leaf(table.weight);
                    let is_hashed = matches!(table.row, InputRow::Hashed { .. });
                    let rows = if records.has_inputs() || is_hashed {
                        leaf.rows()
                    } else {
                        1
                    };
                    bytes += (rows * leaf.row_bytes() * parts.len()) as f64;
                }
            }
            for constant in embedding
                .iter()
                .flat_map(|embedding| &embedding.constant_rows)
            {
                bytes += (leaf(constant.weight).row_bytes() * parts.len()) as f64;
            }
            if let Some(Resampling::Table {
                weight,
                rows,
                asked,
            }) = description.input.resampled().map(|input| &input.rule)
            {
                for part in parts {
                    let lengths = part.records.clone().map(|record| records.tokens_of(record));
                    let longest = lengths.clone().max().unwrap_or(0).min(*rows);
                    bytes += (longest * leaf(*weight).row_bytes()) as f64;
                    // A row of either table for every token of what is asked, at most.
                    let rows: usize = lengths.sum();
                    let of_asked = asked
                        .iter()
                        .flat_map(|asked| [asked.tokens, asked.positions]);
                    let of_asked = of_asked.map(|table| rows * leaf(table).row_bytes());
                    bytes += of_asked.sum::<usize>() as f64;
                }
            }
            if let Some(PositionTable::Learned { weight, rows, .. }) = description.input.positions()
            {
                let leaf = leaf(*weight);
                for part in parts {
                    let range = part.records.clone();
                    let lengths = range.map(|record| records.tokens_of(record));
                    let longest = match &part.piece {
                        Some(piece) => piece.len(),
                        None => lengths.max().unwrap_or(0).min(*rows),
                    };
                    bytes += (longest * leaf.row_bytes()) as f64;
                }
            }
        }
        let head = &self.model.spec.output_stack().head;
        if let (Some(leaf), Some(logits)) = (head_leaf(self.model, self.settings), &head.logits)
            && logits.normalized_rows
        {
            let blocks = (0..leaf.rows()).step_by(LENGTH_ROWS);
            let blocks = blocks.map(|start| start..(start + LENGTH_ROWS).min(leaf.rows()));
            let all: u64 = blocks.map(|rows| leaf.stored_bytes(rows)).sum();
            bytes += all as f64 * parts.len() as f64;
        }
        Ok(bytes)
    }

    /// Rows of tables that are looked up by token id; of ids from a bound on, the first.
    fn reads_by_token(
        (records, lead): (&RecordSpool, usize),
        tables: &[(&BoundLeaf, usize)],
        parts: &[Portion],
    ) -> Result<f64, EngineError> {
        let (mut bytes, mut looked_up) = (0, 0);
        let mut occurs = vec![
            false;
            tables
                .iter()
                .map(|(table, _)| table.rows())
                .max()
                .unwrap_or(0)
        ];
        for (index, part) in parts.iter().enumerate() {
            if looked_up > LOOKED_UP {
                return Ok(bytes as f64 * parts.len() as f64 / index as f64);
            }
            occurs.fill(false);
            let range = part.records.clone();
            let piece = part.piece.clone().unwrap_or(0..usize::MAX);
            let mut row = lead;
            records.for_each_token(range.clone(), |token| {
                if let (Some(occurs), true) = (occurs.get_mut(token as usize), piece.contains(&row))
                {
                    *occurs = true;
                }
                row += 1;
            })?;
            let token_start = |record| records.token_start(record);
            looked_up += token_start(range.end) - token_start(range.start);
            for (table, bound) in tables {
                let beyond = occurs.iter().skip(*bound).any(|&occurs| occurs);
                let within = occurs.iter().take(*bound).enumerate();
                let rows: Vec<usize> = within
                    .filter(|&(id, &occurs)| occurs || (id == 0 && beyond))
                    .map(|(id, _)| id)
                    .collect();
                let block = (STAGING_BYTES / table.row_bytes().max(1)).max(1);
                for block in rows.chunks(block) {
                    bytes += table.gathered_bytes(0, block)?;
                }
            }
        }
        Ok(bytes as f64)
    }
}

/// Bytes that reading some rows of a leaf takes, a step at a time.
fn read_in_steps(leaf: &BoundLeaf, rows: Range<usize>) -> u64 {
    if leaf.shape().len() < 2 {
        return leaf.total_bytes();
    }
    let step = load::step_rows(leaf, 1);
    rows.clone()
        .step_by(step)
        .map(|start| leaf.stored_bytes(start..(start + step).min(rows.end)))
        .sum()
}

/// The share of a step's experts that somebody chooses of `tokens` which choose evenly.
pub(super) fn share_hit(step: &Step, tokens: usize) -> f64 {
    let Some((experts, chosen)) = choice(step).filter(|(experts, _)| *experts > 0) else {
        return 1.0;
    };
    let missed = 1.0 - (chosen as f64 / experts as f64).min(1.0);
    1.0 - missed.powf(tokens as f64)
}

/// The projection to logits, where results need it.
pub(crate) fn head_leaf<'m>(model: &'m Model, settings: &Settings) -> Option<&'m BoundLeaf> {
    logits_leaf(model).filter(|_| needs_logits(&settings.takes))
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn what_is_certain_counts_for_both() {
        let mut bytes = Bytes::default();
        bytes.add(10, 3);
        bytes.add_tiles(1, 4);
        let (expected, most) = (34.0, 34.0);
        let (experts, tiles) = (0.0, 4.0);
        let all = Bytes {
            expected,
            most,
            experts,
            tiles,
        };
        assert_eq!(bytes, all);
    }
}

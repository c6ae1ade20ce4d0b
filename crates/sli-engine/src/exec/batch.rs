//! A super-batch: records packed end to end, and what follows from their tokens alone.

use std::ops::Range;

use sli_kernels::{Mat, Segment};
use sli_spec::rope::{PositionAxis, Rope, RopeFrequencies};
use sli_spec::{Blocks, KeySelection, Mixer, ModelSpec, Position, PositionIds};

use crate::error::EngineError;
use crate::records::Record;

/// Records of a super-batch, packed: `[tokens]` of everything.
pub(crate) struct Batch {
    /// Number of the first record among all.
    pub first_record: usize,
    pub records: Vec<BatchRecord>,
    pub tokens: Vec<u32>,
    pub token_types: Option<Vec<u32>>,
    /// Position within the record.
    pub positions: Vec<u32>,
    /// Position ids for learned tables.
    pub position_ids: Vec<u32>,
    ropes: Vec<RopeTable>,
}

/// One record of a batch.
pub(crate) struct BatchRecord {
    pub id: String,
    /// Its rows.
    pub rows: Range<usize>,
    /// How it divides, for models that place their tokens by it.
    pub blocks: Option<Blocks>,
}

struct RopeTable {
    rope: Rope,
    cos: Mat,
    sin: Mat,
}

impl Batch {
    /// Packs records and computes the rotations of all their positions.
    pub fn new(
        spec: &ModelSpec,
        first_record: usize,
        records: Vec<Record>,
    ) -> Result<Self, EngineError> {
        let total = records.iter().map(|record| record.tokens.len()).sum();
        let typed = records.iter().any(|record| record.token_types.is_some());
        let mut batch = Self {
            first_record,
            records: Vec::with_capacity(records.len()),
            tokens: Vec::with_capacity(total),
            token_types: typed.then(|| Vec::with_capacity(total)),
            positions: Vec::with_capacity(total),
            position_ids: Vec::with_capacity(total),
            ropes: Vec::new(),
        };
        for record in records {
            let start = batch.tokens.len();
            let length = record.tokens.len();
            batch.positions.extend(0..length as u32);
            batch
                .position_ids
                .extend(position_ids(spec.positions, &record.tokens));
            if let Some(types) = &mut batch.token_types {
                match &record.token_types {
                    Some(given) => types.extend(given),
                    None => types.resize(start + length, 0),
                }
            }
            let blocks = spec.positions.blocks(&record.tokens).map_err(|problem| {
                EngineError::Request(format!("record `{}`: {problem}", record.id))
            })?;
            batch.tokens.extend(&record.tokens);
            batch.records.push(BatchRecord {
                id: record.id,
                rows: start..start + length,
                blocks,
            });
        }
        batch.ropes = distinct_ropes(spec)
            .into_iter()
            .map(|rope| {
                let (cos, sin) = rotation(&rope, &batch.records);
                RopeTable { rope, cos, sin }
            })
            .collect();
        Ok(batch)
    }

    /// Number of tokens.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Cosines and sines `[tokens, dims / 2]` of a rotation of this model.
    pub fn rotation(&self, rope: &Rope) -> Option<(&Mat, &Mat)> {
        let table = self.ropes.iter().find(|table| &table.rope == rope)?;
        Some((&table.cos, &table.sin))
    }

    /// Splits the records into runs of at most `limit` tokens each (or one longer record).
    pub fn chunks(&self, limit: usize) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            match chunks.last_mut() {
                Some(chunk) if record.rows.end - chunk.rows.start <= limit => {
                    chunk.rows.end = record.rows.end;
                    chunk.records.end = index + 1;
                }
                _ => chunks.push(Chunk {
                    rows: record.rows.clone(),
                    records: index..index + 1,
                }),
            }
        }
        chunks.retain(|chunk| !chunk.rows.is_empty());
        chunks
    }

    /// The attention segments of a chunk, in rows of the chunk.
    pub fn segments(&self, chunk: &Chunk) -> Vec<Segment> {
        self.records[chunk.records.clone()]
            .iter()
            .filter(|record| !record.rows.is_empty())
            .map(|record| {
                let rows = record.rows.start - chunk.rows.start..record.rows.end - chunk.rows.start;
                Segment {
                    q: rows.clone(),
                    k: rows,
                    q_start: 0,
                    prefix: record.blocks.map_or(0, |blocks| blocks.context),
                }
            })
            .collect()
    }
}

/// Whole records that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Records of the batch.
    pub records: Range<usize>,
}

/// Position ids of a record for a learned table.
fn position_ids(rule: PositionIds, tokens: &[u32]) -> Vec<u32> {
    match rule {
        PositionIds::Sequential | PositionIds::Blocks { .. } => (0..tokens.len() as u32).collect(),
        PositionIds::AfterPadding { padding } => {
            let mut seen = 0;
            tokens
                .iter()
                .map(|&token| {
                    if token == padding {
                        padding
                    } else {
                        seen += 1;
                        padding + seen
                    }
                })
                .collect()
        }
    }
}

/// Every different rotation of a model.
pub(crate) fn distinct_ropes(spec: &ModelSpec) -> Vec<Rope> {
    let mut ropes: Vec<Rope> = Vec::new();
    let mut add = |rope: &Rope| {
        if !ropes.contains(rope) {
            ropes.push(rope.clone());
        }
    };
    for stack in &spec.stacks {
        for layer in &stack.layers {
            for branch in layer.steps.iter().flat_map(|step| &step.branches) {
                match &branch.mixer {
                    Mixer::Attention(attention) => {
                        for position in &attention.positions {
                            if let Position::Rope(rope) = position {
                                add(rope);
                            }
                        }
                    }
                    Mixer::LatentAttention(attention) => {
                        if let Some(rope) = &attention.rope {
                            add(rope);
                        }
                        if let Some(KeySelection::Indexer(indexer)) = &attention.selection
                            && let Some(rope) = &indexer.rope
                        {
                            add(rope);
                        }
                    }
                    Mixer::MixtureOfAttention(attention) => {
                        if let Some(rope) = &attention.rope {
                            add(rope);
                        }
                    }
                    Mixer::FeedForward(_)
                    | Mixer::MixtureOfExperts(_)
                    | Mixer::SparseFeedForward(_)
                    | Mixer::LowRank(_)
                    | Mixer::LayerInput(_)
                    | Mixer::Streams(_)
                    | Mixer::Linear(_)
                    | Mixer::Identity => {}
                }
            }
        }
    }
    ropes
}

/// Cosines and sines of every row. Angles are products in f32, as the reference computes them;
/// records of one length class share the angles of a position.
fn rotation(rope: &Rope, records: &[BatchRecord]) -> (Mat, Mat) {
    let rows = records.last().map_or(0, |record| record.rows.end);
    let half = rope.dims / 2;
    let (mut cos, mut sin) = (Mat::new(rows, half), Mat::new(rows, half));
    // First row of every position that some record of the class already has.
    let mut known: Vec<(usize, Vec<usize>)> = Vec::new();
    for record in records {
        let length = record.rows.len();
        let class = rope.length_class(length);
        let slot = known
            .iter()
            .position(|(other, _)| *other == class)
            .unwrap_or_else(|| {
                known.push((class, Vec::new()));
                known.len() - 1
            });
        let frequencies = rope.frequencies(length);
        for (position, row) in record.rows.clone().enumerate() {
            if let Some(blocks) = record.blocks {
                let position = axis_position(rope.axis, blocks, position);
                turn(&frequencies, position, cos.row_mut(row), sin.row_mut(row));
                continue;
            }
            if let Some(&source) = known[slot].1.get(position) {
                cos.as_mut_slice()
                    .copy_within(source * half..(source + 1) * half, row * half);
                sin.as_mut_slice()
                    .copy_within(source * half..(source + 1) * half, row * half);
                continue;
            }
            known[slot].1.push(row);
            turn(&frequencies, position, cos.row_mut(row), sin.row_mut(row));
        }
    }
    (cos, sin)
}

/// Cosines and sines of one position.
fn turn(frequencies: &RopeFrequencies, position: usize, cos: &mut [f32], sin: &mut [f32]) {
    for ((&inverse, cos), sin) in frequencies.inverse.iter().zip(cos).zip(sin) {
        let angle = f64::from(inverse * position as f32);
        *cos = angle.cos() as f32 * frequencies.attention_factor;
        *sin = angle.sin() as f32 * frequencies.attention_factor;
    }
}

/// What a rotation turns the token at `position` by.
fn axis_position(axis: PositionAxis, blocks: Blocks, position: usize) -> usize {
    match axis {
        PositionAxis::Token => position,
        PositionAxis::Context if position < blocks.context => position,
        PositionAxis::Context => blocks.mask,
        PositionAxis::Block => (position + 1).saturating_sub(blocks.context),
    }
}

#[cfg(test)]
mod tests {
    use super::position_ids;
    use sli_spec::PositionIds;

    #[test]
    fn padding_tokens_do_not_count() {
        let rule = PositionIds::AfterPadding { padding: 1 };
        assert_eq!(position_ids(rule, &[5, 1, 6, 7]), [2, 1, 3, 4]);
        assert_eq!(position_ids(PositionIds::Sequential, &[5, 1]), [0, 1]);
    }
}

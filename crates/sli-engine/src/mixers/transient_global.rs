//! Attention to a window and to sums of blocks (LongT5).

use std::ops::Range;

use sli_kernels::{AttentionMask, BiasFn, BiasSite, Mat, MatRef};
use sli_spec::{KeyValue, TransientGlobal};

use super::buffers::{Buffer, Buffers};
use super::mask::mask;
use super::records::records_of;
use super::two_parts::{Part, attend, segments};
use super::{At, Mix, attention, two_parts};
use crate::error::EngineError;
use crate::exec::{Enters, Scratch};

impl Mix for TransientGlobal {
    fn buffers(&self, hidden: usize) -> Buffers {
        let Self { attention, .. } = self;
        let [keys, values] = [attention.head_dim, attention.value_dim]
            .map(|dim| self.columns_of_sums(attention.kv_heads * dim));
        attention
            .buffers(hidden)
            .rows(Buffer::Gate, two_parts::columns(attention))
            .rows(Buffer::Heads, self.columns_of_sums(hidden))
            .rows(Buffer::Up, keys)
            .rows(Buffer::Inner, values)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, rows, own) = (at.layer, at.rows, &self.attention);
        let records = records_of(rows).into_iter();
        let records: Vec<Record> = records
            .map(|record| Record::new(record, self.block))
            .collect();
        sum(self, at, &records, x)?;
        attention::project(layer, own, rows, x, (&at.kept.ends, &mut *at.scratch))?;

        let table = &*layer.vector(self.buckets.table)?;
        let of_sums = |site: &BiasSite, logits: &mut [f32]| {
            let block = records[site.segment].blocks[site.query];
            for (sum, logit) in site.keys.clone().zip(logits) {
                let bucket = self.buckets.bucket(sum as i64 - block);
                *logit += table[bucket * own.heads + site.head];
            }
        };
        let distances = attention::buckets(layer, own, rows)?;
        let around = |site: &BiasSite, logits: &mut [f32]| {
            if let Some(addends) = &distances {
                addends.add(site, logits);
            }
        };
        let Scratch {
            query,
            key,
            value,
            heads,
            gate: sums,
            up: sum_keys,
            inner: sum_values,
            ..
        } = &mut *at.scratch;
        heads.reset(x.rows(), own.heads * own.value_dim);
        let sums_of = records.iter();
        let (to_sums, to_rows) = segments(sums_of.map(|record| (record.rows.clone(), record.sums)));
        let parts = [
            Part {
                keys: sum_keys.view(),
                values: sum_values.view(),
                segments: &to_sums,
                mask: AttentionMask::Full,
                bias: Some(&of_sums as &BiasFn<'_>),
            },
            Part {
                keys: key.view(),
                values: value.view(),
                segments: &to_rows,
                mask: mask(own.mask),
                bias: Some(&around as &BiasFn<'_>),
            },
        ];
        attend(layer, own, query.view(), parts, (sums, heads.view_mut()));
        output.reset(x.rows(), own.output.out_features);
        layer.linear(heads.view(), &own.output, output.view_mut())
    }
}

/// A record's rows, and the blocks that they are in.
struct Record {
    rows: Range<usize>,
    /// Of every row; -1 where the record is shorter than a block.
    blocks: Vec<i64>,
    /// How many there are.
    sums: usize,
}

impl Record {
    /// In the reference's arithmetic: a running sum of shares in f32, of which the whole numbers count. With blocks that are no
    /// powers of two a row may so be in the block before its own.
    fn new(rows: Range<usize>, block: usize) -> Self {
        let share = 1.0 / block as f32;
        let mut sum = 0.0;
        let place = |_| {
            sum += f64::from(share);
            let before = sum as f32 - share;
            (((1.0 + before) - 1.0).floor() as i64).max(-1)
        };
        let mut blocks: Vec<i64> = rows.clone().map(place).collect();
        let whole = blocks.iter().skip(block - 1).step_by(block);
        let last = whole.filter(|&&place| place >= 0).count() as i64 - 1;
        for place in &mut blocks {
            *place = last.min(*place);
        }
        let seen = blocks.iter().max().map_or(0, |&last| last + 1);
        Self {
            sums: seen as usize,
            blocks,
            rows,
        }
    }
}

/// Keys and values of the sums of all blocks: `scratch.up` and `scratch.inner`.
fn sum(
    mixer: &TransientGlobal,
    at: &mut At<'_>,
    records: &[Record],
    x: MatRef<'_>,
) -> Result<(), EngineError> {
    let Scratch {
        heads: inputs,
        up: keys,
        inner: values,
        ..
    } = &mut *at.scratch;
    let count = records.iter().map(|record| record.sums).sum();
    inputs.reset(count, x.cols());
    inputs.as_mut_slice().fill(0.0);
    let mut first = 0;
    for record in records {
        for (row, &block) in record.rows.clone().zip(&record.blocks) {
            // A row of no block enters none.
            let Ok(block) = usize::try_from(block) else {
                continue;
            };
            let sum = inputs.row_mut(first + block).iter_mut();
            sum.zip(x.row(row)).for_each(|(sum, value)| *sum += value);
        }
        first += record.sums;
    }
    at.layer.norm_in_place(&mixer.norm, inputs.view_mut())?;
    let KeyValue::Own { key, value } = &mixer.attention.key_value else {
        return Ok(());
    };
    for (linear, out) in [(Some(key), keys), (value.as_ref(), values)] {
        let linear = linear.unwrap_or(key);
        out.reset(count, linear.out_features);
        let layer = at.layer.of(Enters::Others);
        layer.linear(inputs.view(), linear, out.view_mut())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn what_is_left_over_is_in_the_last_block() {
        let of = |length, block| Record::new(0..length, block).blocks;
        assert_eq!(of(3, 4), [-1, -1, -1]);
        assert_eq!(of(4, 4), [0; 4]);
        assert_eq!(of(11, 4), [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(Record::new(5..16, 4).sums, 2);
        assert_eq!(Record::new(5..8, 4).sums, 0);
    }
}

//! Attention to a window, and to and from tokens that are marked (Longformer, LED).

use std::ops::Range;

use sli_kernels::{AttentionMask, BiasFn, BiasSite, Mat, MatRef, Segment};
use sli_spec::GlobalTokens;

use super::buffers::{Buffer, Buffers};
use super::mask::mask;
use super::records::records_of;
use super::two_parts::{Part, args, attend, segments};
use super::{At, Mix, attention, two_parts};
use crate::error::EngineError;
use crate::exec::{Enters, Rows, Scratch};

impl Mix for GlobalTokens {
    fn buffers(&self, hidden: usize) -> Buffers {
        let columns = self.attention.heads * self.attention.head_dim;
        self.attention
            .buffers(hidden)
            .rows(Buffer::Gate, two_parts::columns(&self.attention))
            .rows(Buffer::Up, columns.max(hidden))
            .rows(Buffer::Inner, columns)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, own) = (at.layer, &self.attention);
        let records = records(at.rows);
        attention::project(layer, own, at.rows, x, (&at.kept.ends, &mut *at.scratch))?;
        let Scratch {
            query,
            key,
            value,
            heads,
            gate: sums,
            up: global_keys,
            inner: global_values,
            ..
        } = &mut *at.scratch;
        heads.reset(x.rows(), own.heads * own.value_dim);
        for (from, to) in [(&*key, &mut *global_keys), (&*value, &mut *global_values)] {
            gather(&records, from.view(), to);
        }
        let hides = |site: &BiasSite, logits: &mut [f32]| {
            let global = &records[site.segment].is_global;
            for (key, logit) in site.keys.clone().zip(logits) {
                if global[key] {
                    *logit = f32::NEG_INFINITY;
                }
            }
        };
        let globals = records.iter();
        let (to_global, around) =
            segments(globals.map(|record| (record.rows.clone(), record.globals())));
        let parts = [
            Part {
                keys: global_keys.view(),
                values: global_values.view(),
                segments: &to_global,
                mask: AttentionMask::Full,
                bias: None,
            },
            Part {
                keys: key.view(),
                values: value.view(),
                segments: &around,
                mask: mask(own.mask),
                bias: Some(&hides as &BiasFn<'_>),
            },
        ];
        attend(layer, own, query.view(), parts, (sums, heads.view_mut()));
        if records.iter().any(|record| record.globals() > 0) {
            see_all(self, at, &records, x)?;
        }
        let heads = at.scratch.heads.view();
        output.reset(x.rows(), own.output.out_features);
        layer.linear(heads, &own.output, output.view_mut())
    }
}

/// Puts what global rows see into their heads.
fn see_all(
    mixer: &GlobalTokens,
    at: &mut At<'_>,
    records: &[Record],
    x: MatRef<'_>,
) -> Result<(), EngineError> {
    let (layer, own) = (at.layer.of(Enters::Tables), &mixer.attention);
    let [of_queries, of_keys, of_values] = &mixer.projections;
    let Scratch {
        query,
        key,
        value,
        heads,
        up: global,
        inner: seen,
        ..
    } = &mut *at.scratch;
    gather(records, x, global);
    query.reset(global.rows(), of_queries.out_features);
    layer.linear(global.view(), of_queries, query.view_mut())?;
    for (linear, out) in [(of_keys, &mut *key), (of_values, &mut *value)] {
        out.reset(x.rows(), linear.out_features);
        layer.linear(x, linear, out.view_mut())?;
    }
    let mut first = 0;
    let segments = records.iter().map(|record| {
        let q = first..first + record.globals();
        first = q.end;
        Segment {
            q,
            ..Segment::whole(record.rows.clone())
        }
    });
    let segments: Vec<Segment> = segments.collect();
    let all = Part {
        keys: key.view(),
        values: value.view(),
        segments: &segments,
        mask: AttentionMask::Full,
        bias: None,
    };
    seen.reset(query.rows(), heads.cols());
    let args = args(own, query.view(), &all);
    layer.kernels.attention(&args, seen.view_mut());
    let rows = records.iter().flat_map(Record::global_rows);
    for (index, row) in rows.enumerate() {
        heads.row_mut(row).copy_from_slice(seen.row(index));
    }
    Ok(())
}

/// A record's rows, and which of them are global.
struct Record {
    rows: Range<usize>,
    is_global: Vec<bool>,
}

impl Record {
    fn global_rows(&self) -> impl Iterator<Item = usize> {
        let rows = self.rows.clone().zip(&self.is_global);
        rows.filter_map(|(row, &is_global)| is_global.then_some(row))
    }

    fn globals(&self) -> usize {
        self.global_rows().count()
    }
}

/// The records of a chunk, in its rows.
fn records(rows: Rows<'_>) -> Vec<Record> {
    let first = rows.chunk.rows.start;
    let is_global = |row: usize| rows.batch.inputs.of(first + row).first() == Some(&1);
    let record = |own: Range<usize>| Record {
        is_global: own.clone().map(is_global).collect(),
        rows: own,
    };
    records_of(rows).into_iter().map(record).collect()
}

/// The global rows of all records, one after the other.
fn gather(records: &[Record], from: MatRef<'_>, to: &mut Mat) {
    let rows: Vec<usize> = records.iter().flat_map(Record::global_rows).collect();
    to.reset(rows.len(), from.cols());
    for (index, row) in rows.into_iter().enumerate() {
        to.row_mut(index).copy_from_slice(from.row(row));
    }
}

//! Attention by the expectation of equal hashes (YOSO), as products of matrices, a block of queries of a head at a time.

use sli_kernels::{Mat, MatRef, PackedKind, PackedWeights, Store};
use sli_spec::BernoulliAttention;

use super::beside::value_convolution;
use super::buffers::{Buffer, Buffers};
use super::records::records_of;
use super::{At, Mix};
use crate::error::EngineError;

/// Queries whose weights are computed at a time.
const BLOCK: usize = 256;

/// What a vector counts as long as, at least.
const SHORTEST: f64 = 1e-12;

impl Mix for BernoulliAttention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let wide = self.heads * self.head_dim;
        // Weights of a block of queries, and keys and values of a head, packed: of a record's rows.
        Buffers::default()
            .rows(Buffer::Query, wide)
            .rows(Buffer::Key, wide)
            .rows(Buffer::Value, wide)
            .rows(Buffer::Heads, wide)
            .rows(Buffer::Inner, BLOCK + 4 * self.head_dim)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, scratch) = (at.layer, &mut *at.scratch);
        let wide = self.heads * self.head_dim;
        let buffers = [&mut scratch.query, &mut scratch.key, &mut scratch.value];
        for (projection, buffer) in self.projections.iter().zip(buffers) {
            buffer.reset(x.rows(), wide);
            layer.linear(x, projection, buffer.view_mut())?;
        }
        for buffer in [&mut scratch.query, &mut scratch.key] {
            layer
                .kernels
                .unit_heads(self.heads, SHORTEST, buffer.view_mut());
        }
        scratch.heads.reset(x.rows(), wide);
        for record in records_of(at.rows) {
            for head in 0..self.heads {
                let columns = head * self.head_dim..(head + 1) * self.head_dim;
                let part = |mat: &'_ Mat| {
                    let rows = record.clone();
                    packed(mat.rows_view(rows).cols_range(columns.clone()), false)
                };
                let keys = part(&scratch.key);
                let values = {
                    let rows = scratch.value.rows_view(record.clone());
                    packed(rows.cols_range(columns.clone()), true)
                };
                for start in record.clone().step_by(BLOCK) {
                    let rows = start..record.end.min(start + BLOCK);
                    let weights = &mut scratch.inner;
                    weights.reset(rows.len(), record.len());
                    let query = scratch.query.rows_view(rows.clone());
                    let query = query.cols_range(columns.clone());
                    let kernels = layer.kernels;
                    kernels.gemm(query, &keys, None, Store::Set, weights.view_mut());
                    kernels.equal_hashes(self.exponent, weights.view_mut());
                    let out = scratch
                        .heads
                        .rows_view_mut(rows)
                        .cols_range(columns.clone());
                    kernels.gemm(weights.view(), &values, None, Store::Set, out);
                }
            }
        }
        let heads = scratch.heads.view_mut();
        layer.kernels.unit_heads(self.heads, SHORTEST, heads);
        if let Some(own) = &self.convolution {
            let (value, heads) = (scratch.value.view(), scratch.heads.view_mut());
            value_convolution(layer, own, self.head_dim, at.rows, value, heads)?;
        }
        output.reset(x.rows(), self.output.out_features);
        layer.linear(scratch.heads.view(), &self.output, output.view_mut())
    }
}

/// Rows as they are, or columns as rows.
fn packed(x: MatRef<'_>, turned: bool) -> PackedWeights {
    let (rows, columns) = if turned {
        (x.cols(), x.rows())
    } else {
        (x.rows(), x.cols())
    };
    let mut packed = PackedWeights::new(rows, columns, PackedKind::F32);
    let mut line = vec![0.0; columns];
    for row in 0..rows {
        if turned {
            let places = line.iter_mut().enumerate();
            places.for_each(|(index, value)| *value = x.row(index)[row]);
            packed.pack_rows_f32(row, &line);
        } else {
            packed.pack_rows_f32(row, x.row(row));
        }
    }
    packed
}

//! The real part of the Fourier transform of a record along both axes, as products with tables of cosines and sines:
//! `C_n X C_d - S_n X S_d`.

use std::f64::consts::TAU;
use std::ops::Range;

use sli_kernels::{Mat, MatRef, PackedKind, PackedWeights, Store};
use sli_spec::Fourier;

use super::buffers::{Buffer, Buffers};
use super::records::records_of;
use super::{At, Mix};
use crate::error::EngineError;

/// Rows of a record's transform that are computed at a time: bounds the tables of its length.
const BLOCK: usize = 256;

impl Mix for Fourier {
    fn buffers(&self, _hidden: usize) -> Buffers {
        // The products of the rows with both tables of the features, and those of a record turned over and packed.
        Buffers::default()
            .rows(Buffer::Up, 3 * self.columns)
            .rows(Buffer::Inner, self.columns + BLOCK)
            .fixed(Buffer::Gate, 2 * self.columns * self.columns)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let kernels = at.layer.kernels;
        let records = records_of(at.rows);
        output.reset(x.rows(), self.columns);
        for (wave, sign, store) in [
            (f64::cos as Wave, 1.0, Store::Set),
            (f64::sin as Wave, -1.0, Store::Add),
        ] {
            let of_features = packed(&table(wave, 0..self.columns, self.columns, 1.0));
            let product = &mut at.scratch.up;
            product.reset(x.rows(), self.columns);
            kernels.gemm(x, &of_features, None, Store::Set, product.view_mut());
            for rows in &records {
                let part = packed(&turned(product.rows_view(rows.clone())));
                for start in (0..rows.len()).step_by(BLOCK) {
                    let block = start..(start + BLOCK).min(rows.len());
                    let of_rows = table(wave, block.clone(), rows.len(), sign);
                    let out = rows.start + block.start..rows.start + block.end;
                    let out = output.rows_view_mut(out);
                    kernels.gemm(of_rows.view(), &part, None, store, out);
                }
            }
        }
        Ok(())
    }
}

type Wave = fn(f64) -> f64;

/// `sign * wave(2 pi row column / count)`, some rows of it.
fn table(wave: Wave, rows: Range<usize>, count: usize, sign: f64) -> Mat {
    let mut table = Mat::new(rows.len(), count);
    for (place, row) in rows.enumerate() {
        for (column, value) in table.row_mut(place).iter_mut().enumerate() {
            let turn = (row * column % count) as f64 / count as f64;
            *value = (sign * wave(TAU * turn)) as f32;
        }
    }
    table
}

/// Columns as rows.
fn turned(x: MatRef<'_>) -> Mat {
    let mut turned = Mat::new(x.cols(), x.rows());
    for index in 0..x.rows() {
        for (column, &value) in x.row(index).iter().enumerate() {
            turned.row_mut(column)[index] = value;
        }
    }
    turned
}

fn packed(rows: &Mat) -> PackedWeights {
    let mut packed = PackedWeights::new(rows.rows(), rows.cols(), PackedKind::F32);
    packed.pack_rows_f32(0, rows.as_slice());
    packed
}

//! The convolution of a conformer: over a row and its neighbours on both sides, each column by itself.

use std::ops::Range;

use sli_kernels::{Activation, Mat, MatRef};
use sli_spec::{ConformerConvolution, StoredNorm};

use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::exec::BoundLayer;

impl Mix for ConformerConvolution {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
            .rows(Buffer::Up, 2 * self.columns)
            .rows(Buffer::Inner, self.columns)
            .fixed(Buffer::Gate, self.columns * (self.rows + 2))
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, first) = (at.layer, at.rows.chunk.rows.start);
        let (both, convolved) = (&mut at.scratch.up, &mut at.scratch.inner);
        both.reset(x.rows(), 2 * self.columns);
        layer.linear(x, &self.input, both.view_mut())?;
        let (input, mut gate) = both.view_mut().split_cols(self.columns);
        let kernels = layer.kernels;
        kernels.gated(Activation::Sigmoid, gate.reborrow(), input.as_ref());
        let weights = layer.vector(self.kernel)?;
        convolved.reset(x.rows(), self.columns);
        for record in at.rows.batch.branches_of(at.rows.chunk) {
            let rows = record.start - first..record.end - first;
            convolve(self.rows, &weights, gate.as_ref(), rows, convolved);
        }
        if let Some(bias) = layer.optional(self.bias)? {
            kernels.add_bias(&bias, convolved.view_mut());
        }
        let [factors, addends] = of_norm(layer, &self.norm)?;
        kernels.scale_columns(&factors, convolved.view_mut());
        kernels.add_bias(&addends, convolved.view_mut());
        kernels.activation(kernel(self.activation), convolved.view_mut());
        output.reset(x.rows(), self.output.out_features);
        layer.linear(convolved.view(), &self.output, output.view_mut())
    }
}

/// The sums of some rows, which are a record's, tap by tap.
fn convolve(taps: usize, weights: &[f32], x: MatRef<'_>, rows: Range<usize>, out: &mut Mat) {
    let columns = x.cols();
    let mut of_tap = vec![0.0; columns];
    for tap in 0..taps {
        let own = of_tap
            .iter_mut()
            .zip(weights.iter().skip(tap).step_by(taps));
        own.for_each(|(own, &weight)| *own = weight);
        for row in rows.clone() {
            let source = (row + tap).checked_sub(taps / 2);
            let sums = out.row_mut(row);
            if tap == 0 {
                sums.fill(0.0);
            }
            if let Some(source) = source.filter(|source| rows.contains(source)) {
                let products = x.row(source).iter().zip(&of_tap);
                let sums = sums.iter_mut().zip(products);
                sums.for_each(|(sum, (x, weight))| *sum += x * weight);
            }
        }
    }
}

/// Factor and addend of every column.
fn of_norm(layer: &BoundLayer<'_>, norm: &StoredNorm) -> Result<[Vec<f32>; 2], EngineError> {
    let (mean, variance) = (layer.vector(norm.mean)?, layer.vector(norm.variance)?);
    let (weight, bias) = (layer.vector(norm.weight)?, layer.vector(norm.bias)?);
    let factor = |(weight, variance): (&f32, &f32)| {
        f64::from(*weight) / (f64::from(*variance) + norm.epsilon).sqrt()
    };
    let factors: Vec<f64> = weight.iter().zip(&*variance).map(factor).collect();
    let addends = factors.iter().zip(&*mean).zip(&*bias);
    let addends =
        addends.map(|((factor, mean), bias)| (f64::from(*bias) - f64::from(*mean) * factor) as f32);
    let addends = addends.collect();
    let factors = factors.into_iter().map(|factor| factor as f32);
    Ok([factors.collect(), addends])
}

//! The convolution of a conformer: over a row and its neighbours on both sides, each column by itself.

use sli_kernels::{Activation, Mat, MatRef, Taps};
use sli_spec::{ConformerConvolution, StoredNorm};

use super::beside::turned;
use super::buffers::{Buffer, Buffers};
use super::records::records_of;
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::exec::BoundLayer;

impl Mix for ConformerConvolution {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
            .rows(Buffer::Up, 2 * self.columns)
            .rows(Buffer::Inner, self.columns)
            .fixed(Buffer::Gate, self.columns * (self.rows + 4))
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let layer = at.layer;
        let (both, convolved) = (&mut at.scratch.up, &mut at.scratch.inner);
        both.reset(x.rows(), 2 * self.columns);
        layer.linear(x, &self.input, both.view_mut())?;
        let (input, mut gate) = both.view_mut().split_cols(self.columns);
        let kernels = layer.kernels;
        kernels.gated(Activation::Sigmoid, gate.reborrow(), input.as_ref());
        let taps = turned(&layer.vector(self.kernel)?, self.rows, 1);
        convolved.reset(x.rows(), self.columns);
        convolved.as_mut_slice().fill(0.0);
        let (records, taps) = (records_of(at.rows), Taps::OfColumns(&taps));
        kernels.add_neighbours(
            self.rows,
            taps,
            &records,
            gate.as_ref(),
            convolved.view_mut(),
        );
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

/// Factor and addend of every column.
fn of_norm(layer: &BoundLayer<'_>, norm: &StoredNorm) -> Result<[Vec<f32>; 2], EngineError> {
    let factors = layer.stored_factors(norm)?;
    let (mean, bias) = (layer.vector(norm.mean)?, layer.vector(norm.bias)?);
    let addends = factors.iter().zip(&*mean).zip(&*bias);
    let addends =
        addends.map(|((factor, mean), bias)| (f64::from(*bias) - f64::from(*mean) * factor) as f32);
    let addends = addends.collect();
    let factors = factors.into_iter().map(|factor| factor as f32);
    Ok([factors.collect(), addends])
}

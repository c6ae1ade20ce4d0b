//! A convolution of every feature by itself, over a row and its neighbours on both sides, with norms of fixed statistics.

use sli_kernels::{Mat, MatRef, Taps};
use sli_spec::{NormedConvolution, StoredNorm};

use super::beside::turned;
use super::buffers::{Buffer, Buffers};
use super::records::records_of;
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::BoundLayer;

impl Mix for NormedConvolution {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let own = if self.own.is_some() { self.features } else { 0 };
        Buffers::default()
            .rows(Buffer::Gate, own)
            .fixed(Buffer::Inner, 2 * self.kernel * self.features)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, kernels) = (at.layer, at.layer.kernels);
        let taps = turned(&layer.vector(self.weight)?, self.kernel, 1);
        output.reset(x.rows(), self.features);
        output.as_mut_slice().fill(0.0);
        let (records, taps) = (records_of(at.rows), Taps::OfColumns(&taps));
        kernels.add_neighbours(self.kernel, taps, &records, x, output.view_mut());
        let mut line = line(layer, &self.norm)?;
        kernels.scale_columns(&line.factors, output.view_mut());
        if let Some([added, taken]) = &self.own {
            let (added, taken) = (self::line(layer, added)?, self::line(layer, taken)?);
            let less = |one: &[f32], other: &[f32]| -> Vec<f32> {
                one.iter()
                    .zip(other)
                    .map(|(one, other)| one - other)
                    .collect()
            };
            let own = &mut at.scratch.gate;
            own.reset(x.rows(), x.cols());
            kernels.copy(x, own.view_mut());
            kernels.scale_columns(&less(&added.factors, &taken.factors), own.view_mut());
            kernels.add(own.view(), 1.0, output.view_mut());
            let addends = less(&added.addends, &taken.addends);
            line.addends
                .iter_mut()
                .zip(addends)
                .for_each(|(sum, addend)| *sum += addend);
        }
        kernels.add_bias(&line.addends, output.view_mut());
        Ok(())
    }
}

/// What a norm of fixed statistics multiplies with and adds.
struct Line {
    factors: Vec<f32>,
    addends: Vec<f32>,
}

fn line(layer: &BoundLayer<'_>, norm: &StoredNorm) -> Result<Line, EngineError> {
    let factors = layer.stored_factors(norm)?.into_iter();
    let factors: Vec<f32> = factors.map(|factor| factor as f32).collect();
    let (mean, bias) = (layer.vector(norm.mean)?, layer.vector(norm.bias)?);
    let addends = factors.iter().zip(mean.iter()).zip(bias.iter());
    let addends = addends.map(|((factor, mean), bias)| bias - factor * mean);
    Ok(Line {
        addends: addends.collect(),
        factors,
    })
}

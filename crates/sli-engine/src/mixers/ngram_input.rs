//! Features of n-grams enter a residual stream (Qwen4-Exp).

use sli_kernels::{Activation, Mat, MatRef};
use sli_spec::NgramInput;

use super::along::{slide, stretches};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::Scratch;

/// What the magnitude of a product of key and query counts as at least.
const LEAST: f32 = 1e-6;

impl Mix for NgramInput {
    fn buffers(&self, hidden: usize) -> Buffers {
        Buffers::default()
            .rows(Buffer::Query, hidden)
            .rows(Buffer::Key, hidden)
            .rows(Buffer::Value, hidden)
            .fixed(Buffer::Gate, self.reach() * hidden)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let stretches = stretches(at.rows);
        let (layer, rows, mixer) = (at.layer, at.rows, at.mixer);
        let kernels = layer.kernels;
        let Some(inputs) = &at.kept.layer_inputs else {
            return Err(EngineError::Internal(
                "there are no features of n-grams".into(),
            ));
        };
        let (hidden, width) = (self.key.out_features, self.key.in_features);
        let features = inputs.rows_view(rows.chunk.rows.clone());
        let features = features.cols_range(self.number * width..(self.number + 1) * width);
        let Scratch {
            query,
            key,
            value,
            gate: window,
            states,
            ..
        } = &mut *at.scratch;
        for mat in [&mut *query, &mut *key, &mut *value] {
            mat.reset(x.rows(), hidden);
        }
        layer.linear(features, &self.key, key.view_mut())?;
        layer.norm_in_place(&self.key_norm, key.view_mut())?;
        layer.norm(&self.query_norm, x, query.view_mut())?;
        layer.linear(features, &self.value, value.view_mut())?;
        let gate = |row: usize| gate(key.row(row), query.row(row));
        let gates: Vec<f32> = (0..x.rows()).map(gate).collect();
        kernels.scale_rows(&gates, value.view_mut());
        output.reset(x.rows(), hidden);
        layer.norm(&self.value_norm, value.view(), output.view_mut())?;
        let weight = layer.vector(self.convolution.weight)?;
        let taps = self.convolution.kernel;
        let own = &weight[self.stream * hidden * taps..(self.stream + 1) * hidden * taps];
        let spread = spread(own, taps, self.dilation);
        window.reset(self.reach(), hidden);
        let own = (states, mixer);
        let window = window.as_mut_slice();
        slide(
            kernels,
            (&spread, None),
            output.view_mut(),
            &stretches,
            (own, window),
        )?;
        kernels.activation(Activation::Silu, output.view_mut());
        kernels.add(value.view(), 1.0, output.view_mut());
        Ok(())
    }
}

/// How much of the value a stream takes.
fn gate(key: &[f32], query: &[f32]) -> f32 {
    let product: f32 = key.iter().zip(query).map(|(key, query)| key * query).sum();
    let product = product / (key.len() as f32).sqrt();
    let root = product.abs().max(LEAST).sqrt();
    let signed = if product == 0.0 {
        0.0
    } else {
        root.copysign(product)
    };
    1.0 / (1.0 + (-signed).exp())
}

/// The weights of a convolution of neighbouring rows that is the same as one of rows that are so far apart.
fn spread(weight: &[f32], taps: usize, dilation: usize) -> Vec<f32> {
    let wide = (taps - 1) * dilation + 1;
    let mut spread = vec![0.0; weight.len() / taps * wide];
    for (own, wide) in weight.chunks_exact(taps).zip(spread.chunks_exact_mut(wide)) {
        for (weight, wide) in own.iter().zip(wide.iter_mut().step_by(dilation)) {
            *wide = *weight;
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn rows_between_count_nothing() {
        let wide = spread(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2);
        assert_eq!(wide, [1.0, 0.0, 2.0, 0.0, 3.0, 4.0, 0.0, 5.0, 0.0, 6.0]);
        assert_eq!(spread(&[1.0, 2.0], 1, 5), [1.0, 2.0]);
    }
}

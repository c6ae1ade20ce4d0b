//! Feed-forward networks, gated or not.

use sli_kernels::{Mat, MatRef};
use sli_spec::{FeedForward, Xielu};

use super::{kernel, softplus};
use crate::error::EngineError;
use crate::exec::{Layer, Residency, Scratch};

/// Rows that pass through the network at a time: bounds `[rows, intermediate]`.
pub(crate) const BLOCK_ROWS: usize = 1024;

/// `output = network(x)`; x is `[rows, hidden]`.
pub(crate) fn run(
    layer: &Layer<'_>,
    network: &FeedForward,
    x: MatRef<'_>,
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    sparse(layer, network, None, x, output, scratch)
}

/// As [`run`]; the gates lose what lies so many deviations above their mean, and are cut at 0.
pub(crate) fn sparse(
    layer: &Layer<'_>,
    network: &FeedForward,
    deviations: Option<f32>,
    x: MatRef<'_>,
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let rows = x.rows();
    output.reset(rows, network.down.out_features);
    // Weights that pass by are read again for every block, so then there is only one.
    let block = match layer.residency {
        Residency::Resident => BLOCK_ROWS,
        Residency::Tiled(_) => rows.max(1),
    };
    for start in (0..rows).step_by(block) {
        let range = start..(start + block).min(rows);
        let x = x.rows_range(range.clone());
        scratch.up.reset(range.len(), network.up.out_features);
        layer.linear(x, &network.up, scratch.up.view_mut())?;
        if let Some(gate) = &network.gate {
            scratch.gate.reset(range.len(), gate.out_features);
            layer.linear(x, gate, scratch.gate.view_mut())?;
        }
        let activation = kernel(network.activation);
        if let Some(deviations) = deviations {
            for row in 0..scratch.gate.rows() {
                cut(scratch.gate.row_mut(row), deviations);
            }
        }
        let inner = match (&network.gate, &network.learned_activation) {
            (Some(_), None) => {
                layer
                    .kernels
                    .gated(activation, scratch.gate.view_mut(), scratch.up.view());
                &mut scratch.gate
            }
            (None, None) => {
                layer.kernels.activation(activation, scratch.up.view_mut());
                &mut scratch.up
            }
            (Some(_), Some(learned)) => {
                xielu(layer, learned, scratch.gate.as_mut_slice())?;
                let gated = scratch.gate.as_mut_slice().iter_mut();
                gated
                    .zip(scratch.up.as_slice())
                    .for_each(|(gate, up)| *gate *= up);
                &mut scratch.gate
            }
            (None, Some(learned)) => {
                xielu(layer, learned, scratch.up.as_mut_slice())?;
                &mut scratch.up
            }
        };
        if let Some(norm) = &network.inner_norm {
            layer.norm_in_place(norm, inner.view_mut())?;
        }
        layer.linear(inner.view(), &network.down, output.rows_view_mut(range))?;
    }
    Ok(())
}

/// `x = xielu(x)`, elementwise.
fn xielu(layer: &Layer<'_>, learned: &Xielu, x: &mut [f32]) -> Result<(), EngineError> {
    let (beta, eps) = (layer.scalar(learned.beta)?, layer.scalar(learned.eps)?);
    let positive = softplus(layer.scalar(learned.alpha_p)?);
    let negative = beta + softplus(layer.scalar(learned.alpha_n)?);
    for value in x {
        *value = if *value > 0.0 {
            positive * *value * *value + beta * *value
        } else {
            (value.min(eps).exp_m1() - *value) * negative + beta * *value
        };
    }
    Ok(())
}

/// `max(0, x - (mean + deviations * standard deviation))` of one row.
fn cut(row: &mut [f32], deviations: f32) {
    let count = row.len().max(1) as f64;
    let mean = row.iter().copied().map(f64::from).sum::<f64>() / count;
    let squares = row.iter().map(|&value| (f64::from(value) - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    let cutoff = mean as f32 + deviation as f32 * deviations;
    for value in row {
        *value = (*value - cutoff).max(0.0);
    }
}

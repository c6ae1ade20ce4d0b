//! Feed-forward networks, gated or not.

use sli_kernels::{Activation as Kernel, Clamped, Mat, MatRef};
use sli_spec::{ClampedGate, FeedForward, Xielu};

use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel, softplus};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Residency, Scratch};

/// Rows that pass through the network at a time: bounds `[rows, intermediate]`.
pub(crate) const BLOCK_ROWS: usize = 1024;

impl Mix for FeedForward {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let inner = self.up.out_features;
        let buffers = Buffers::default().block(Buffer::Up, inner);
        match self.gate {
            Some(_) => buffers.block(Buffer::Gate, inner),
            None => buffers,
        }
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        run(at.layer, self, |_| {}, x, output, at.scratch)
    }
}

/// `output = network(x)`; `select` sees the gates before their activation.
pub(super) fn run(
    layer: &BoundLayer<'_>,
    network: &FeedForward,
    select: impl Fn(&mut Mat),
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
            select(&mut scratch.gate);
        }
        let inner = activate(layer, network, scratch)?;
        layer.linear(inner.view(), &network.down, output.rows_view_mut(range))?;
    }
    Ok(())
}

/// What enters `down`, of the products with `up` and `gate` in the buffers of those names; it is in one of them.
pub(super) fn activate<'s>(
    layer: &BoundLayer<'_>,
    network: &FeedForward,
    scratch: &'s mut Scratch,
) -> Result<&'s mut Mat, EngineError> {
    let FeedForward {
        gate,
        up: _,
        down: _,
        activation,
        gate_scale,
        learned_activation,
        inner_norm,
        clamped,
    } = network;
    let activation = kernel(*activation);
    let (gates, up) = (&mut scratch.gate, &mut scratch.up);
    if *gate_scale != 1.0 {
        let kernels = layer.kernels;
        kernels.scale_in_place(*gate_scale as f32, gates.view_mut());
    }
    let inner = match (gate, learned_activation, clamped) {
        (Some(_), None, None) => {
            let kernels = layer.kernels;
            kernels.gated(activation, gates.view_mut(), up.view());
            gates
        }
        (Some(_), None, Some(clamped)) => {
            let (kernels, gated) = (layer.kernels, gates.view_mut());
            match *clamped {
                ClampedGate::Sharp {
                    limit,
                    sharpness,
                    addend,
                } => {
                    let form = Clamped {
                        alpha: sharpness as f32,
                        limit: limit as f32,
                        addend: addend as f32,
                    };
                    kernels.gated_clamped(form, gated, up.view());
                }
                ClampedGate::Limited { limit } => {
                    let limit = limit as f32;
                    kernels.clamp_in_place(-limit, limit, up.view_mut());
                    kernels.clamp_in_place(f32::NEG_INFINITY, limit, gates.view_mut());
                    kernels.gated(activation, gates.view_mut(), up.view());
                }
                ClampedGate::Activated { limit } => {
                    let limit = limit as f32;
                    kernels.clamp_in_place(-limit, limit, up.view_mut());
                    kernels.activation(activation, gates.view_mut());
                    kernels.clamp_in_place(f32::NEG_INFINITY, limit, gates.view_mut());
                    kernels.multiply(up.view(), gates.view_mut());
                }
                ClampedGate::Soft { gate, up: limit } => {
                    kernels.softcap_in_place(limit as f32, up.view_mut());
                    kernels.gated_soft(gate as f32, gated, up.view());
                }
            }
            gates
        }
        (Some(_), Some(learned), None) => {
            let activation = xielu(layer, learned)?;
            let kernels = layer.kernels;
            kernels.gated(activation, gates.view_mut(), up.view());
            gates
        }
        (None, None, None) => {
            layer.kernels.activation(activation, up.view_mut());
            up
        }
        (None, Some(learned), None) => {
            let activation = xielu(layer, learned)?;
            layer.kernels.activation(activation, up.view_mut());
            up
        }
        (None, _, Some(_)) | (Some(_), Some(_), Some(_)) => {
            let problem = "a clamped gate needs a gate and takes the place of the activation";
            return Err(EngineError::Internal(problem.into()));
        }
    };
    if let Some(norm) = inner_norm {
        layer.norm_in_place(norm, inner.view_mut())?;
    }
    Ok(inner)
}

/// The kernel of a learned activation.
fn xielu(layer: &BoundLayer<'_>, learned: &Xielu) -> Result<Kernel, EngineError> {
    let (beta, eps) = (layer.scalar(learned.beta)?, layer.scalar(learned.eps)?);
    Ok(Kernel::Xielu {
        alpha_p: softplus(layer.scalar(learned.alpha_p)?),
        alpha_n: beta + softplus(layer.scalar(learned.alpha_n)?),
        beta,
        eps,
    })
}

//! A product of two small matrices.

use sli_kernels::{Activation, Mat, MatMut, MatRef};
use sli_spec::{Linear, LowRank};

use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::BoundLayer;

impl Mix for LowRank {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default().rows(Buffer::Gate, self.down.out_features)
    }

    /// `output = up(down(x))`.
    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.up.out_features);
        let target = (&mut at.scratch.gate, output.view_mut());
        through(at.layer, [&self.down, &self.up], None, x, target)
    }
}

/// `out = up(activation(down x))`, with `between` in between.
pub(super) fn through(
    layer: &BoundLayer<'_>,
    [down, up]: [&Linear; 2],
    activation: Option<Activation>,
    x: MatRef<'_>,
    (between, out): (&mut Mat, MatMut<'_>),
) -> Result<(), EngineError> {
    between.reset(x.rows(), down.out_features);
    layer.linear(x, down, between.view_mut())?;
    if let Some(activation) = activation {
        layer.kernels.activation(activation, between.view_mut());
    }
    layer.linear(between.view(), up, out)
}

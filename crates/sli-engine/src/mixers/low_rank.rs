//! A product of two small matrices.

use sli_kernels::{Mat, MatRef};
use sli_spec::LowRank;

use crate::error::EngineError;
use crate::exec::{Layer, Scratch};

/// `output = up(down(x))`; x is `[rows, hidden]`.
pub(crate) fn run(
    layer: &Layer<'_>,
    product: &LowRank,
    x: MatRef<'_>,
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    scratch.gate.reset(x.rows(), product.down.out_features);
    layer.linear(x, &product.down, scratch.gate.view_mut())?;
    output.reset(x.rows(), product.up.out_features);
    layer.linear(scratch.gate.view(), &product.up, output.view_mut())
}

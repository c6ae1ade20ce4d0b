//! A row times a gate that a narrow network makes of it.

use sli_kernels::{Activation as Kernel, Mat, MatRef};
use sli_spec::LowRankGate;

use super::buffers::{Buffer, Buffers};
use super::low_rank::through;
use super::{At, Mix, kernel};
use crate::error::EngineError;

impl Mix for LowRankGate {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default().rows(Buffer::Inner, self.down.out_features)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let layer = at.layer;
        output.reset(x.rows(), self.up.out_features);
        let target = (&mut at.scratch.inner, output.view_mut());
        let activation = Some(kernel(self.activation));
        through(layer, [&self.down, &self.up], activation, x, target)?;
        layer.kernels.activation(Kernel::Sigmoid, output.view_mut());
        layer.kernels.multiply(x, output.view_mut());
        Ok(())
    }
}

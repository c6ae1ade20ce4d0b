//! A row times a gate that a narrow network makes of it.

use sli_kernels::{Activation as Kernel, Mat, MatRef};
use sli_spec::LowRankGate;

use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;

impl Mix for LowRankGate {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default().rows(Buffer::Inner, self.down.out_features)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, between) = (at.layer, &mut at.scratch.inner);
        between.reset(x.rows(), self.down.out_features);
        layer.linear(x, &self.down, between.view_mut())?;
        let activation = kernel(self.activation);
        layer.kernels.activation(activation, between.view_mut());
        output.reset(x.rows(), self.up.out_features);
        layer.linear(between.view(), &self.up, output.view_mut())?;
        layer.kernels.activation(Kernel::Sigmoid, output.view_mut());
        layer.kernels.multiply(x, output.view_mut());
        Ok(())
    }
}

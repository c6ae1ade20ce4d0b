//! One linear map in the place of a sublayer.

use sli_kernels::{Mat, MatRef};
use sli_spec::Linear;

use super::buffers::Buffers;
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for Linear {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.out_features);
        at.layer.linear(x, self, output.view_mut())
    }
}

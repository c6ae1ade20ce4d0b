//! A product of two small matrices.

use sli_kernels::{Mat, MatRef};
use sli_spec::LowRank;

use super::buffers::{Buffer, Buffers};
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for LowRank {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default().rows(Buffer::Gate, self.down.out_features)
    }

    /// `output = up(down(x))`.
    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let inner = &mut at.scratch.gate;
        inner.reset(x.rows(), self.down.out_features);
        at.layer.linear(x, &self.down, inner.view_mut())?;
        output.reset(x.rows(), self.up.out_features);
        at.layer.linear(inner.view(), &self.up, output.view_mut())
    }
}

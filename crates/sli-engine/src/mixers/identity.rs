//! A slot's content, unchanged.

use sli_kernels::{Mat, MatRef};
use sli_spec::Identity;

use super::buffers::Buffers;
use super::{At, Mix};
use crate::error::EngineError;

impl Mix for Identity {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default()
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), x.cols());
        at.layer.kernels.copy(x, output.view_mut());
        Ok(())
    }
}

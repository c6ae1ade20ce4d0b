//! Feed-forward networks of which only the largest gates count (Gemma 3n).

use sli_kernels::{Mat, MatRef};
use sli_spec::SparseFeedForward;

use super::buffers::Buffers;
use super::{At, Mix, feed_forward};
use crate::error::EngineError;

impl Mix for SparseFeedForward {
    fn buffers(&self, hidden: usize) -> Buffers {
        self.network.buffers(hidden)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let deviations = self.deviations as f32;
        let cut = |gates: &mut Mat| at.layer.kernels.keep_largest(deviations, gates.view_mut());
        feed_forward::run(at.layer, &self.network, cut, x, output, at.scratch)
    }
}

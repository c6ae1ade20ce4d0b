//! What is shown of a run on the way.

use sli_kernels::MatRef;
use sli_spec::Site;

use super::Rows;

/// Is shown what the interpreter computes on the way.
pub(crate) trait Probe {
    /// The output of a branch `[rows, hidden]`, as it enters the residual sum.
    fn branch(&mut self, site: Site, rows: Rows<'_>, output: MatRef<'_>);
    /// The feed-forward experts that the rows chose, which are all of the batch: `top_k` ids and weights a row, of
    /// `count` in the layer.
    fn routed(
        &mut self,
        rows: Rows<'_>,
        top_k: usize,
        count: usize,
        experts: &[u32],
        weights: &[f32],
    );
}

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
        let cut = |gates: &mut Mat| {
            for row in 0..gates.rows() {
                cut(gates.row_mut(row), deviations);
            }
        };
        feed_forward::run(at.layer, &self.network, cut, x, output, at.scratch)
    }
}

/// `max(0, x - (mean + deviations * standard deviation))` of one row.
fn cut(row: &mut [f32], deviations: f32) {
    let count = row.len().max(1) as f64;
    let mean = row.iter().copied().map(f64::from).sum::<f64>() / count;
    let squares = row.iter().map(|&value| (f64::from(value) - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    let cutoff = mean as f32 + deviation as f32 * deviations;
    for value in row {
        *value = (*value - cutoff).max(0.0);
    }
}

//! A convolution over all features of a row and its neighbours on both sides.

use std::ops::Range;

use sli_kernels::{Mat, MatRef};
use sli_spec::Neighbourhood;

use super::buffers::{Buffer, Buffers};
use super::feed_forward::BLOCK_ROWS;
use super::records::records_of;
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::Residency;

impl Mix for Neighbourhood {
    fn buffers(&self, _hidden: usize) -> Buffers {
        Buffers::default().block(Buffer::Gate, self.projection.in_features)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, rows) = (at.layer, at.rows);
        let records = records_of(rows);
        let unfolded = &mut at.scratch.gate;
        output.reset(x.rows(), self.projection.out_features);
        // Weights that pass by are read again for every block, so then there is only one.
        let block = match layer.residency {
            Residency::Resident => BLOCK_ROWS,
            Residency::Tiled(_) => x.rows().max(1),
        };
        for start in (0..x.rows()).step_by(block) {
            let range = start..(start + block).min(x.rows());
            unfolded.reset(range.len(), self.projection.in_features);
            for record in &records {
                unfold(self.reach, x, record.clone(), range.clone(), unfolded);
            }
            let out = output.rows_view_mut(range);
            layer.dense(&self.projection, self.activation, unfolded.view(), out)?;
        }
        Ok(())
    }
}

/// Puts the neighbours of every row of a record side by side, feature by feature, as far as they are in `block`.
fn unfold(reach: usize, x: MatRef<'_>, record: Range<usize>, block: Range<usize>, out: &mut Mat) {
    let kernel = 2 * reach + 1;
    let rows = record.start.max(block.start)..record.end.min(block.end);
    for row in rows {
        let out = out.row_mut(row - block.start);
        for tap in 0..kernel {
            let values = out.iter_mut().skip(tap).step_by(kernel);
            let place = (row + tap).checked_sub(reach);
            match place.filter(|place| record.contains(place)) {
                Some(place) => values.zip(x.row(place)).for_each(|(value, &x)| *value = x),
                None => values.for_each(|value| *value = 0.0),
            }
        }
    }
}

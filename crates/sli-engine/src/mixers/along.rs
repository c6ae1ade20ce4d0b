//! What mechanisms have in common that go along a record with a state: blocks of rows, the stretches of these
//! over which a state is handed on, convolutions.

use std::ops::Range;

use sli_kernels::{Kernels, Mat, MatMut, MatRef};
use sli_spec::{Activation, Convolution, Mechanism};

use super::buffers::{Buffer, Buffers};
use super::feed_forward::BLOCK_ROWS;
use super::{At, kernel};
use crate::error::EngineError;
use crate::exec::batch::Run;
use crate::exec::place::{Place, Start};
use crate::exec::states::{MixerId, States};
use crate::exec::{BoundLayer, Residency, Rows};
use crate::results::ResultsError;

/// Rows of a chunk that run together.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// Rows of the chunk.
    rows: Range<usize>,
    /// Its rows, divided.
    stretches: Vec<Stretch>,
}

/// Rows over which a state changes without being looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Rows of the block.
    pub rows: Range<usize>,
    /// The rows of the stretch with which records begin.
    pub starts: Vec<usize>,
    /// Where the state in front of the stretch is; `None`: behind the stretch before, if it is needed at all.
    start: Option<Start>,
    /// Who needs the state behind the stretch, beside the next one.
    kept: Option<Place>,
}

/// The buffers of what a mechanism knows of earlier rows, which [`by_blocks`] fills.
pub(super) fn state_buffers(mixer: &dyn Mechanism) -> Buffers {
    let states = mixer.states().into_iter().zip(STATES);
    states.fold(Buffers::default(), |all, (state, buffer)| {
        all.fixed(buffer, state.values())
    })
}

/// Where the states of a mechanism are, in order.
const STATES: [Buffer; 2] = [Buffer::Key, Buffer::Value];

/// Runs `block` from x to the output on the rows of a chunk, some at a time; `scratch.key` and `scratch.value` are the
/// first and the second state of the mechanism in front of them and then behind them.
pub(super) fn by_blocks<M: Mechanism>(
    mixer: &M,
    at: &mut At<'_>,
    (x, output): (MatRef<'_>, &mut Mat),
    mut block: impl FnMut(
        &M,
        &mut At<'_>,
        &[Stretch],
        MatRef<'_>,
        MatMut<'_>,
    ) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let scratch = &mut *at.scratch;
    let buffers = [&mut scratch.key, &mut scratch.value];
    for (state, buffer) in mixer.states().into_iter().zip(buffers) {
        buffer.reset(1, state.values());
    }
    for Block { rows, stretches } in blocks(at) {
        let x = x.rows_range(rows.clone());
        block(mixer, at, &stretches, x, output.rows_view_mut(rows))?;
    }
    Ok(())
}

/// The rows of a chunk in blocks: what is behind one is in front of the next.
fn blocks(at: &At<'_>) -> Vec<Block> {
    let chunk = at.rows.chunk;
    // Weights that pass by are read again for every block, so then there is only one.
    let size = match at.layer.residency {
        Residency::Resident => BLOCK_ROWS,
        Residency::Tiled(_) => chunk.rows.len().max(1),
    };
    divided(&at.rows.batch.runs(chunk), chunk.rows.len(), size)
}

/// Rows of these runs in blocks of `size`.
fn divided(runs: &[Run], rows: usize, size: usize) -> Vec<Block> {
    let firsts = (0..rows).step_by(size);
    let mut blocks: Vec<Block> = firsts
        .map(|first| Block {
            rows: first..rows.min(first + size),
            stretches: Vec::new(),
        })
        .collect();
    for run in runs {
        let mut ends: Vec<(usize, Option<Place>)> = Vec::with_capacity(run.kept.len() + 1);
        ends.extend(run.kept.iter().map(|&(row, place)| (row + 1, Some(place))));
        if ends.last().is_none_or(|&(end, _)| end < run.rows.end) {
            ends.push((run.rows.end, None));
        }
        let mut first = run.rows.start;
        for (end, kept) in ends {
            while first < end {
                let block = &mut blocks[first / size];
                let last = end.min(block.rows.end);
                block.add(first..last, run, kept.filter(|_| last == end));
                first = last;
            }
        }
    }
    blocks
}

impl Block {
    /// Adds rows of a run.
    fn add(&mut self, rows: Range<usize>, run: &Run, kept: Option<Place>) {
        let begins = rows.start == run.rows.start;
        let start = run.start.filter(|_| begins);
        let rows = rows.start - self.rows.start..rows.end - self.rows.start;
        let open = self
            .stretches
            .last()
            .is_some_and(|last| last.kept.is_none());
        if !open || start.is_some() {
            self.stretches.push(Stretch {
                rows: rows.start..rows.start,
                start,
                ..Stretch::default()
            });
        }
        if let Some(stretch) = self.stretches.last_mut() {
            if begins && start.is_none() {
                stretch.starts.push(rows.start - stretch.rows.start);
            }
            stretch.rows.end = rows.end;
            stretch.kept = kept;
        }
    }
}

/// The rows of a chunk, divided as if they were one block.
pub(super) fn stretches(rows: Rows<'_>) -> Vec<Stretch> {
    let count = rows.chunk.rows.len();
    let blocks = divided(&rows.batch.runs(rows.chunk), count, count.max(1));
    let stretches = blocks.into_iter().map(|block| block.stretches);
    stretches.flatten().collect()
}

/// Runs `over` on every stretch with the state in front of it, which it turns into the one behind; `state` is
/// the one in front of the first and then behind the last.
pub(super) fn along(
    stretches: &[Stretch],
    (states, mixer): (&mut States, MixerId),
    state: &mut [f32],
    mut over: impl FnMut(&Stretch, &mut [f32]),
) -> Result<(), EngineError> {
    for stretch in stretches {
        if stretch.start.is_some() {
            let found = states.at(mixer, stretch.start, state);
            found.map_err(ResultsError::from)?;
        }
        over(stretch, state);
        if let Some(place) = stretch.kept {
            let kept = states.keep(mixer, place, state);
            kept.map_err(ResultsError::from)?;
        }
    }
    Ok(())
}

/// The name of a mechanism's recurrence, whose convolution's window has its own.
pub(super) fn recurrence(mixer: MixerId) -> MixerId {
    MixerId { part: 1, ..mixer }
}

/// `x = activation(convolution(x))` of the rows of a block; `window` are the inputs of the rows in front.
pub(super) fn convolve(
    layer: &BoundLayer<'_>,
    (convolution, mut x): (&Convolution, MatMut<'_>),
    stretches: &[Stretch],
    states: (&mut States, MixerId),
    window: &mut [f32],
) -> Result<(), EngineError> {
    let Convolution {
        weight,
        bias,
        columns: _,
        kernel: taps,
        with_row,
        activation,
    } = convolution;
    let (weight, bias) = (layer.vector(*weight)?, layer.optional(*bias)?);
    let with_row = with_row.map(|scale| with_row_itself(&weight, *taps, scale as f32));
    let taps = (with_row.as_deref().unwrap_or(&weight), bias.as_deref());
    let kernels = layer.kernels;
    slide(kernels, taps, x.reborrow(), stretches, (states, window))?;
    if *activation != Activation::Linear {
        kernels.activation(kernel(*activation), x);
    }
    Ok(())
}

/// The weights of a convolution to whose sums the row itself is added, which are then multiplied by `scale`.
fn with_row_itself(weight: &[f32], kernel: usize, scale: f32) -> Vec<f32> {
    let own = |(at, weight): (usize, &f32)| {
        let is_last = (at + 1).is_multiple_of(kernel);
        (weight + f32::from(u8::from(is_last))) * scale
    };
    weight.iter().enumerate().map(own).collect()
}

/// `x = convolution(x)` of these weights and addends; `window` are the inputs of the rows in front.
pub(super) fn slide(
    kernels: &Kernels,
    (weight, bias): (&[f32], Option<&[f32]>),
    mut x: MatMut<'_>,
    stretches: &[Stretch],
    (states, window): ((&mut States, MixerId), &mut [f32]),
) -> Result<(), EngineError> {
    along(stretches, states, window, |stretch, window| {
        let x = x.reborrow().rows_range(stretch.rows.clone());
        kernels.causal_convolution(weight, bias, &stretch.starts, window, x);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Start = Start {
        place: Place::Row(7),
        is_last: true,
    };

    fn run(rows: Range<usize>, start: Option<Start>, kept: &[usize]) -> Run {
        let kept = kept.iter().map(|&row| (row, Place::Row(row))).collect();
        Run { rows, start, kept }
    }

    fn stretch(
        rows: Range<usize>,
        starts: &[usize],
        start: Option<Start>,
        kept: Option<usize>,
    ) -> Stretch {
        Stretch {
            rows,
            starts: starts.to_vec(),
            start,
            kept: kept.map(Place::Row),
        }
    }

    #[test]
    fn records_that_nobody_goes_on_from_are_one_stretch() {
        let runs = [
            run(0..3, None, &[]),
            run(3..4, None, &[]),
            run(4..9, None, &[]),
        ];
        let found = divided(&runs, 9, 6);
        let expected = [
            (0..6, vec![stretch(0..6, &[0, 3, 4], None, None)]),
            (6..9, vec![stretch(0..3, &[], None, None)]),
        ];
        assert_eq!(
            found,
            expected.map(|(rows, stretches)| Block { rows, stretches })
        );
    }

    #[test]
    fn stretches_end_where_a_state_is_kept_and_begin_where_one_is_found() {
        let runs = [
            run(0..2, None, &[]),
            run(2..7, None, &[3, 6]),
            run(7..9, Some(BEFORE), &[]),
            run(9..10, None, &[]),
        ];
        let found = divided(&runs, 10, 5);
        let expected = [
            (
                0..5,
                vec![
                    stretch(0..4, &[0, 2], None, Some(3)),
                    stretch(4..5, &[], None, None),
                ],
            ),
            (
                5..10,
                vec![
                    stretch(0..2, &[], None, Some(6)),
                    stretch(2..5, &[2], Some(BEFORE), None),
                ],
            ),
        ];
        assert_eq!(
            found,
            expected.map(|(rows, stretches)| Block { rows, stretches })
        );
    }
}

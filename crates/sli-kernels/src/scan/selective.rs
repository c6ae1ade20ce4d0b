//! The selective scan of Mamba (Gu and Dao 2023): every channel has a state and decays of its own.

use std::ops::Range;

use super::convolution::{get, put};
use super::{blocks, runs};
use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::{MatMut, MatRef};
use crate::simd::{Simd, SimdOp, math};

/// What a selective scan reads beside its input `[rows, channels]`.
#[derive(Clone, Copy)]
pub struct SelectiveScan<'a> {
    /// Time steps `[rows, channels]`, after their softplus.
    pub time_steps: MatRef<'a>,
    /// What a row writes into the state, `[rows, groups * state]`.
    pub b: MatRef<'a>,
    /// What a row reads of it, `[rows, groups * state]`.
    pub c: MatRef<'a>,
    /// Groups of as many channels that share `b` and `c`.
    pub groups: usize,
    /// `ln(-A)` `[channels, state]`.
    pub a_log: &'a [f32],
    /// `D` `[channels]`.
    pub skip: &'a [f32],
}

impl Kernels {
    /// `h = exp(dt A) h + dt x B`, `x = C h + D x` for every channel, row by row within each record, with
    /// `A = -exp(a_log)`.
    ///
    /// `x` is `[rows, channels]`, `state` `[state, channels]`: the state behind a row, a row for each of its
    /// values. `starts` are the rows with which records begin, whose state is zero.
    pub fn selective_scan(
        &self,
        scan: SelectiveScan,
        starts: &[usize],
        state: &mut [f32],
        x: MatMut,
    ) {
        let _lap = self.lap(Stage::Scan);
        let (rows, channels) = (x.rows(), x.cols());
        if channels == 0 || rows == 0 {
            return;
        }
        let size = scan.a_log.len() / channels;
        assert_eq!(
            scan.a_log.len(),
            size * channels,
            "a decay a channel and state"
        );
        assert_eq!(state.len(), size * channels, "the state");
        assert_eq!(scan.skip.len(), channels, "a factor a channel");
        assert_eq!(
            (scan.time_steps.rows(), scan.time_steps.cols()),
            (rows, channels),
            "time steps"
        );
        assert!(
            scan.groups > 0 && channels.is_multiple_of(scan.groups),
            "{channels} channels in {} groups",
            scan.groups
        );
        for selected in [scan.b, scan.c] {
            let shape = (selected.rows(), selected.cols());
            assert_eq!(shape, (rows, scan.groups * size), "B and C");
        }
        let state = SharedSlice::new(state);
        let group = channels / scan.groups;
        let tasks: Vec<(usize, Range<usize>)> = (0..scan.groups)
            .flat_map(|at| blocks(at * group..(at + 1) * group).map(move |block| (at, block)))
            .collect();
        self.tasks(tasks.len(), |task| {
            let (group, block) = tasks[task].clone();
            let width = block.len().next_multiple_of(crate::simd::MAX_LANES);
            self.with_scratch(2 * size * width, |scratch| {
                let (decays, own) = scratch[..2 * size * width].split_at_mut(size * width);
                self.isa().run(SomeChannels {
                    scan,
                    selected: group * size..(group + 1) * size,
                    decays,
                    own,
                    width,
                    starts,
                    state: &state,
                    x: &x,
                    block,
                });
            });
        });
    }
}

/// The channels of one block.
struct SomeChannels<'a> {
    scan: SelectiveScan<'a>,
    /// The columns of its group in `b` and `c`.
    selected: Range<usize>,
    /// Room for its decays, and for its state: `[state, width]`.
    decays: &'a mut [f32],
    own: &'a mut [f32],
    /// Its channels, rounded up to whole vectors.
    width: usize,
    starts: &'a [usize],
    state: &'a SharedSlice<'a, f32>,
    x: &'a MatMut<'a>,
    block: Range<usize>,
}

impl SimdOp for SomeChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            scan,
            selected,
            decays,
            own,
            width,
            starts,
            state,
            x,
            block,
        } = self;
        let size = selected.len();
        // SAFETY: tasks have different channels.
        let kept = |value: usize| unsafe {
            let start = value * x.cols() + block.start;
            state.part_mut(start..start + block.len())
        };
        decays.fill(0.0);
        own.fill(0.0);
        for value in 0..size {
            let place = value * width..value * width + block.len();
            own[place.clone()].copy_from_slice(kept(value));
            for (to, channel) in decays[place].iter_mut().zip(block.clone()) {
                *to = scan.a_log[channel * size + value];
            }
        }
        for decays in decays.chunks_exact_mut(S::LANES) {
            let decay = math::exp(s, s.get(decays));
            s.put(decays, s.sub(s.splat(0.0), decay));
        }
        for (rows, begins) in runs(starts, x.rows()) {
            if begins {
                own.fill(0.0);
            }
            for row in rows {
                let channels = Row {
                    b: &scan.b.row(row)[selected.clone()],
                    c: &scan.c.row(row)[selected.clone()],
                    steps: &scan.time_steps.row(row)[block.clone()],
                    skip: &scan.skip[block.clone()],
                };
                // SAFETY: tasks have different channels.
                let x = unsafe { x.shared_part(row, block.clone()) };
                channels.run(s, decays, own, width, x);
            }
        }
        for value in 0..size {
            kept(value).copy_from_slice(&own[value * width..][..block.len()]);
        }
    }
}

/// What a row is for the channels of a block.
struct Row<'a> {
    b: &'a [f32],
    c: &'a [f32],
    steps: &'a [f32],
    skip: &'a [f32],
}

impl Row<'_> {
    /// Changes the state `own` and `x`, given the decays.
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, decays: &[f32], own: &mut [f32], width: usize, x: &mut [f32]) {
        for at in (0..x.len()).step_by(S::LANES) {
            let end = x.len().min(at + S::LANES);
            let step = get(s, &self.steps[at..end]);
            let input = get(s, &x[at..end]);
            let written = s.mul(step, input);
            let mut sum = s.splat(0.0);
            let values = own.chunks_exact_mut(width).zip(decays.chunks_exact(width));
            for (((own, decays), &b), &c) in values.zip(self.b).zip(self.c) {
                let decay = math::exp(s, s.mul(s.get(&decays[at..]), step));
                let entered = s.mul(written, s.splat(b));
                let new = s.mul_add(decay, s.get(&own[at..]), entered);
                s.put(&mut own[at..], new);
                sum = s.mul_add(new, s.splat(c), sum);
            }
            let skip = get(s, &self.skip[at..end]);
            put(s, &mut x[at..end], s.mul_add(skip, input, sum));
        }
    }
}

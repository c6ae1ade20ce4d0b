//! The running softmax of one row (one query of one head).

use std::ops::Range;

use super::arguments::{AttentionArgs, BiasSite, KEY_BLOCK};
use crate::simd::{MAX_LANES, PANEL, Panel, Simd, math};

/// One row and one block of keys.
pub(super) struct Row<'a> {
    pub args: &'a AttentionArgs<'a>,
    pub segment: usize,
    pub head: usize,
    /// Position of the query.
    pub query: usize,
    /// Position of the block's first key.
    pub block: usize,
    /// Keys that the row sees, relative to the block.
    pub seen: Range<usize>,
    /// Keys whose probabilities are needed, relative to the block.
    pub tile: Range<usize>,
}

const IOTA: [f32; MAX_LANES] = [
    0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.,
];

/// Turns the logits of row `index` of `rows` into probabilities relative to the running maximum,
/// brings maximum and total up to date, and returns the factor for what was summed before. `x` is room for
/// the logits of a row.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one step of a loop over rows")]
pub(super) fn softmax_row<S: Simd, B: Panel>(
    s: S,
    row: &Row,
    logits: &[f32],
    index: usize,
    rows: usize,
    x: &mut [f32; KEY_BLOCK],
    probabilities: &mut [f32],
    max: &mut f32,
    total: &mut f32,
) -> f32 {
    let vectors = row.seen.start / S::LANES * S::LANES..row.seen.end.next_multiple_of(S::LANES);
    read_logits(s, row, logits, index, rows, vectors.clone(), x);
    if let Some(bias) = row.args.bias {
        let keys = row.block + row.seen.start..row.block + row.seen.end;
        let site = BiasSite {
            segment: row.segment,
            head: row.head,
            query: row.query,
            keys,
        };
        bias(&site, &mut x[row.seen.clone()]);
    }
    x[vectors.start..row.seen.start].fill(f32::NEG_INFINITY);
    x[row.seen.end..vectors.end].fill(f32::NEG_INFINITY);

    let mut highest = s.splat(*max);
    for at in vectors.clone().step_by(S::LANES) {
        highest = s.max(s.get(&x[at..]), highest);
    }
    let new_max = s.maximum(highest);
    zero_outside::<S, B>(&row.tile, &vectors, probabilities);
    if new_max == f32::NEG_INFINITY {
        zero_outside::<S, B>(&row.tile, &(row.tile.start..row.tile.start), probabilities);
        if x[row.seen.clone()].iter().any(|x| x.is_nan()) {
            *total = f32::NAN;
        }
        return 1.0;
    }
    let shift = s.splat(new_max);
    let mut sum = s.splat(0.0);
    let to = probabilities.as_mut_ptr();
    for at in vectors.step_by(S::LANES) {
        let p = math::exp(s, s.sub(s.get(&x[at..]), shift));
        sum = s.add(sum, p);
        // SAFETY: `at + LANES <= KEY_BLOCK` elements fit a row of probabilities.
        unsafe {
            if B::PER_STEP == 2 {
                s.store_bf16(to.cast::<u16>().add(at), p);
            } else {
                s.store(to.add(at), p);
            }
        }
    }
    let correction = if *max == new_max {
        1.0
    } else {
        s.maximum(math::exp(s, s.splat(*max - new_max)))
    };
    *total = *total * correction + s.sum(sum);
    *max = new_max;
    correction
}

/// Scale, cap and slope.
#[inline(always)]
fn read_logits<S: Simd>(
    s: S,
    row: &Row,
    logits: &[f32],
    index: usize,
    rows: usize,
    vectors: Range<usize>,
    x: &mut [f32; KEY_BLOCK],
) {
    let scale = s.splat(row.args.scale);
    let slope = row.args.alibi.map(|slopes| slopes[row.head]);
    for at in vectors.step_by(S::LANES) {
        let from = (at / PANEL * rows + index) * PANEL + at % PANEL;
        let mut logit = s.mul(s.get(&logits[from..]), scale);
        if let Some(cap) = row.args.softcap {
            logit = s.mul(math::tanh(s, s.div(logit, s.splat(cap))), s.splat(cap));
        }
        if let Some(slope) = slope {
            let first = (row.block + at) as f32 - row.query as f32;
            let distance = s.add(s.splat(first), s.get(&IOTA));
            logit = s.mul_add(s.splat(slope), distance, logit);
        }
        s.put(&mut x[at..], logit);
    }
}

/// Makes the probabilities of `all` outside of `written` zero.
#[inline(always)]
fn zero_outside<S: Simd, B: Panel>(
    all: &Range<usize>,
    written: &Range<usize>,
    probabilities: &mut [f32],
) {
    // A last odd pair is read whole.
    let end = all.end.next_multiple_of(B::PER_STEP);
    let start = all.start / B::PER_STEP * B::PER_STEP;
    if B::PER_STEP == 2 {
        let p: &mut [u16] = bytemuck::cast_slice_mut(probabilities);
        p[start..written.start.max(start)].fill(0);
        p[written.end.min(end)..end].fill(0);
    } else {
        probabilities[start..written.start.max(start)].fill(0.0);
        probabilities[written.end.min(end)..end].fill(0.0);
    }
}

/// Multiplies the sums of row `index`, `[panel, row, 32]`.
#[inline(always)]
pub(super) fn scale_row<S: Simd>(s: S, factor: f32, index: usize, rows: usize, sums: &mut [f32]) {
    if factor == 1.0 {
        return;
    }
    let factor = s.splat(factor);
    for panel in sums.chunks_exact_mut(rows * PANEL) {
        for x in panel[index * PANEL..(index + 1) * PANEL].chunks_exact_mut(S::LANES) {
            s.put(x, s.mul(s.get(x), factor));
        }
    }
}

/// Divides the sums of row `index` by the total.
///
/// Zeros lose their sign and denormal numbers become zero: which of them a sum is may depend on how
/// many exact zeros were added to it.
#[inline(always)]
pub(super) fn finish_row<S: Simd>(
    s: S,
    total: f32,
    index: usize,
    rows: usize,
    sums: &[f32],
    out: &mut [f32],
) {
    if total == 0.0 {
        out.fill(0.0);
        return;
    }
    let (factor, tiny, zero) = (
        s.splat(1.0 / total),
        s.splat(f32::MIN_POSITIVE),
        s.splat(0.0),
    );
    for (out, panel) in out.chunks_mut(PANEL).zip(sums.chunks_exact(rows * PANEL)) {
        let sums = &panel[index * PANEL..(index + 1) * PANEL];
        for (out, sums) in out.chunks_mut(S::LANES).zip(sums.chunks_exact(S::LANES)) {
            let x = s.mul(s.get(sums), factor);
            let x = s.select(s.less(s.abs(x), tiny), zero, x);
            if out.len() == S::LANES {
                s.put(out, x);
            } else {
                s.put_part(out, x);
            }
        }
    }
}

//! The matrix product `out[m, n] = x[m, k] W[n, k]^T (+ bias)`.

pub(crate) mod pack;
pub(crate) mod panel;
pub(crate) mod tile;

use std::ops::Range;

pub use pack::PackedActivations;
use tile::{
    BLOCK_ROW_BYTES, BLOCK_STEPS, Bf16Panel, CACHE_LINE, F16Panel, F32Panel, PairPanel, RowTiles,
    Widths, panels_per_tile,
};

use crate::clock::Stage;
use crate::kernels::Kernels;
use crate::kind::PackedKind;
use crate::mat::{MatMut, MatRef};
use crate::simd::{PANEL, Panel, Simd, SimdOp, Tile};
use crate::weights::PackedWeights;

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `out = product`.
    Set,
    /// `out += product`: the product is complete, bias included, before it is added.
    Add,
}

/// Rows of activations that [`Kernels::gemm`] packs at a time, in bytes.
const PACKED_BYTES: usize = 8 << 20;
/// Rows of one task: what stays in the second-level cache.
const TASK_ROWS: usize = 224;
/// Panels of one task of many rows.
const TASK_PANELS: usize = 8;
/// Elements of a block of a panel: where there are several tiles, each takes one panel at a time.
const WIDE_LEN: usize = BLOCK_STEPS * PANEL;

/// Rows of activations that are packed at a time: at least so many that reading the weights again
/// costs nothing.
fn packed_rows(k: usize, kind: PackedKind) -> usize {
    let row_bytes = PackedActivations::bytes_for(1, k, kind).max(1);
    (PACKED_BYTES / row_bytes).max(TASK_ROWS)
}

impl Kernels {
    /// `out[m, n] = x[m, k] W^T + bias`, set or added. The kind of `w` decides how the factors are
    /// multiplied (see [`PackedKind`]), not [`Kernels::compute`].
    ///
    /// Each element is one chain of multiply-adds over `k` in order. `bias` has `n` elements.
    pub fn gemm(
        &self,
        x: MatRef,
        w: &PackedWeights,
        bias: Option<&[f32]>,
        mode: Store,
        mut out: MatMut,
    ) {
        let _lap = self.lap(Stage::Product);
        assert_eq!(
            (x.cols(), x.rows()),
            (w.k(), out.rows()),
            "shapes of a product"
        );
        let step = packed_rows(w.k(), w.kind());
        let len = PackedActivations::bytes_for(step.min(x.rows()), w.k(), w.kind()) / 4;
        let scratch = self.take_scratch(len);
        let mut packed = PackedActivations::from_scratch(scratch);
        for start in (0..x.rows()).step_by(step) {
            let rows = start..x.rows().min(start + step);
            self.pack_activations(x.rows_range(rows.clone()), w.kind(), &mut packed);
            self.gemm_packed(&packed, w, bias, mode, out.reborrow().rows_range(rows));
        }
        self.give_scratch(packed.into_scratch());
    }

    /// [`Kernels::gemm`] with activations that [`Kernels::pack_activations`] packed, for several
    /// products of the same activations. The bits are the same.
    pub fn gemm_packed(
        &self,
        x: &PackedActivations,
        w: &PackedWeights,
        bias: Option<&[f32]>,
        mode: Store,
        out: MatMut,
    ) {
        let _lap = self.lap(Stage::Product);
        assert_eq!(
            (x.k(), x.rows()),
            (w.k(), out.rows()),
            "shapes of a product"
        );
        assert_eq!(out.cols(), w.n(), "shapes of a product");
        assert_eq!(
            x.has_pairs(),
            w.kind() == PackedKind::Bf16Dot,
            "activations packed for other weights"
        );
        assert!(
            bias.is_none_or(|b| b.len() == w.n()),
            "a bias element for each output feature"
        );
        match w.kind() {
            PackedKind::F32 => self.product::<F32Panel>(x, w, bias, mode, &out),
            PackedKind::F16 => self.product::<F16Panel>(x, w, bias, mode, &out),
            PackedKind::Bf16 => self.product::<Bf16Panel>(x, w, bias, mode, &out),
            PackedKind::Bf16Dot => self.product::<PairPanel>(x, w, bias, mode, &out),
        }
    }

    fn product<B: Panel>(
        &self,
        x: &PackedActivations,
        w: &PackedWeights,
        bias: Option<&[f32]>,
        mode: Store,
        out: &MatMut,
    ) {
        let (m, panels) = (x.rows(), w.n().div_ceil(PANEL));
        if m == 0 || panels == 0 {
            return;
        }
        let (rows, group) = self.task_shape(m, panels);
        let row_tasks = m.div_ceil(rows);
        self.tasks(row_tasks * panels.div_ceil(group), |task| {
            // Neighbouring tasks share their panels.
            let (row, column) = (task % row_tasks * rows, task / row_tasks * group);
            let rows = row..m.min(row + rows);
            let panels = column..panels.min(column + group);
            let wide = if B::NARROW { WIDE_LEN } else { 0 };
            self.with_scratch(wide + rows.len() * panels.len() * PANEL, |scratch| {
                let (wide, sums) = scratch.split_at_mut(wide);
                self.isa().run(Block::<B> {
                    x,
                    w,
                    bias,
                    mode,
                    out,
                    rows,
                    panels,
                    sums,
                    wide,
                    of: B::NEW,
                });
            });
        });
    }

    /// Rows and panels of one task.
    fn task_shape(&self, m: usize, panels: usize) -> (usize, usize) {
        let rows = m.div_ceil(m.div_ceil(TASK_ROWS));
        let row_tasks = m.div_ceil(rows);
        let wanted = self.threads() * 6;
        let group = (panels * row_tasks / wanted).clamp(1, TASK_PANELS);
        (rows, group)
    }
}

/// A block of rows times a group of panels, on one thread.
struct Block<'a, B> {
    x: &'a PackedActivations,
    w: &'a PackedWeights,
    bias: Option<&'a [f32]>,
    mode: Store,
    out: &'a MatMut<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
    sums: &'a mut [f32],
    /// Panels widened to `f32`, where many tiles meet them.
    wide: &'a mut [f32],
    of: B,
}

impl<B: Panel> SimdOp for Block<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let _ = self.of;
        let steps = self.x.steps();
        if steps == 0 {
            self.sums.fill(0.0);
        }
        let tiles = RowTiles::new(self.rows.clone(), S::TILE_ROWS);
        let widest = panels_per_tile::<S>(tiles.largest());
        const { assert!(BLOCK_STEPS.is_multiple_of(S::NEAR_STEPS) && S::NEAR_STEPS.is_multiple_of(2)) }
        let is_single = tiles.largest() == self.rows.len();
        let near = if is_single {
            BLOCK_STEPS
        } else {
            S::NEAR_STEPS
        };
        let parts = |block: usize| {
            let end = steps.min((block + 1) * BLOCK_STEPS);
            let starts = (block * BLOCK_STEPS..end).step_by(near);
            starts.map(move |start| start..end.min(start + near))
        };
        let blocks = 0..steps.div_ceil(BLOCK_STEPS);
        if is_single {
            // One tile: each panel is one stream of weights from memory.
            let rows = (self.rows.start, self.rows.len());
            for (panel, width) in Widths::new(self.panels.clone(), widest) {
                for steps in blocks.clone().flat_map(parts) {
                    self.tile::<S>(s, steps, panel, width, rows, STREAM_AHEAD);
                }
            }
        } else {
            for block in blocks {
                for (panel, width) in Widths::new(self.panels.clone(), widest) {
                    for steps in parts(block) {
                        if B::NARROW {
                            self.widen(s, steps.clone(), panel, width);
                            for tile in tiles.clone() {
                                self.tile_of_wide::<S>(s, steps.clone(), panel, width, tile);
                            }
                            continue;
                        }
                        let next_panel = width * self.panel_bytes();
                        let mut ahead = next_panel;
                        for tile in tiles.clone() {
                            self.tile::<S>(s, steps.clone(), panel, width, tile, ahead);
                            ahead = 0;
                        }
                    }
                }
            }
        }
        self.finish(s);
    }
}

/// How far ahead of a single tile its weights are asked for.
const STREAM_AHEAD: usize = 8192;

impl<B: Panel> Block<'_, B> {
    /// A tile on the panels as they are stored.
    #[inline(always)]
    fn tile<S: Simd>(
        &mut self,
        s: S,
        steps: Range<usize>,
        panel: usize,
        width: usize,
        rows: (usize, usize),
        ahead: usize,
    ) {
        let (b, b_stride) = self.stored(steps.clone(), panel, width);
        let weights = Weights {
            b: b.as_ptr(),
            b_stride,
            ahead: b.as_ptr().wrapping_add(ahead),
        };
        // SAFETY: `stored` is what the tile covers.
        unsafe { self.tile_of::<S, B>(s, steps, panel, width, rows, &weights) };
    }

    /// A tile on the panels that [`Self::widen`] wrote.
    #[inline(always)]
    fn tile_of_wide<S: Simd>(
        &mut self,
        s: S,
        steps: Range<usize>,
        panel: usize,
        width: usize,
        rows: (usize, usize),
    ) {
        assert!(self.wide.len() >= width * BLOCK_STEPS * PANEL && steps.len() <= BLOCK_STEPS);
        let b = self.wide.as_ptr().cast();
        let weights = Weights {
            b,
            b_stride: BLOCK_STEPS * F32Panel::STEP_BYTES,
            ahead: b,
        };
        // SAFETY: `width` panels of a block are within `wide`.
        unsafe { self.tile_of::<S, F32Panel>(s, steps, panel, width, rows, &weights) };
    }

    /// Bytes of a panel.
    fn panel_bytes(&self) -> usize {
        self.x.steps().div_ceil(B::WORDS) * B::STEP_BYTES
    }

    /// Some steps of `width` panels, of the activations, from the first byte to the last, and the bytes between panels.
    #[inline(always)]
    fn stored(&self, steps: Range<usize>, panel: usize, width: usize) -> (&[u8], usize) {
        let stride = self.panel_bytes();
        let at = panel * stride + steps.start / B::WORDS * B::STEP_BYTES;
        let len = (width - 1) * stride + steps.len().div_ceil(B::WORDS) * B::STEP_BYTES;
        (&self.w.panels()[at..at + len], stride)
    }

    /// Writes some steps of `width` panels as `f32`, each with room for `BLOCK_STEPS` steps, and asks for the next ones.
    #[inline(always)]
    fn widen<S: Simd>(&mut self, s: S, steps: Range<usize>, panel: usize, width: usize) {
        let wide = std::mem::take(&mut self.wide);
        let (stored, stride) = self.stored(steps.clone(), panel, width);
        let steps = steps.len().div_ceil(B::WORDS);
        for (index, wide) in wide
            .chunks_exact_mut(BLOCK_STEPS * PANEL)
            .take(width)
            .enumerate()
        {
            let panel = &stored[index * stride..index * stride + steps * B::STEP_BYTES];
            let next = panel.as_ptr().wrapping_add(width * stride);
            for step in 0..steps {
                for line in (0..B::STEP_BYTES).step_by(CACHE_LINE) {
                    s.prefetch(next.wrapping_add(step * B::STEP_BYTES + line));
                }
                let from = &panel[step * B::STEP_BYTES..(step + 1) * B::STEP_BYTES];
                for word in 0..B::WORDS {
                    let to = &mut wide[(step * B::WORDS + word) * PANEL..][..PANEL];
                    for (index, to) in to.chunks_exact_mut(S::LANES).enumerate() {
                        // SAFETY: a whole step is left, and a step has that many vectors and words.
                        let weights = unsafe { B::weights(s, from.as_ptr(), index, word) };
                        s.put(to, B::widened(s, weights));
                    }
                }
            }
        }
        self.wide = wide;
    }

    /// # Safety
    ///
    /// `weights.b` must be valid for reading `width` panels of the steps, which are of one block, elements as `P` has them.
    #[inline(always)]
    unsafe fn tile_of<S: Simd, P: Panel>(
        &mut self,
        s: S,
        steps: Range<usize>,
        panel: usize,
        width: usize,
        (row, count): (usize, usize),
        weights: &Weights,
    ) {
        let c_stride = self.rows.len() * PANEL;
        let (block, first) = (steps.start / BLOCK_STEPS, steps.start % BLOCK_STEPS * 4);
        assert!(steps.end <= (block + 1) * BLOCK_STEPS);
        let a = &self.x.block(block)[row * BLOCK_ROW_BYTES..(row + count) * BLOCK_ROW_BYTES];
        let at = (panel - self.panels.start) * c_stride + (row - self.rows.start) * PANEL;
        let c = &mut self.sums[at..at + (width - 1) * c_stride + count * PANEL];
        let tile = Tile {
            a: a[first..].as_ptr(),
            b: weights.b,
            b_stride: weights.b_stride,
            steps: steps.len().div_ceil(P::WORDS),
            c: c.as_mut_ptr(),
            c_stride,
            b_ahead: weights.ahead,
            a_ahead: a.as_ptr().wrapping_add(a.len()),
            fresh: steps.start == 0,
        };
        // SAFETY: the two slices are what the tile covers, and the caller's promise.
        unsafe { tile::dispatch::<S, P>(s, count, width, &tile) };
    }
}

/// The weights of a tile.
struct Weights {
    b: *const u8,
    b_stride: usize,
    /// What to ask for meanwhile.
    ahead: *const u8,
}

impl<B> Block<'_, B> {
    /// Moves the sums to their place.
    #[inline(always)]
    fn finish<S: Simd>(self, s: S) {
        for (panel, sums) in self
            .panels
            .clone()
            .zip(self.sums.chunks_exact(self.rows.len() * PANEL))
        {
            let columns = panel * PANEL..self.w.n().min((panel + 1) * PANEL);
            let bias = self.bias.map(|bias| &bias[columns.clone()]);
            for (row, sums) in self.rows.clone().zip(sums.chunks_exact(PANEL)) {
                // SAFETY: the tasks of a product have disjoint rows or columns.
                let out = unsafe { self.out.shared_part(row, columns.clone()) };
                if columns.len() == PANEL {
                    for at in (0..PANEL).step_by(S::LANES) {
                        let mut sum = s.get(&sums[at..]);
                        if let Some(bias) = bias {
                            sum = s.add(sum, s.get(&bias[at..]));
                        }
                        if self.mode == Store::Add {
                            sum = s.add(s.get(&out[at..]), sum);
                        }
                        s.put(&mut out[at..], sum);
                    }
                } else {
                    for (index, (out, &sum)) in out.iter_mut().zip(sums).enumerate() {
                        let sum = bias.map_or(sum, |bias| sum + bias[index]);
                        *out = match self.mode {
                            Store::Set => sum,
                            Store::Add => *out + sum,
                        };
                    }
                }
            }
        }
    }
}

//! Weights in the layout that the matrix product reads: panels of 32 columns.
//!
//! A weight `W` is logically `[n, k]` (output features by input features). Panel `p` holds output
//! features `32 p .. 32 p + 32`; within a panel the features of one `k` (or of one pair of `k`) are
//! consecutive. Features beyond `n` and the second half of a last odd pair are zero.

use crate::element::Element;
use crate::isa::Isa;
use crate::kernels::{Kernels, SharedSlice};
use crate::kind::PackedKind;
use crate::mat::Line;
use crate::packing::PackRows;
use crate::simd::PANEL;

/// Panels that one task packs.
const TASK_PANELS: usize = 4;

/// A weight `[n, k]` in column panels, ready for the matrix product.
pub struct PackedWeights {
    lines: Vec<Line>,
    n: usize,
    k: usize,
    kind: PackedKind,
}

impl std::fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedWeights[{}, {}] {:?}", self.n, self.k, self.kind)
    }
}

impl PackedWeights {
    /// Bytes of a packed weight of this shape and kind.
    pub const fn bytes_for(n: usize, k: usize, kind: PackedKind) -> usize {
        kind.bytes(n, k)
    }

    /// A packed weight of zeros.
    pub fn new(n: usize, k: usize, kind: PackedKind) -> Self {
        let lines = bytemuck::zeroed_vec(Self::bytes_for(n, k, kind).div_ceil(size_of::<Line>()));
        Self { lines, n, k, kind }
    }

    /// Gives the weight a new shape and kind and makes it zero. The allocation is reused if it is
    /// large enough.
    pub fn reset(&mut self, n: usize, k: usize, kind: PackedKind) {
        let lines = Self::bytes_for(n, k, kind).div_ceil(size_of::<Line>());
        if lines > self.lines.capacity() {
            self.lines = Vec::new();
            self.lines = bytemuck::zeroed_vec(lines);
        } else {
            self.lines.resize(lines, bytemuck::Zeroable::zeroed());
        }
        (self.n, self.k, self.kind) = (n, k, kind);
        // Only the padding has to be zero: everything else is packed before it is used.
        let panel = Self::bytes_for(1, k, kind);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.lines);
        if !n.is_multiple_of(PANEL) {
            bytes[n / PANEL * panel..(n / PANEL + 1) * panel].fill(0);
        }
        if kind.padded(k) != k {
            let step = PANEL * 2 * kind.element_size();
            for panel in bytes.chunks_exact_mut(panel) {
                let start = panel.len() - step;
                panel[start..].fill(0);
            }
        }
    }

    /// Output features.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Input features.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// How the elements are stored.
    pub const fn kind(&self) -> PackedKind {
        self.kind
    }

    /// Bytes of memory held, including spare capacity.
    pub fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    /// Packs the output features `first_row ..` from `raw`: whole rows of `k` little-endian elements,
    /// one after another, at any alignment. On the calling thread; [`Kernels::pack_rows`] uses all.
    ///
    /// [`Kernels::pack_rows`]: crate::Kernels::pack_rows
    pub fn pack_rows(&mut self, first_row: usize, raw: &[u8], element: Element) {
        self.packing(first_row, raw, element).run_on(Isa::detect());
    }

    /// Packs the output features `first_row ..` from rows of `k` elements.
    pub fn pack_rows_f32(&mut self, first_row: usize, rows: &[f32]) {
        self.pack_rows(first_row, bytemuck::cast_slice(rows), Element::F32);
    }

    /// What there is to do for [`Self::pack_rows`].
    pub(crate) fn packing<'a>(
        &'a mut self,
        first_row: usize,
        raw: &'a [u8],
        element: Element,
    ) -> PackRows<'a> {
        let (k, kind) = (self.k, self.kind);
        let row_bytes = k * element.size();
        let rows = raw.len().checked_div(row_bytes).unwrap_or(0);
        assert_eq!(raw.len(), rows * row_bytes, "whole rows");
        assert!(
            first_row + rows <= self.n,
            "rows {first_row}..{} of {}",
            first_row + rows,
            self.n
        );
        let panel_bytes = Self::bytes_for(1, k, kind);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.lines);
        let panels =
            first_row / PANEL * panel_bytes..(first_row + rows).div_ceil(PANEL) * panel_bytes;
        PackRows {
            panels: &mut bytes[panels],
            k,
            kind,
            first_lane: first_row % PANEL,
            raw,
            element,
        }
    }

    /// The panels, one after another, as bytes.
    pub(crate) fn panels(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..Self::bytes_for(self.n, self.k, self.kind)]
    }
}

impl Kernels {
    /// [`PackedWeights::pack_rows`] on all threads.
    pub fn pack_rows(
        &self,
        weights: &mut PackedWeights,
        first_row: usize,
        raw: &[u8],
        element: Element,
    ) {
        let PackRows {
            panels,
            k,
            kind,
            first_lane,
            ..
        } = weights.packing(first_row, raw, element);
        let (panel_bytes, row_bytes) = (PackedWeights::bytes_for(1, k, kind), k * element.size());
        if raw.is_empty() {
            return;
        }
        let (count, rows) = (panels.len() / panel_bytes, raw.len() / row_bytes);
        let shared = SharedSlice::new(panels);
        self.tasks(count.div_ceil(TASK_PANELS), |task| {
            let part = task * TASK_PANELS..count.min((task + 1) * TASK_PANELS);
            let from = (part.start * PANEL).saturating_sub(first_lane);
            let to = rows.min(part.end * PANEL - first_lane);
            let bytes = part.start * panel_bytes..part.end * panel_bytes;
            // SAFETY: tasks have different panels.
            let panels = unsafe { shared.part_mut(bytes) };
            let first_lane = if task == 0 { first_lane } else { 0 };
            let raw = &raw[from * row_bytes..to * row_bytes];
            PackRows {
                panels,
                k,
                kind,
                first_lane,
                raw,
                element,
            }
            .run_on(self.isa());
        });
    }
}

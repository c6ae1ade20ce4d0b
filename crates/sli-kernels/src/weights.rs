//! Weights in the layout that the matrix product reads: panels of 32 columns.
//!
//! A weight `W` is logically `[n, k]` (output features by input features). Panel `p` holds output
//! features `32 p .. 32 p + 32`; within a panel the features of one `k` (or of one pair of `k`) are
//! consecutive. Features beyond `n` and the second half of a last odd pair are zero.

use half::f16;

use crate::element::Element;
use crate::gemm::panel::{CHUNK, Transpose, Words};
use crate::isa::Isa;
use crate::mat::Line;
use crate::simd::{MAX_LANES, PANEL, Simd, SimdOp};

/// The type that a computation is carried out in. Sums are always `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Factors as they are, at most `f32`.
    F32,
    /// Factors rounded to bf16.
    Bf16,
}

/// How the elements of [`PackedWeights`] are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackedKind {
    /// `f32`, multiplied as `f32`.
    F32,
    /// Binary16, widened exactly and multiplied as `f32`.
    F16,
    /// Bf16, widened exactly and multiplied as `f32`.
    Bf16,
    /// Pairs of bf16, multiplied with activations rounded to bf16.
    Bf16Dot,
}

impl PackedKind {
    /// The kind for weights stored as `stored` when computing in `compute`.
    ///
    /// In `f32` nothing is lost except that `F64` is rounded to `F32`; in bf16 everything is rounded
    /// to the nearest bf16, ties to even.
    pub const fn for_weights(stored: Element, compute: Compute) -> Self {
        match (compute, stored) {
            (Compute::Bf16, _) => Self::Bf16Dot,
            (Compute::F32, Element::F32 | Element::F64) => Self::F32,
            (Compute::F32, Element::F16) => Self::F16,
            (Compute::F32, Element::Bf16) => Self::Bf16,
        }
    }

    /// Bytes per element.
    const fn element_size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 | Self::Bf16Dot => 2,
        }
    }

    /// `k` as stored.
    const fn padded(self, k: usize) -> usize {
        match self {
            Self::Bf16Dot => k.next_multiple_of(2),
            Self::F32 | Self::F16 | Self::Bf16 => k,
        }
    }
}

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
        n.div_ceil(PANEL) * PANEL * kind.padded(k) * kind.element_size()
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
    /// one after another, at any alignment.
    pub fn pack_rows(&mut self, first_row: usize, raw: &[u8], element: Element) {
        if self.k == 0 {
            return;
        }
        let row_bytes = self.k * element.size();
        assert_eq!(raw.len() % row_bytes, 0, "whole rows");
        let rows = first_row..first_row + raw.len() / row_bytes;
        assert!(rows.end <= self.n, "rows {rows:?} of {}", self.n);
        Isa::detect().run(PackRows {
            to: self,
            first_row,
            raw,
            element,
        });
    }

    /// Packs the output features `first_row ..` from rows of `k` elements.
    pub fn pack_rows_f32(&mut self, first_row: usize, rows: &[f32]) {
        self.pack_rows(first_row, bytemuck::cast_slice(rows), Element::F32);
    }

    /// The panels, one after another, as bytes.
    pub(crate) fn panels(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..Self::bytes_for(self.n, self.k, self.kind)]
    }
}

struct PackRows<'a> {
    to: &'a mut PackedWeights,
    first_row: usize,
    raw: &'a [u8],
    element: Element,
}

impl SimdOp for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            to:
                &mut PackedWeights {
                    ref mut lines,
                    k,
                    kind,
                    ..
                },
            first_row,
            raw,
            element,
        } = self;
        let per_word = if kind == PackedKind::F32 { 1 } else { 2 };
        let panel_bytes = PackedWeights::bytes_for(1, k, kind);
        let row_bytes = k * element.size();
        let rows = first_row..first_row + raw.len() / row_bytes;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(lines);
        let mut words = vec![0_u32; PANEL * CHUNK];
        let mut row = rows.start;
        while row < rows.end {
            let end = rows.end.min((row / PANEL + 1) * PANEL);
            let panel = &mut bytes[row / PANEL * panel_bytes..][..panel_bytes];
            for first in (0..k).step_by(CHUNK * per_word) {
                let len = (k - first).min(CHUNK * per_word);
                for (i, words) in (row..end).zip(words.chunks_exact_mut(CHUNK)) {
                    let at = (i - rows.start) * row_bytes + first * element.size();
                    let raw = &raw[at..at + len * element.size()];
                    row_words(s, raw, element, kind, &mut words[..len.div_ceil(per_word)]);
                }
                let panel = &mut panel[first * PANEL * kind.element_size()..];
                let to = match kind {
                    PackedKind::F32 | PackedKind::Bf16Dot => {
                        Words::Whole(bytemuck::cast_slice_mut(panel))
                    }
                    PackedKind::F16 | PackedKind::Bf16 => {
                        Words::Halves(bytemuck::cast_slice_mut(panel))
                    }
                };
                let steps = len.div_ceil(per_word);
                let lane = row % PANEL;
                Transpose {
                    from: &words,
                    stride: CHUNK,
                    rows: end - row,
                    steps,
                    lane,
                    to,
                }
                .run(s);
            }
            row = end;
        }
    }
}

/// Turns stored elements into words of the kind: an `f32` each, or pairs of 16-bit elements; the
/// second half of an odd one is zero.
#[inline(always)]
fn row_words<S: Simd>(s: S, raw: &[u8], element: Element, kind: PackedKind, words: &mut [u32]) {
    let same = matches!(
        (element, kind),
        (Element::F32, PackedKind::F32)
            | (Element::F16, PackedKind::F16)
            | (Element::Bf16, PackedKind::Bf16 | PackedKind::Bf16Dot)
    );
    if same {
        let (whole, rest) = words.split_at_mut(raw.len() / 4);
        bytemuck::cast_slice_mut(whole).copy_from_slice(&raw[..raw.len() / 4 * 4]);
        if let [last] = rest {
            *last = u32::from(u16::from_le_bytes([raw[raw.len() - 2], raw[raw.len() - 1]]));
        }
        return;
    }
    let len = raw.len() / element.size();
    for first in (0..len).step_by(S::LANES) {
        let count = (len - first).min(S::LANES);
        let x = load(
            s,
            &raw[first * element.size()..(first + count) * element.size()],
            element,
        );
        if kind == PackedKind::F32 {
            let to: &mut [f32] = bytemuck::cast_slice_mut(&mut words[first..first + count]);
            if count == S::LANES {
                s.put(to, x);
            } else {
                s.put_part(to, x);
            }
            continue;
        }
        let mut halves = [0_u16; MAX_LANES];
        if kind == PackedKind::F16 {
            let mut values = [0.0; MAX_LANES];
            s.put(&mut values, x);
            halves = values.map(|x| f16::from_f32(x).to_bits());
        } else {
            // SAFETY: `halves` holds the widest vector.
            unsafe { s.store_bf16(halves.as_mut_ptr(), x) };
        }
        let to: &mut [u16] = bytemuck::cast_slice_mut(words);
        let end = (first + count).next_multiple_of(2);
        to[first..end].copy_from_slice(&halves[..end - first]);
    }
}

/// Reads up to a vector of stored elements; the other lanes are zero.
#[inline(always)]
fn load<S: Simd>(s: S, raw: &[u8], element: Element) -> S::F {
    let whole = raw.len() == S::LANES * element.size();
    let mut bytes = [0_u8; MAX_LANES * 8];
    let from = if whole {
        raw
    } else {
        bytes[..raw.len()].copy_from_slice(raw);
        &bytes
    };
    // SAFETY: `from` holds a whole vector of elements; vectors need no alignment.
    unsafe {
        match element {
            Element::F32 => s.load(from.as_ptr().cast()),
            Element::F16 => s.load_f16(from.as_ptr().cast()),
            Element::Bf16 => s.load_bf16(from.as_ptr().cast()),
            Element::F64 => {
                let mut values = [0.0_f32; MAX_LANES];
                for (value, &from) in values.iter_mut().zip(from.as_chunks().0) {
                    *value = f64::from_le_bytes(from) as f32;
                }
                s.get(&values)
            }
        }
    }
}

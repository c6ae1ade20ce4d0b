//! Packing stored weights into panels.

use half::f16;

use crate::element::Element;
use crate::gemm::panel::{CHUNK, Transpose, Words};
use crate::isa::Isa;
use crate::kind::PackedKind;
use crate::simd::{MAX_LANES, PANEL, Simd, SimdOp};

/// Packs whole rows of stored elements.
pub(crate) struct PackRows<'a> {
    /// The panels that the rows belong to.
    pub panels: &'a mut [u8],
    /// Elements of a row.
    pub k: usize,
    pub kind: PackedKind,
    /// The column of the first row in its panel.
    pub first_lane: usize,
    pub raw: &'a [u8],
    pub element: Element,
}

impl PackRows<'_> {
    pub(crate) fn run_on(self, isa: Isa) {
        if !self.raw.is_empty() {
            isa.run(self);
        }
    }
}

impl SimdOp for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            panels,
            k,
            kind,
            first_lane,
            raw,
            element,
        } = self;
        let per_word = if kind == PackedKind::F32 { 1 } else { 2 };
        let (panel_bytes, row_bytes) = (kind.bytes(1, k), k * element.size());
        // Rows that are words as they are stored need no turning into words.
        let stored = holds(element, kind) && k.is_multiple_of(per_word);
        let mut words = if stored {
            Vec::new()
        } else {
            vec![0_u32; PANEL * CHUNK]
        };
        let (mut lane, mut raw) = (first_lane, raw);
        for panel in panels.chunks_exact_mut(panel_bytes) {
            let count = (raw.len() / row_bytes).min(PANEL - lane);
            let (rows, rest) = raw.split_at(count * row_bytes);
            if stored {
                Transpose {
                    from: rows,
                    stride: row_bytes,
                    rows: count,
                    steps: k / per_word,
                    lane,
                    to: columns(kind, 0, panel),
                }
                .run(s);
                (lane, raw) = (0, rest);
                continue;
            }
            for first in (0..k).step_by(CHUNK * per_word) {
                let len = (k - first).min(CHUNK * per_word);
                let steps = len.div_ceil(per_word);
                for (row, words) in rows
                    .chunks_exact(row_bytes)
                    .zip(words.chunks_exact_mut(CHUNK))
                {
                    let part = &row[first * element.size()..(first + len) * element.size()];
                    row_words(s, part, element, kind, &mut words[..steps]);
                }
                Transpose {
                    from: bytemuck::cast_slice(&words),
                    stride: 4 * CHUNK,
                    rows: count,
                    steps,
                    lane,
                    to: columns(kind, first, panel),
                }
                .run(s);
            }
            (lane, raw) = (0, rest);
        }
    }
}

/// The columns of a panel from element `first` of its rows on.
fn columns(kind: PackedKind, first: usize, panel: &mut [u8]) -> Words<'_> {
    let panel = &mut panel[first * PANEL * kind.element_size()..];
    match kind {
        PackedKind::F32 | PackedKind::Bf16 | PackedKind::Bf16Dot => {
            Words::Whole(bytemuck::cast_slice_mut(panel))
        }
        PackedKind::F16 => Words::Halves(bytemuck::cast_slice_mut(panel)),
    }
}

/// Whether stored elements are those of the kind.
const fn holds(element: Element, kind: PackedKind) -> bool {
    matches!(
        (element, kind),
        (Element::F32, PackedKind::F32)
            | (Element::F16, PackedKind::F16)
            | (Element::Bf16, PackedKind::Bf16 | PackedKind::Bf16Dot)
    )
}

/// Turns stored elements into words of the kind: an `f32` each, or pairs of 16-bit elements; the
/// second half of an odd one is zero.
#[inline(always)]
fn row_words<S: Simd>(s: S, raw: &[u8], element: Element, kind: PackedKind, words: &mut [u32]) {
    if holds(element, kind) {
        let (whole, rest) = words.split_at_mut(raw.len() / 4);
        bytemuck::cast_slice_mut(whole).copy_from_slice(&raw[..raw.len() / 4 * 4]);
        if let [last] = rest {
            *last = u32::from(u16::from_le_bytes([raw[raw.len() - 2], raw[raw.len() - 1]]));
        }
        return;
    }
    let (size, len) = (element.size(), raw.len() / element.size());
    let whole = len / S::LANES * S::LANES;
    for first in (0..whole).step_by(S::LANES) {
        let x = load(s, &raw[first * size..(first + S::LANES) * size], element);
        put_words(s, x, kind, words, first);
    }
    if whole < len {
        let mut bytes = [0_u8; MAX_LANES * 8];
        bytes[..(len - whole) * size].copy_from_slice(&raw[whole * size..]);
        let mut rest = [0_u32; MAX_LANES];
        put_words(s, load(s, &bytes, element), kind, &mut rest, 0);
        let first = if kind == PackedKind::F32 {
            whole
        } else {
            whole / 2
        };
        let to = &mut words[first..];
        to.copy_from_slice(&rest[..to.len()]);
    }
}

/// Writes a vector of elements from element `first` on.
#[inline(always)]
fn put_words<S: Simd>(s: S, x: S::F, kind: PackedKind, words: &mut [u32], first: usize) {
    match kind {
        PackedKind::F32 => s.put(&mut bytemuck::cast_slice_mut(words)[first..], x),
        PackedKind::Bf16 | PackedKind::Bf16Dot => {
            let to: &mut [u16] = &mut bytemuck::cast_slice_mut(words)[first..first + S::LANES];
            // SAFETY: `to` is a whole vector.
            unsafe { s.store_bf16(to.as_mut_ptr(), x) };
        }
        PackedKind::F16 => {
            let mut values = [0.0; MAX_LANES];
            s.put(&mut values, x);
            let to: &mut [u16] = bytemuck::cast_slice_mut(words);
            for (to, x) in to[first..first + S::LANES].iter_mut().zip(values) {
                *to = f16::from_f32(x).to_bits();
            }
        }
    }
}

/// Reads a vector of stored elements.
#[inline(always)]
fn load<S: Simd>(s: S, from: &[u8], element: Element) -> S::F {
    assert!(from.len() >= S::LANES * element.size());
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

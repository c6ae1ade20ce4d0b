//! Element types of stored tensors, and the scan for values that are not numbers.

/// The element type of raw little-endian bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Element {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// The index (in elements) of the first infinity or NaN in raw little-endian `raw`.
///
/// `raw` may be unaligned; its length must be a multiple of the element size. Runs at memory speed.
pub fn first_non_finite(raw: &[u8], element: Element) -> Option<usize> {
    assert_eq!(raw.len() % element.size(), 0, "whole elements");
    match element {
        Element::F64 => scan::<8>(raw, |b| (u64::from_le_bytes(b) >> 52) & 0x7ff == 0x7ff),
        Element::F32 => scan::<4>(raw, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
        Element::F16 => scan::<2>(raw, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        Element::Bf16 => scan::<2>(raw, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
    }
}

/// Whether every value is finite. Runs at memory speed.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    values.chunks(1024).all(|page| {
        let bad = |value: &f32| value.to_bits() & 0x7f80_0000 == 0x7f80_0000;
        !page.iter().fold(false, |found, value| found | bad(value))
    })
}

/// Looks at a page at a time without branches, so that the compiler vectorises the inner loop.
fn scan<const N: usize>(raw: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    const PAGE: usize = 4096;
    for (page, bytes) in raw.chunks(PAGE).enumerate() {
        let (elements, _) = bytes.as_chunks::<N>();
        let found = elements.iter().fold(false, |found, &e| found | bad(e));
        if found {
            let within = elements.iter().position(|&e| bad(e)).unwrap_or(0);
            return Some(page * (PAGE / N) + within);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_of_every_type() {
        for (element, bad) in [
            (Element::F64, f64::NAN.to_le_bytes().to_vec()),
            (Element::F32, f32::NEG_INFINITY.to_le_bytes().to_vec()),
            (Element::F16, half::f16::NAN.to_le_bytes().to_vec()),
            (Element::Bf16, half::bf16::INFINITY.to_le_bytes().to_vec()),
        ] {
            let size = element.size();
            let mut raw = vec![0x3b; 9001 * size];
            assert_eq!(first_non_finite(&raw, element), None);
            for at in [9000, 4097, 513, 0] {
                raw[at * size..(at + 1) * size].copy_from_slice(&bad);
                assert_eq!(first_non_finite(&raw, element), Some(at), "{element:?}");
            }
        }
        assert_eq!(first_non_finite(&[], Element::F32), None);
        let mut values = vec![f32::MAX; 3000];
        assert!(all_finite(&values) && all_finite(&[]));
        for (at, bad) in [
            (0, f32::NAN),
            (1024, f32::INFINITY),
            (2999, f32::NEG_INFINITY),
        ] {
            values[at] = bad;
            assert!(!all_finite(&values));
            values[at] = -0.0;
        }
    }
}

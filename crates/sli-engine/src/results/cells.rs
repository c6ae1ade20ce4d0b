//! A sum of the values of a file that are written in any order: the same for any order and any pieces, another
//! one when a value is not as it was written, or not there.
//!
//! Each stored element counts with a number drawn from its place (multilinear hashing over integers modulo 2^64):
//! a change that knows nothing of the places leaves the sum as it is once in 2^32 times at the most.

use std::sync::atomic::{AtomicU64, Ordering};

/// The sum, which several threads may add to.
#[derive(Debug, Default)]
pub(super) struct CellSum(AtomicU64);

impl CellSum {
    /// Goes on with a sum that was saved; `None`: it is none.
    pub fn resume(digest: &str) -> Option<Self> {
        let sum = u64::from_str_radix(digest, 16).ok()?;
        Some(Self(AtomicU64::new(sum)))
    }

    /// The sum as text.
    pub fn digest(&self) -> String {
        format!("{:016x}", self.0.load(Ordering::Relaxed))
    }

    /// Adds consecutive elements of `size` bytes (2 or 4), of which the first is number `first`.
    pub fn add(&self, first: u64, size: usize, bytes: &[u8]) {
        let sum = match size {
            2 => sum_of(
                first,
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&v| u16::from_le_bytes(v).into()),
            ),
            _ => sum_of(
                first,
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&v| u32::from_le_bytes(v).into()),
            ),
        };
        self.0.fetch_add(sum, Ordering::Relaxed);
    }
}

fn sum_of(first: u64, elements: impl Iterator<Item = u64>) -> u64 {
    // Plus one, so that a zero that was never written is missed.
    elements.zip(first..).fold(0_u64, |sum, (element, place)| {
        sum.wrapping_add((element + 1).wrapping_mul(draw(place)))
    })
}

/// An odd number drawn from a place (the finaliser of `splitmix64`).
fn draw(place: u64) -> u64 {
    let z = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_pieces_do_not_count_and_values_and_places_do() {
        let bytes: Vec<u8> = (0..64).map(|i| (i * 37 % 251) as u8).collect();
        for size in [2, 4] {
            let whole = CellSum::default();
            whole.add(5, size, &bytes);
            let pieces = CellSum::default();
            pieces.add(5 + 24 / size as u64, size, &bytes[24..]);
            let pieces = CellSum::resume(&pieces.digest()).expect("a sum");
            pieces.add(5, size, &bytes[..24]);
            assert_eq!(whole.digest(), pieces.digest());
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1 << (at % 8);
                let changed = CellSum::default();
                changed.add(5, size, &other);
                assert_ne!(whole.digest(), changed.digest(), "byte {at}");
            }
            let mut swapped = bytes.clone();
            swapped.swap(0, size);
            swapped.swap(1, size + 1);
            let elsewhere = CellSum::default();
            elsewhere.add(5, size, &swapped);
            assert_ne!(whole.digest(), elsewhere.digest());
            let missing = CellSum::default();
            missing.add(6, size, &bytes[size..]);
            assert_ne!(whole.digest(), missing.digest());
        }
        assert!(CellSum::resume("no sum").is_none());
    }
}

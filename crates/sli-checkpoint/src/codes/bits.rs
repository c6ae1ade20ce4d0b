//! Codes of a few bits in words.

use std::ops::Range;

/// The words of 32 bits that codes one behind the other are in.
pub(super) fn words(bits: u32, codes: &Range<usize>) -> Range<usize> {
    let bits = bits as usize;
    codes.start * bits / 32..(codes.end * bits).div_ceil(32)
}

/// Codes that follow one another in bytes, `bits` each, the low bits first, from bit `first` on. Codes of 3, 5 and 6
/// bits cross bytes and words; what the words of a file are does not matter, they are little-endian.
#[inline(always)]
pub(super) fn stream(bits: u32, bytes: &[u8], first: usize, out: &mut [u8]) {
    let (bits, mask) = (bits as usize, ((1_u32 << bits) - 1) as u8);
    match bits {
        8 => out.copy_from_slice(&bytes[first / 8..][..out.len()]),
        4 if first.is_multiple_of(8) => nibbles(&bytes[first / 8..], out),
        _ => {
            for (at, out) in out.iter_mut().enumerate() {
                let bit = first + at * bits;
                let low = u16::from(bytes[bit / 8]);
                let high = bytes.get(bit / 8 + 1).map_or(0, |&byte| u16::from(byte));
                *out = ((high << 8 | low) >> (bit % 8)) as u8 & mask;
            }
        }
    }
}

#[inline(always)]
fn nibbles(bytes: &[u8], out: &mut [u8]) {
    let (pairs, tail) = out.as_chunks_mut::<2>();
    for (pair, &byte) in pairs.iter_mut().zip(bytes) {
        *pair = [byte & 15, byte >> 4];
    }
    if let Some(last) = tail.first_mut() {
        *last = bytes[pairs.len()] & 15;
    }
}

/// Codes that follow one another down columns of words: the code of row `at / bits` in each column, whose first bit is
/// bit `at` of the words below one another. `row` gives the bytes of a row of words.
#[inline(always)]
pub(super) fn down<'a>(bits: u32, at: usize, row: impl Fn(usize) -> &'a [u8], out: &mut [u8]) {
    let (word, shift) = (at / 32, (at % 32) as u32);
    let mask = (1_u32 << bits) - 1;
    let (low, _) = row(word).as_chunks::<4>();
    if shift + bits <= 32 {
        for (out, low) in out.iter_mut().zip(low) {
            *out = (u32::from_le_bytes(*low) >> shift & mask) as u8;
        }
        return;
    }
    let (high, _) = row(word + 1).as_chunks::<4>();
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        let both = [*low, *high].map(|word| u64::from(u32::from_le_bytes(word)));
        *out = ((both[1] << 32 | both[0]) >> shift) as u8 & mask as u8;
    }
}

/// The eight columns of a word of AWQ: from its lowest half byte on it has columns 0, 2, 4, 6, 1, 3, 5 and 7.
#[inline(always)]
fn eight(word: [u8; 4]) -> [u8; 8] {
    // The four half bytes of 16 bits, each in 16 bits of its own.
    let apart = |four: u32| {
        let two = (u64::from(four) | u64::from(four) << 24) & 0x0000_00ff_0000_00ff;
        (two | two << 12) & 0x000f_000f_000f_000f
    };
    let word = u32::from_le_bytes(word);
    (apart(word & 0xffff) | apart(word >> 16) << 8).to_le_bytes()
}

/// Codes of 4 bits in words of eight columns, as AWQ orders them; the first `skipped`, less than eight, are not wanted.
#[inline(always)]
pub(super) fn awq(bytes: &[u8], skipped: usize, out: &mut [u8]) {
    let (words, _) = bytes.as_chunks::<4>();
    let (head, out) = out.split_at_mut(out.len().min((8 - skipped) % 8));
    if let Some(word) = words.first().filter(|_| !head.is_empty()) {
        head.copy_from_slice(&eight(*word)[skipped..][..head.len()]);
    }
    let words = &words[usize::from(skipped > 0).min(words.len())..];
    let (whole, tail) = out.as_chunks_mut::<8>();
    for (out, word) in whole.iter_mut().zip(words) {
        *out = eight(*word);
    }
    if let Some(word) = words.get(whole.len()).filter(|_| !tail.is_empty()) {
        tail.copy_from_slice(&eight(*word)[..tail.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes as bits one behind the other.
    fn packed(bits: u32, codes: &[u8]) -> Vec<u8> {
        let all = codes
            .iter()
            .flat_map(|code| (0..bits).map(move |bit| code >> bit & 1));
        let all: Vec<u8> = all.collect();
        let words = all.len().div_ceil(32);
        let mut bytes = vec![0; words * 4];
        for (at, bit) in all.into_iter().enumerate() {
            bytes[at / 8] |= bit << (at % 8);
        }
        bytes
    }

    #[test]
    fn codes_of_any_width_cross_words() {
        for bits in 1..=8 {
            let codes: Vec<u8> = (0..67_u32)
                .map(|at| (at * 37 % (1 << bits)) as u8)
                .collect();
            let bytes = packed(bits, &codes);
            for first in [0, 1, 2, 31, 32, 40] {
                let mut out = vec![0; 67 - first];
                stream(bits, &bytes, first * bits as usize, &mut out);
                assert_eq!(out, codes[first..]);
            }
            // The same words below one another, each row twice.
            let rows: Vec<Vec<u8>> = bytes.chunks(4).map(|word| word.repeat(2)).collect();
            for (at, &code) in codes.iter().enumerate() {
                let mut out = [0; 2];
                down(bits, at * bits as usize, |row| &rows[row], &mut out);
                assert_eq!(out, [code; 2]);
            }
        }
    }

    #[test]
    fn awq_has_an_order_of_its_own() {
        // Column 0 is in the lowest half byte, then columns 2, 4, 6, 1, 3, 5, 7.
        let word = 0x7531_6420_u32.to_le_bytes();
        let bytes = [word, word].concat();
        for skipped in 0..8 {
            for count in 0..=16 - skipped {
                let mut out = vec![99; count];
                awq(&bytes, skipped, &mut out);
                let wanted = (skipped..skipped + count).map(|at| at as u8 % 8);
                assert_eq!(out, wanted.collect::<Vec<u8>>());
            }
        }
    }
}

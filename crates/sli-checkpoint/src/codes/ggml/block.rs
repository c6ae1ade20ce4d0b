//! What a type of blocks is.

use sli_kernels::Vectors;

use super::super::numbers;

/// A type of blocks.
pub(super) trait Block: Send + Sync + 'static {
    const NAME: &'static str;
    /// Numbers of a block.
    const NUMBERS: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Decodes a block of that many bytes into that many numbers. Implementations are `#[inline(always)]`.
    fn decode<V: Vectors>(vectors: V, block: &[u8], out: &mut [f32]);
}

/// The half-precision number at a byte.
#[inline(always)]
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    numbers::half(word(block, at))
}

/// The 16 bits at a byte.
#[inline(always)]
pub(super) fn word(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The 32 bits at a byte.
#[inline(always)]
pub(super) fn long(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Sixteen bytes from one on, as a number of 128 bits whose bytes are worked on side by side.
#[inline(always)]
pub(super) fn sixteen(block: &[u8], at: usize) -> u128 {
    block[at..]
        .first_chunk()
        .map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// A byte in every byte of sixteen.
pub(super) const fn each(byte: u8) -> u128 {
    u128::from_ne_bytes([byte; 16])
}

/// `code - less` of codes and numbers below 128, side by side.
#[inline(always)]
pub(super) fn below(codes: u128, less: u128) -> [i8; 16] {
    // The top bit of every byte is lent, so that nothing is borrowed from the next one.
    integers(((codes | each(0x80)) - less) ^ each(0x80))
}

/// The bytes of sixteen, with their signs.
#[inline(always)]
pub(super) fn integers(bytes: u128) -> [i8; 16] {
    bytemuck::cast(bytes.to_le())
}

/// What is added to nothing: numbers stay as they are, negative zeros too.
pub(super) const NOTHING: f32 = -0.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_subtracted_side_by_side() {
        for code in 0..128_u8 {
            for less in 0..128_u8 {
                let codes = u128::from_le_bytes(std::array::from_fn(|at| (code + at as u8) % 128));
                let wanted = std::array::from_fn(|at| ((code + at as u8) % 128) as i8 - less as i8);
                assert_eq!(below(codes, each(less)), wanted);
            }
        }
    }
}

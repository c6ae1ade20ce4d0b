//! What a type of blocks is.

/// A type of blocks.
pub(super) trait Block: Send + Sync + 'static {
    const NAME: &'static str;
    /// Numbers of a block.
    const NUMBERS: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Decodes a block of that many bytes into that many numbers.
    fn decode(block: &[u8], out: &mut [f32]);
}

/// The half-precision number at a byte.
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The 16 bits at a byte.
pub(super) fn word(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The 32 bits at a byte.
pub(super) fn long(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

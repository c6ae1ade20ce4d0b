//! The element types of files: those of the safetensors format, and the blocks of GGUF.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// Type of a stored element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// 4-bit float, two in a byte (OCP MX E2M1).
    F4,
    /// 6-bit float, 2 exponent bits.
    F6E2M3,
    /// 6-bit float, 3 exponent bits.
    F6E3M2,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 8-bit float, 5 exponent bits, with infinities.
    F8E5M2,
    /// 8-bit float, 4 exponent bits, finite (`float8_e4m3fn`).
    F8E4M3,
    /// 8-bit power of two (scales of MX formats).
    F8E8M0,
    /// 8-bit float, 4 exponent bits, no negative zero.
    F8E4M3Fnuz,
    /// 8-bit float, 5 exponent bits, no negative zero.
    F8E5M2Fnuz,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 16-bit integer.
    U16,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// IEEE single precision.
    F32,
    /// Complex number of two singles.
    C64,
    /// IEEE double precision.
    F64,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 64-bit integer.
    U64,
    /// GGUF: blocks of 32, 4 bits, a scale a block.
    Q4_0,
    /// GGUF: blocks of 32, 4 bits, a scale and a least number a block.
    Q4_1,
    /// GGUF: blocks of 32, 5 bits, a scale a block.
    Q5_0,
    /// GGUF: blocks of 32, 5 bits, a scale and a least number a block.
    Q5_1,
    /// GGUF: blocks of 32, 8 bits, a scale a block.
    Q8_0,
    /// GGUF: blocks of 256, 2 bits, scales and least numbers of 4 bits.
    Q2K,
    /// GGUF: blocks of 256, 3 bits, scales of 6 bits.
    Q3K,
    /// GGUF: blocks of 256, 4 bits, scales and least numbers of 6 bits.
    Q4K,
    /// GGUF: blocks of 256, 5 bits, scales and least numbers of 6 bits.
    Q5K,
    /// GGUF: blocks of 256, 6 bits, scales of 8 bits.
    Q6K,
    /// GGUF: blocks of 256, points of a lattice, 2.06 bits.
    Iq2Xxs,
    /// GGUF: blocks of 256, points of a lattice, 2.31 bits.
    Iq2Xs,
    /// GGUF: blocks of 256, points of a lattice, 3.06 bits.
    Iq3Xxs,
    /// GGUF: blocks of 256, points of a lattice, 1.56 bits.
    Iq1S,
    /// GGUF: blocks of 32, 4 bits of an uneven scale.
    Iq4Nl,
    /// GGUF: blocks of 256, points of a lattice, 3.44 bits.
    Iq3S,
    /// GGUF: blocks of 256, points of a lattice, 2.56 bits.
    Iq2S,
    /// GGUF: blocks of 256, 4 bits of an uneven scale, scales of 6 bits.
    Iq4Xs,
    /// GGUF: blocks of 256, points of a lattice, 1.75 bits.
    Iq1M,
    /// GGUF: blocks of 256, three values, five in a byte.
    Tq1_0,
    /// GGUF: blocks of 256, three values, four in a byte.
    Tq2_0,
    /// GGUF: blocks of 32, 4-bit floats, a power of two a block.
    Mxfp4,
    /// GGUF: blocks of 64, 4-bit floats, an 8-bit float for 16 of them.
    Nvfp4,
}

impl Dtype {
    /// Every type with its name, the elements of its smallest piece of whole bytes, and the bytes of that.
    const TABLE: [(Self, &'static str, usize, usize); 45] = [
        (Self::Bool, "BOOL", 1, 1),
        (Self::F4, "F4", 2, 1),
        (Self::F6E2M3, "F6_E2M3", 4, 3),
        (Self::F6E3M2, "F6_E3M2", 4, 3),
        (Self::U8, "U8", 1, 1),
        (Self::I8, "I8", 1, 1),
        (Self::F8E5M2, "F8_E5M2", 1, 1),
        (Self::F8E4M3, "F8_E4M3", 1, 1),
        (Self::F8E8M0, "F8_E8M0", 1, 1),
        (Self::F8E4M3Fnuz, "F8_E4M3FNUZ", 1, 1),
        (Self::F8E5M2Fnuz, "F8_E5M2FNUZ", 1, 1),
        (Self::I16, "I16", 1, 2),
        (Self::U16, "U16", 1, 2),
        (Self::F16, "F16", 1, 2),
        (Self::Bf16, "BF16", 1, 2),
        (Self::I32, "I32", 1, 4),
        (Self::U32, "U32", 1, 4),
        (Self::F32, "F32", 1, 4),
        (Self::C64, "C64", 1, 8),
        (Self::F64, "F64", 1, 8),
        (Self::I64, "I64", 1, 8),
        (Self::U64, "U64", 1, 8),
        (Self::Q4_0, "Q4_0", 32, 18),
        (Self::Q4_1, "Q4_1", 32, 20),
        (Self::Q5_0, "Q5_0", 32, 22),
        (Self::Q5_1, "Q5_1", 32, 24),
        (Self::Q8_0, "Q8_0", 32, 34),
        (Self::Q2K, "Q2_K", 256, 84),
        (Self::Q3K, "Q3_K", 256, 110),
        (Self::Q4K, "Q4_K", 256, 144),
        (Self::Q5K, "Q5_K", 256, 176),
        (Self::Q6K, "Q6_K", 256, 210),
        (Self::Iq2Xxs, "IQ2_XXS", 256, 66),
        (Self::Iq2Xs, "IQ2_XS", 256, 74),
        (Self::Iq3Xxs, "IQ3_XXS", 256, 98),
        (Self::Iq1S, "IQ1_S", 256, 50),
        (Self::Iq4Nl, "IQ4_NL", 32, 18),
        (Self::Iq3S, "IQ3_S", 256, 110),
        (Self::Iq2S, "IQ2_S", 256, 82),
        (Self::Iq4Xs, "IQ4_XS", 256, 136),
        (Self::Iq1M, "IQ1_M", 256, 56),
        (Self::Tq1_0, "TQ1_0", 256, 54),
        (Self::Tq2_0, "TQ2_0", 256, 66),
        (Self::Mxfp4, "MXFP4", 32, 17),
        (Self::Nvfp4, "NVFP4", 64, 36),
    ];

    /// The first of the types of GGUF's blocks.
    const FIRST_BLOCK: Self = Self::Q4_0;

    /// The type that a safetensors header calls by this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let rows = Self::TABLE.iter().filter(|row| row.0 < Self::FIRST_BLOCK);
        let mut named = rows.filter(|row| row.1 == name);
        named.next().map(|row| row.0)
    }

    /// Every type.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TABLE.iter().map(|row| row.0)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    /// Elements of the smallest piece of whole bytes, and its bytes.
    pub fn piece(self) -> [usize; 2] {
        let (_, _, elements, bytes) = Self::TABLE[self as usize];
        [elements, bytes]
    }

    /// Whether it is one of GGUF's blocks: numbers that a scale makes.
    pub fn is_block(self) -> bool {
        self >= Self::FIRST_BLOCK
    }

    /// Bytes of so many elements; `None` where they do not end with a piece or are too many to count.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        let [piece, bytes] = self.piece().map(|n| n as u64);
        let whole = elements.is_multiple_of(piece);
        whole
            .then(|| (elements / piece).checked_mul(bytes))
            .flatten()
    }

    /// Bytes of one element; `None` for types of which several share a byte.
    pub fn size_bytes(self) -> Option<usize> {
        match self.piece() {
            [1, bytes] => Some(bytes),
            _ => None,
        }
    }

    /// A float of 16 bits or more: usable as a weight as it is, without scales.
    pub fn float(self) -> Option<Float> {
        match self {
            Self::F64 => Some(Float::F64),
            Self::F32 => Some(Float::F32),
            Self::F16 => Some(Float::F16),
            Self::Bf16 => Some(Float::Bf16),
            _ => None,
        }
    }
}

/// The types of elements that are numbers by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
}

impl Float {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Little-endian elements as `f32`; those of 64 bits are rounded.
    pub fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Self::Bf16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|element| convert(*element)).collect()
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, dtype) in Dtype::all().enumerate() {
            assert_eq!(dtype as usize, i);
            let known = (!dtype.is_block()).then_some(dtype);
            assert_eq!(Dtype::from_name(dtype.name()), known);
        }
    }
}

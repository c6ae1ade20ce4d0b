//! Scales: floats of any type, widened before they multiply.

use super::numbers::{e4m3, half};
use super::tensors::mistyped;
use crate::dtype::Dtype;
use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

/// The type of the scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    F32,
    F16,
    Bf16,
    E4m3,
    /// `2^(bits - 127)`; 255 is NaN (OCP MX).
    PowerOfTwo,
}

impl Scale {
    /// What types scales of any code have.
    pub const TYPES: &'static str = "F32, F16, BF16, F8_E8M0 or U8";

    /// The type that a tensor of scales has.
    pub fn of_tensor(info: &TensorInfo) -> Result<Self, LeafProblem> {
        Self::of(info.dtype).ok_or_else(|| mistyped(info, Self::TYPES))
    }

    /// The same where they are floats of 16 or 32 bits.
    pub fn of_floats(info: &TensorInfo) -> Result<Self, LeafProblem> {
        match Self::of(info.dtype) {
            Some(scale @ (Self::F32 | Self::F16 | Self::Bf16)) => Ok(scale),
            _ => Err(mistyped(info, "F32, F16 or BF16")),
        }
    }

    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::Bf16 => Some(Self::Bf16),
            Dtype::F8E4M3 => Some(Self::E4m3),
            Dtype::F8E8M0 | Dtype::U8 => Some(Self::PowerOfTwo),
            _ => None,
        }
    }

    /// Bytes of a scale.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::E4m3 | Self::PowerOfTwo => 1,
        }
    }

    /// The scale at a place of a row of them.
    #[inline(always)]
    pub fn at(self, row: &[u8], at: usize) -> f32 {
        match self {
            Self::F32 => f32::from_le_bytes(element(row, at)),
            Self::F16 => half(u16::from_le_bytes(element(row, at))),
            Self::Bf16 => bf16(element(row, at)),
            Self::E4m3 => e4m3(row[at]),
            Self::PowerOfTwo => power_of_two(row[at]),
        }
    }

    /// The first scales of a row, as many as `out` has.
    #[inline(always)]
    pub fn line(self, row: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => each(row, out, f32::from_le_bytes),
            Self::F16 => each(row, out, |bytes| half(u16::from_le_bytes(bytes))),
            Self::Bf16 => each(row, out, bf16),
            Self::E4m3 | Self::PowerOfTwo => {
                let pairs = out.iter_mut().enumerate();
                pairs.for_each(|(at, out)| *out = self.at(row, at));
            }
        }
    }
}

/// The upper half of an `f32`.
#[inline(always)]
fn bf16([low, high]: [u8; 2]) -> f32 {
    f32::from_le_bytes([0, 0, low, high])
}

#[inline(always)]
fn power_of_two(bits: u8) -> f32 {
    match bits {
        255 => f32::NAN,
        // 2^-127 is subnormal.
        0 => f32::from_bits(1 << 22),
        bits => f32::from_bits(u32::from(bits) << 23),
    }
}

#[inline(always)]
fn each<const N: usize>(row: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    let pairs = out.iter_mut().zip(row.as_chunks().0);
    pairs.for_each(|(out, bytes)| *out = number(*bytes));
}

#[inline(always)]
fn element<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    row.as_chunks().0[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_widened_first() {
        let one = 1.5_f32.to_le_bytes();
        assert_eq!(Scale::F32.at(&[[0; 4], one].concat(), 1), 1.5);
        assert_eq!(Scale::Bf16.at(&one[2..], 0), 1.5);
        let powers: Vec<f32> = (0..3)
            .map(|at| Scale::PowerOfTwo.at(&[127, 130, 0], at))
            .collect();
        assert_eq!(powers, [1.0, 8.0, 2.0_f32.powi(-127)]);
        assert!(Scale::PowerOfTwo.at(&[255], 0).is_nan());
        let mut line = [0.0; 2];
        Scale::E4m3.line(&[0x38, 0x7e], &mut line);
        assert_eq!(line, [1.0, 448.0]);
    }
}

//! Small weights to the numbers of the program: `f32`, `i64`.

use half::{bf16, f16};

use crate::dtype::Dtype;

/// Why a conversion is not possible.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoConversion {
    /// Not for this dtype.
    Dtype,
    /// Not for this value.
    Value(String),
}

/// Little-endian elements to `f32`. Floats of 64 bits are rounded; whole numbers must be exact.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, NoConversion> {
    match dtype {
        Dtype::F64 => each(bytes, |b| Ok(f64::from_le_bytes(b) as f32)),
        Dtype::F32 => each(bytes, |b| Ok(f32::from_le_bytes(b))),
        Dtype::F16 => each(bytes, |b| Ok(f16::from_le_bytes(b).to_f32())),
        Dtype::Bf16 => each(bytes, |b| Ok(bf16::from_le_bytes(b).to_f32())),
        Dtype::F8E4M3 => each(bytes, |[b]: [u8; 1]| Ok(float8(b, 4, 7, Special::NanOnly))),
        Dtype::F8E5M2 => each(bytes, |[b]: [u8; 1]| Ok(float8(b, 5, 15, Special::Ieee))),
        Dtype::F8E4M3Fnuz => each(bytes, |[b]: [u8; 1]| Ok(float8(b, 4, 8, Special::Fnuz))),
        Dtype::F8E5M2Fnuz => each(bytes, |[b]: [u8; 1]| Ok(float8(b, 5, 16, Special::Fnuz))),
        Dtype::F8E8M0 => each(bytes, |[b]: [u8; 1]| Ok(power_of_two(b))),
        _ => to_i64(dtype, bytes)?.into_iter().map(exact_f32).collect(),
    }
}

/// Little-endian whole numbers and truth values to `i64`.
pub(crate) fn to_i64(dtype: Dtype, bytes: &[u8]) -> Result<Vec<i64>, NoConversion> {
    match dtype {
        Dtype::Bool | Dtype::U8 => each(bytes, |[b]: [u8; 1]| Ok(i64::from(b))),
        Dtype::I8 => each(bytes, |b| Ok(i64::from(i8::from_le_bytes(b)))),
        Dtype::I16 => each(bytes, |b| Ok(i64::from(i16::from_le_bytes(b)))),
        Dtype::U16 => each(bytes, |b| Ok(i64::from(u16::from_le_bytes(b)))),
        Dtype::I32 => each(bytes, |b| Ok(i64::from(i32::from_le_bytes(b)))),
        Dtype::U32 => each(bytes, |b| Ok(i64::from(u32::from_le_bytes(b)))),
        Dtype::I64 => each(bytes, |b| Ok(i64::from_le_bytes(b))),
        Dtype::U64 => each(bytes, |b| {
            let value = u64::from_le_bytes(b);
            i64::try_from(value).map_err(|_| NoConversion::Value(value.to_string()))
        }),
        _ => Err(NoConversion::Dtype),
    }
}

fn each<const N: usize, T>(
    bytes: &[u8],
    convert: impl Fn([u8; N]) -> Result<T, NoConversion>,
) -> Result<Vec<T>, NoConversion> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|chunk| convert(*chunk))
        .collect()
}

fn exact_f32(value: i64) -> Result<f32, NoConversion> {
    let rounded = value as f32;
    if i128::from(value) == rounded as i128 {
        return Ok(rounded);
    }
    Err(NoConversion::Value(value.to_string()))
}

/// What the extreme bit patterns of an 8-bit float mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    /// The largest exponent holds infinities and NaN.
    Ieee,
    /// Only all ones is NaN (`fn`).
    NanOnly,
    /// Only negative zero is NaN (`fnuz`).
    Fnuz,
}

/// An 8-bit float with this many exponent bits (Micikevicius et al. 2022).
fn float8(bits: u8, exponent_bits: u32, bias: i32, special: Special) -> f32 {
    let mantissa_bits = 7 - exponent_bits;
    let mantissa = u32::from(bits) & ((1 << mantissa_bits) - 1);
    let exponent = (u32::from(bits) & 0x7f) >> mantissa_bits;
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let largest = exponent == (1 << exponent_bits) - 1;
    let nan = match special {
        Special::Ieee => largest && mantissa != 0,
        Special::NanOnly => bits & 0x7f == 0x7f,
        Special::Fnuz => bits == 0x80,
    };
    if nan {
        return f32::NAN;
    }
    if special == Special::Ieee && largest {
        return sign * f32::INFINITY;
    }
    let scale = |exponent: i32| f32::from_bits(((exponent + 127) as u32) << 23);
    let fraction = mantissa as f32 * scale(-(mantissa_bits as i32));
    match exponent {
        0 => sign * fraction * scale(1 - bias),
        _ => sign * (1.0 + fraction) * scale(exponent as i32 - bias),
    }
}

/// `2^(bits - 127)`; 255 is NaN (OCP MX).
fn power_of_two(bits: u8) -> f32 {
    match bits {
        255 => f32::NAN,
        // 2^-127 is subnormal in f32.
        0 => f32::from_bits(1 << 22),
        _ => f32::from_bits(u32::from(bits) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_their_published_extremes() {
        let e4m3 = |bits| float8(bits, 4, 7, Special::NanOnly);
        assert_eq!(
            (e4m3(0x7e), e4m3(0x08), e4m3(0x01)),
            (448.0, 0.015_625, 0.001_953_125)
        );
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        let e5m2 = |bits| float8(bits, 5, 15, Special::Ieee);
        assert_eq!(
            (e5m2(0x7b), e5m2(0xfc), e5m2(0x3c)),
            (57344.0, f32::NEG_INFINITY, 1.0)
        );
        assert!(e5m2(0x7d).is_nan());
        let fnuz = |bits| float8(bits, 4, 8, Special::Fnuz);
        assert_eq!((fnuz(0x7f), fnuz(0x40)), (240.0, 1.0));
        assert!(fnuz(0x80).is_nan());
        assert_eq!(
            (power_of_two(127), power_of_two(0)),
            (1.0, 2.0_f32.powi(-127))
        );
    }

    #[test]
    fn whole_numbers_must_be_exact() {
        let ok = to_f32(Dtype::I32, &16_777_216_i32.to_le_bytes());
        assert_eq!(ok, Ok(vec![16_777_216.0]));
        let inexact = to_f32(Dtype::I64, &16_777_217_i64.to_le_bytes());
        assert_eq!(inexact, Err(NoConversion::Value("16777217".to_owned())));
        let largest = to_f32(Dtype::I64, &i64::MAX.to_le_bytes());
        assert!(largest.is_err());
        assert!(to_i64(Dtype::U64, &u64::MAX.to_le_bytes()).is_err());
        assert_eq!(to_i64(Dtype::F32, &[0; 4]), Err(NoConversion::Dtype));
    }
}

//! Small numbers by their bits.

use std::sync::LazyLock;

/// Every number of 8 bits by its bits.
pub(super) type Table = [f32; 256];

/// `float8_e4m3fn`.
pub(super) static E4M3: LazyLock<Table> = LazyLock::new(|| of_bits(e4m3));
/// `float8_e5m2`.
pub(super) static E5M2: LazyLock<Table> = LazyLock::new(|| of_bits(e5m2));
/// Two's complement.
pub(super) static INT8: LazyLock<Table> = LazyLock::new(|| of_bits(|bits| f32::from(bits as i8)));

fn of_bits(number: impl Fn(u8) -> f32) -> Table {
    std::array::from_fn(|bits| number(bits as u8))
}

/// A float of 4 exponent and 3 mantissa bits without infinities (Micikevicius et al. 2022, `float8_e4m3fn`).
fn e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2.0_f32.powi(-9),
        _ => (8.0 + mantissa) * 2.0_f32.powi(exponent - 10),
    };
    signed(bits, magnitude)
}

/// A float of 5 exponent and 2 mantissa bits: the upper half of an IEEE half (Micikevicius et al. 2022).
fn e5m2(bits: u8) -> f32 {
    half::f16::from_bits(u16::from(bits) << 8).to_f32()
}

/// A float of 2 exponent bits and 1 mantissa bit, in the low half of a byte (OCP MX, E2M1).
pub(super) const fn e2m1(bits: u8) -> f32 {
    let magnitude = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][(bits & 7) as usize];
    if bits & 8 == 0 { magnitude } else { -magnitude }
}

fn signed(bits: u8, magnitude: f32) -> f32 {
    if bits & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_have_their_published_extremes() {
        let found = [0x7e, 0x08, 0x01, 0xfe, 0x38, 0x80].map(e4m3);
        assert_eq!(found, [448.0, 0.015_625, 0.001_953_125, -448.0, 1.0, 0.0]);
        assert!((0..=255_u8).filter(|bits| e4m3(*bits).is_nan()).count() == 2);
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        let found = [0x7b, 0x04, 0x01, 0xfb, 0x3c, 0x7c].map(e5m2);
        let smallest = [2.0_f32.powi(-14), 2.0_f32.powi(-16)];
        let wanted = [
            57_344.0,
            smallest[0],
            smallest[1],
            -57_344.0,
            1.0,
            f32::INFINITY,
        ];
        assert_eq!(found, wanted);
        assert_eq!([7, 15, 1, 9].map(e2m1), [6.0, -6.0, 0.5, -0.5]);
        assert_eq!(
            [0x7f, 0x80].map(|bits: u8| INT8[usize::from(bits)]),
            [127.0, -128.0]
        );
    }
}

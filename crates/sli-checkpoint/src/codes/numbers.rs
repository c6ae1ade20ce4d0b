//! Small numbers by their bits.

/// A float of 16 bits (IEEE 754 `binary16`). Without branches, so that loops over it become vectors.
#[inline(always)]
pub(super) fn half(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let chosen = match magnitude {
        0..0x400 => (magnitude as f32 * 2.0_f32.powi(-24)).to_bits(),
        0x7c00.. => magnitude << 13 | 0x7f80_0000,
        _ => (magnitude << 13) + (112 << 23),
    };
    f32::from_bits(chosen | u32::from(bits & 0x8000) << 16)
}

/// A float of 4 exponent and 3 mantissa bits without infinities (Micikevicius et al. 2022, `float8_e4m3fn`).
#[inline(always)]
pub(super) fn e4m3(bits: u8) -> f32 {
    let magnitude = u32::from(bits & 0x7f);
    let chosen = match magnitude {
        // Without the one in front of the mantissa.
        0..8 => (f32::from_bits((magnitude << 20) + (121 << 23)) - 2.0_f32.powi(-6)).to_bits(),
        0x7f => 0x7fc0_0000,
        _ => (magnitude << 20) + (120 << 23),
    };
    f32::from_bits(chosen | u32::from(bits & 0x80) << 24)
}

/// A float of 5 exponent and 2 mantissa bits: the upper half of an IEEE half (Micikevicius et al. 2022).
#[inline(always)]
pub(super) fn e5m2(bits: u8) -> f32 {
    half(u16::from(bits) << 8)
}

/// Two's complement.
#[inline(always)]
pub(super) fn int8(bits: u8) -> f32 {
    f32::from(bits as i8)
}

/// The floats of 2 exponent bits and 1 mantissa bit (OCP MX, E2M1), by their bits.
pub(super) const E2M1: [f32; 16] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_have_their_published_extremes() {
        let found = [0x7e, 0x08, 0x01, 0xfe, 0x38, 0x80].map(e4m3);
        assert_eq!(found, [448.0, 0.015_625, 0.001_953_125, -448.0, 1.0, 0.0]);
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
        assert_eq!([7, 15, 1, 9].map(|bits| E2M1[bits]), [6.0, -6.0, 0.5, -0.5]);
        assert_eq!([0x7f, 0x80].map(int8), [127.0, -128.0]);
    }

    #[test]
    fn every_small_float_is_its_formula() {
        for bits in 0..=255_u8 {
            let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
            let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
            let wanted = match (exponent, bits & 7) {
                (15, 7) => f32::NAN,
                (0, _) => mantissa * 2.0_f32.powi(-9),
                _ => (8.0 + mantissa) * 2.0_f32.powi(exponent - 10),
            };
            let found = e4m3(bits);
            assert!(
                found.is_nan() && wanted.is_nan() || found.to_bits() == (sign * wanted).to_bits(),
                "{bits}"
            );
        }
        for bits in 0..=u16::MAX {
            let (found, wanted) = (half(bits), half::f16::from_bits(bits).to_f32());
            assert!(
                found.is_nan() && wanted.is_nan() || found.to_bits() == wanted.to_bits(),
                "{bits}"
            );
        }
    }
}

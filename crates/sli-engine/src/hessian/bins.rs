//! Sums of numbers whose bits do not depend on the order in which they were added, 16 bytes each.
//!
//! An *addend* is cut on a grid of absolute powers of two into two whole numbers: how many units of 2^28k, and of the rest how many
//! of 2^28(k-1); what is below that is dropped. Both are added up in f64, exactly, as long as there are at most
//! [`MOST`] addends. k follows from a bound on all addends: where the bound grows, the upper sum becomes the lower one, and nothing of
//! the addends before is lost that would have counted from the beginning on. So the sums are those of one bound, the last one, whichever
//! addends came first (after Demmel and Nguyen, "Parallel Reproducible Summation", 2015).
//!
//! Here an addend is an element `x_i . x_j` of a product of a matrix with itself, and what bounds it is an exponent for each
//! of its two columns: `|x_i . x_j| <= |x_i| |x_j|`. What is dropped of an addend is less than 2^-28 of the product of the largest norms that
//! both columns had.

/// Bits from one unit to the next.
const WIDTH: i32 = 28;

/// Addends whose sums are exact.
pub(super) const MOST: u64 = 1 << (53 - (WIDTH - 1));

/// The exponent of a column that had nothing but zeros, and the least of all: squares vanish below it.
pub(super) const LEAST: i16 = -138;

/// The largest exponent that sums in f32 have room for.
pub(super) const LARGEST: i16 = 128;

/// The exponent of a column whose squares have this sum: the least `a` with `sum < 2^a`.
pub(super) fn exponent(squares: f64) -> i16 {
    if squares <= 0.0 {
        return LEAST;
    }
    let biased = (squares.to_bits() >> 52) as i16 & 0x7ff;
    (biased - 1022).max(LEAST)
}

/// The k of two columns.
pub(super) fn bin(a: i16, b: i16) -> i32 {
    // Twice as much as the bound says, since products are rounded.
    let bound = ((i32::from(a) + i32::from(b) + 1) >> 1) + 1;
    bound.div_euclid(WIDTH)
}

/// `2^-28k`.
pub(super) fn scale(bin: i32) -> f64 {
    f64::from_bits(((1023 - WIDTH * bin) as u64) << 52)
}

/// Adds an addend, times [`scale`], to both sums.
#[inline(always)]
pub(super) fn add(scaled: f64, upper: &mut f64, lower: &mut f64) {
    /// Adding and subtracting it rounds to a whole number.
    const WHOLE: f64 = 1.5 * (1_u64 << 52) as f64;
    const STEP: f64 = (1_u64 << WIDTH) as f64;
    let whole = (scaled + WHOLE) - WHOLE;
    *upper += whole;
    *lower += ((scaled - whole) * STEP + WHOLE) - WHOLE;
}

/// The sums of one k as those of a larger one.
pub(super) fn raise(from: i32, to: i32, upper: &mut f64, lower: &mut f64) {
    match to - from {
        0 => {}
        1 => (*upper, *lower) = (0.0, *upper),
        _ => (*upper, *lower) = (0.0, 0.0),
    }
}

/// What was added up.
pub(super) fn value(bin: i32, upper: f64, lower: f64) -> f64 {
    (upper + lower * scale(1)) / scale(bin)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sums of addends that come with the exponent of a bound each.
    fn sum(addends: &[(i16, f32)]) -> (i32, f64, f64) {
        let (mut known, mut upper, mut lower) = (LEAST, 0.0, 0.0);
        for &(exponent, addend) in addends {
            let (old, new) = (
                bin(known, known),
                bin(known.max(exponent), known.max(exponent)),
            );
            raise(old, new, &mut upper, &mut lower);
            known = known.max(exponent);
            add(f64::from(addend) * scale(new), &mut upper, &mut lower);
        }
        (bin(known, known), upper, lower)
    }

    #[test]
    fn exponents_bound_squares() {
        assert_eq!(exponent(0.0), LEAST);
        assert_eq!(exponent(1.0), 1);
        assert_eq!(exponent(0.99), 0);
        assert_eq!(exponent(4.0), 3);
        assert_eq!(exponent(1e-300), LEAST);
        assert!(exponent(f64::from(f32::MAX)) <= LARGEST && exponent(1e39) > LARGEST);
    }

    #[test]
    fn what_is_dropped_is_little() {
        let addends: Vec<(i16, f32)> = (1..2000_u16)
            .map(|n| (4, (f32::from(n) * 0.731).sin() * 7.0))
            .collect();
        let exact: f64 = addends.iter().map(|(_, addend)| f64::from(*addend)).sum();
        let (bin, upper, lower) = sum(&addends);
        assert!((value(bin, upper, lower) - exact).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn no_order_shows(
            addends in proptest::collection::vec((-130..125_i16, -0.999..0.999_f32), 1..40),
            seed in any::<u64>(),
        ) {
            // Within the bound of its exponent.
            let addends: Vec<(i16, f32)> = addends
                .into_iter()
                .map(|(exponent, share)| (exponent, share * 2_f32.powi(i32::from(exponent))))
                .collect();
            let mut other = addends.clone();
            for index in (1..other.len()).rev() {
                other.swap(index, (seed.wrapping_mul(index as u64 * 2 + 1) >> 33) as usize % (index + 1));
            }
            let (one, other) = (sum(&addends), sum(&other));
            prop_assert_eq!(one.0, other.0);
            prop_assert_eq!(one.1.to_bits(), other.1.to_bits());
            prop_assert_eq!(one.2.to_bits(), other.2.to_bits());
        }
    }
}

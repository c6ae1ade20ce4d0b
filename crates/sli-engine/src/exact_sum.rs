//! Sums of 32-bit floats without rounding: the same for any order.

/// The bits of a sum, in 64-bit digits from the lowest: 2^-149 up to 2^128, and 2^64 of them.
const DIGITS: usize = 6;

/// The exact sum of finite values, and what became of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ExactSum {
    /// In units of 2^-149, the complement of two.
    digits: [u64; DIGITS],
    /// The sum of values that are not finite: zero, infinite or not a number.
    beyond: f64,
}

impl ExactSum {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = (DIGITS + 1) * 8;

    /// Adds a value.
    pub fn add(&mut self, value: f32) {
        if !value.is_finite() {
            self.beyond += f64::from(value);
            return;
        }
        let bits = value.to_bits();
        let exponent = bits >> 23 & 0xff;
        let fraction = u128::from(bits & 0x7f_ffff | u32::from(exponent > 0) << 23);
        let shift = exponent.saturating_sub(1);
        let (place, wide) = ((shift / 64) as usize, fraction << (shift % 64));
        if !value.is_sign_negative() {
            self.add_at(place, wide);
            return;
        }
        let mut own = [0; DIGITS];
        for (digit, value) in own
            .iter_mut()
            .skip(place)
            .zip([wide as u64, (wide >> 64) as u64])
        {
            *digit = value;
        }
        self.add_digits(&negated(own));
    }

    /// Adds a number of which `rest` is the digits from a place on, up to where nothing is carried any more.
    fn add_at(&mut self, place: usize, mut rest: u128) {
        for digit in self.digits.iter_mut().skip(place) {
            if rest == 0 {
                return;
            }
            let sum = u128::from(*digit) + u128::from(rest as u64);
            *digit = sum as u64;
            rest = (rest >> 64) + (sum >> 64);
        }
    }

    /// Adds another sum.
    pub fn add_sum(&mut self, other: &Self) {
        self.add_digits(&other.digits);
        self.beyond += other.beyond;
    }

    fn add_digits(&mut self, other: &[u64; DIGITS]) {
        let mut carry = false;
        for (digit, &more) in self.digits.iter_mut().zip(other) {
            let (sum, over) = digit.overflowing_add(more);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            *digit = sum;
            carry = over || again;
        }
    }

    /// The sum, rounded once.
    pub fn value(&self) -> f64 {
        if self.beyond != 0.0 {
            // Which of several it is must not show.
            return if self.beyond.is_nan() {
                f64::NAN
            } else {
                self.beyond
            };
        }
        let is_negative = self.digits[DIGITS - 1] >> 63 == 1;
        let size = if is_negative {
            negated(self.digits)
        } else {
            self.digits
        };
        let Some(top) = size.iter().rposition(|&digit| digit != 0) else {
            return 0.0;
        };
        let below = if top > 0 { size[top - 1] } else { 0 };
        let wide = u128::from(size[top]) << 64 | u128::from(below);
        let zeros = wide.leading_zeros();
        let wide = wide << zeros;
        let rest = wide as u64 != 0
            || size[..top.saturating_sub(1)]
                .iter()
                .any(|&digit| digit != 0);
        // What is below 64 bits decides only where it is more than nothing.
        let leading = (wide >> 64) as u64 | u64::from(rest);
        let exponent = 64 * top as i32 - zeros as i32 - 149;
        let value = leading as f64 * 2_f64.powi(exponent);
        if is_negative { -value } else { value }
    }

    /// For a checkpoint.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = self.digits.into_iter().chain([self.beyond.to_bits()]);
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    /// Of what [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut sum = Self::default();
        let words = bytes.as_chunks().0;
        for (digit, word) in sum.digits.iter_mut().zip(words) {
            *digit = u64::from_le_bytes(*word);
        }
        let beyond = words.get(DIGITS).copied().map_or(0, u64::from_le_bytes);
        sum.beyond = f64::from_bits(beyond);
        sum
    }
}

/// The number with the other sign.
fn negated(digits: [u64; DIGITS]) -> [u64; DIGITS] {
    let mut carry = true;
    digits.map(|digit| {
        let (value, over) = (!digit).overflowing_add(u64::from(carry));
        carry = over;
        value
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f32]) -> ExactSum {
        let mut sum = ExactSum::default();
        for &value in values {
            sum.add(value);
        }
        sum
    }

    #[test]
    fn nothing_is_rounded_but_the_end() {
        assert_eq!(of(&[]).value(), 0.0);
        assert_eq!(of(&[1e30, 1.0, -1e30]).value(), 1.0);
        assert_eq!(of(&[f32::MAX, f32::MAX]).value(), 2.0 * f64::from(f32::MAX));
        assert_eq!(of(&[f32::MIN; 3]).value(), 3.0 * f64::from(f32::MIN));
        let tiny = f32::from_bits(1);
        assert_eq!(of(&[tiny, tiny, -1.0, 1.0]).value(), 2.0 * f64::from(tiny));
        // A half, and a bit far below that decides to which side it goes.
        let half = 2_f32.powi(-53);
        assert_eq!(of(&[1.0, half]).value(), 1.0);
        assert_eq!(of(&[1.0, half, tiny]).value(), 1.0 + f64::EPSILON);
        assert_eq!(of(&[-1.0, -half, -tiny]).value(), -1.0 - f64::EPSILON);
    }

    #[test]
    fn what_is_not_finite_stays_so_in_any_order() {
        let (up, down) = (f32::INFINITY, f32::NEG_INFINITY);
        assert_eq!(of(&[1.0, up, -1e30]).value(), f64::INFINITY);
        for values in [[up, down, 1.0], [1.0, down, up], [f32::NAN, up, 2.0]] {
            assert_eq!(of(&values).value().to_bits(), f64::NAN.to_bits());
        }
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_count(
            values in proptest::collection::vec(any::<f32>(), 0..40),
            by in 0..40_usize,
        ) {
            let whole = of(&values);
            let mut parts = of(&values[by.min(values.len())..]);
            parts = ExactSum::from_bytes(&parts.to_bytes());
            parts.add_sum(&of(&values[..by.min(values.len())]));
            prop_assert_eq!(whole.value().to_bits(), parts.value().to_bits());
        }

        /// Integers of few bits are summed without rounding in f64 too.
        #[test]
        fn agrees_with_sums_that_need_no_rounding(
            values in proptest::collection::vec(-1_000_000..1_000_000_i32, 0..60),
        ) {
            let values: Vec<f32> = values.iter().map(|&value| value as f32 / 64.0).collect();
            let expected: f64 = values.iter().map(|&value| f64::from(value)).sum();
            prop_assert_eq!(of(&values).value(), expected);
        }
    }
}
